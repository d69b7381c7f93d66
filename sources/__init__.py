"""Sources: protocols that bring a log in, without algorithms."""
