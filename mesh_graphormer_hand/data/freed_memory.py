"""Freed memory is kept for the next step.

The C library gives every block above 32 MiB back to the system when it is freed, and takes it again, page by page, at
the next layer: a quarter of a training step's time on a CPU.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MMAP_THRESHOLD_BYTES = 2**30  # bytes; a block of this size still goes back


def keep_freed_memory() -> bool:
    """Set the C library's allocator to keep freed memory; returns False where it has no such setting (not glibc)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) and mallopt(M_TRIM_THRESHOLD, MMAP_THRESHOLD_BYTES))
