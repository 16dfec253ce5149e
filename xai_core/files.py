"""Files that are whole or absent, their names, and text that shows itself."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

LONGEST_NAME = 120
"""Characters of a file's name, before its ending."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers find the old one, or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_name(name: str) -> str:
    """A name as that of a file in its folder: never a path, nor longer than a file system takes.

    What may mean something to a file system is written as ``%2F``; ids of samples and the usual ids
    of nets stay as they are. Of a long name the end is replaced by its hash.
    """
    safe = re.sub(r"[^\w.~%-]", lambda c: "".join(f"%{byte:02X}" for byte in _bytes(c[0])), name)
    safe = re.sub(r"^\.", "%2E", safe) or "%"
    if len(safe.encode()) <= LONGEST_NAME:
        return safe
    return f"{safe[: LONGEST_NAME // 4]}%{hashlib.sha256(_bytes(name)).hexdigest()[:16]}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def printable(text: str) -> str:
    r"""The text on one line, what can't be printed as ``\n``, ``\x1b``, ``\u202e``.

    In a message or a log a line break may begin a command (``::error::``), and an escape sequence
    may hide or forge what a terminal shows. What is escaped once stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
