"""Sinks: results and how far they reach, written in one transaction."""
