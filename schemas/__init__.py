"""Schemas: messages, tables, and the column codecs for them."""
