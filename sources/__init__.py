"""Sources: protocols that bring a log in, without algorithms."""

import schemas  # noqa: F401  # sets where compiled kernels are kept
