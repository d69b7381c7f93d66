"""Schemas: messages, tables, and the column codecs for them."""

from schemas.kernel_cache import use_kernel_cache

use_kernel_cache()
