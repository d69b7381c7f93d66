"""What waxctl wants to be given: a file. The image's script runs FLOW, and does not look at it."""
