"""Memory that stays with the process between passes, for processes that explain many images."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have glibc reuse freed memory instead of giving it back to the system.

    By default every tensor above 32 MiB is mapped anew each time, and its pages are zeroed by the
    system when they are first touched: for large images that costs as much as some of the
    convolutions. This holds for the whole process and can't be undone, so it is for programs to
    call, not for libraries.

    Returns:
        Whether it was done; False where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
