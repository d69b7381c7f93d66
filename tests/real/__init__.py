"""Real components for tests and benchmarks, started as plain processes without containers."""
