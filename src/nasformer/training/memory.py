"""Keep freed memory in the process: on Linux this makes a training step on a CPU faster and steadier.

By default glibc gives large freed blocks back to the system, which then has to clear and map new pages at every step.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; True where that was possible (glibc), and harmless elsewhere."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
    return all(library.mallopt(name, value) for name, value in settings)
