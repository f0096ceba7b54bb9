"""Memory that this process has freed, but that the C library keeps for later.

Threads of glibc allocate from arenas of their own. After an alignment on several threads, these keep up to a gigabyte
that other threads cannot use.
"""

import ctypes
import sys


def return_freed_memory() -> None:
    """Return freed memory to the system, where the C library is glibc; elsewhere, do nothing."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
