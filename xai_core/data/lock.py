"""One download at a time into a folder; who waits learns for whom, and not for ever."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from xai_core.data.site import Patience
from xai_core.errors import DataMissing

LOCK, OWNER = ".download.lock", ".download.owner"


@contextmanager
def alone(folder: Path, patience: Patience, say: Callable[[str], object]) -> Iterator[None]:
    """Hold the folder's lock.

    Args:
        folder: of the download.
        patience: of a download; one that is stuck gives up by itself within its attempts, and an
            owner under which nothing changes for longer is stopped or hangs.
        say: is told who is waited for.

    Raises:
        DataMissing: the owner makes no progress.
        OSError: the lock can't be written.
    """
    lock, owner = FileLock(folder / LOCK), folder / OWNER
    most = patience.timeout * (patience.attempts + 1)
    since, before, said = time.monotonic(), _state(folder), False
    while True:
        try:
            lock.acquire(timeout=min(1.0, most / 4))
            break
        except Timeout:
            now = time.monotonic()
            if (state := _state(folder)) != before:
                since, before = now, state
            if not said:
                say(f"{folder} is being downloaded to by {_holder(owner)}, which is waited for")
                said = True
            if now - since > most:
                raise DataMissing(
                    f"{folder} is locked by {_holder(owner)}, under which nothing has changed for "
                    f"{most:.0f} seconds: end it, and start again"
                ) from None
    try:
        with suppress(OSError):  # it is for others only
            owner.write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def _holder(owner: Path) -> str:
    with suppress(OSError):
        if text := owner.read_text("utf-8", errors="replace")[:200]:
            return text
    return "another process"


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of what is being written."""
    found = []
    for path in folder.glob("annotations/*"):
        with suppress(OSError):
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return sorted(found)
