"""Dataflows: one file per flow, each a picture of it, and what they share."""
