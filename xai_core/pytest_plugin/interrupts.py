"""Ctrl-C: what of it pytest can't show, and how it waits until nothing would be lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def held() -> Iterator[None]:
    """A Ctrl-C that comes while this lasts is raised at its end, a second one at once.

    Raises:
        KeyboardInterrupt: see above.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            before(number, frame)
        came = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def has_line(entry: Any) -> bool:
    """Whether this entry of a traceback is at a line.

    Python compiles a few instructions that belong to none. pytest 9.2 can't show a traceback that
    holds one: Ctrl-C there would end in a TypeError and exit code 1.
    """
    try:
        entry.lineno  # noqa: B018
    except TypeError:
        return False
    return True
