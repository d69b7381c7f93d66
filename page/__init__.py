"""The live page: what the flows publish, pushed to browsers and programs."""
