"""Files of others: only ordinary ones, and none larger than what is expected, are read."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read(path: Path, most: int) -> bytes:
    """The content of a file; links are followed.

    Args:
        path: of the file.
        most: bytes that it may have. A device or a pipe, which may never end, is not opened.

    Raises:
        OSError: see `check`.
    """
    check(path, most)
    return path.read_bytes()


def check(path: Path, most: int) -> os.stat_result:
    """The state of a file that may be read.

    Raises:
        OSError: it can't be read, is no ordinary file or is larger; ``strerror`` says which.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise OSError(0, f"it is {kind}, not a file")
    if status.st_size > most:
        raise OSError(0, f"it has {status.st_size:,} bytes, more than {most:,}")
    return status
