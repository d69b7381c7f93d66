"""Tests. A package, so that `tests.real` is importable however pytest is started."""
