"""Dataflows: one file per flow, each a picture of it, and what they share."""

import gc

# Importing makes objects that stay, and a flow makes lists of thousands of messages: both wake the
# cyclic collector for nothing, which would take a fifth of the time of a start.
gc.set_threshold(100_000, 50, 100)
