"""Operators: what is computed. No Kafka, no Postgres, no clock but the one handed in."""

import schemas  # noqa: F401  # sets where compiled kernels are kept
