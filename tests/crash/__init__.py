"""Flows that are killed, cut off and doubled, and what must come of it: nothing at all."""
