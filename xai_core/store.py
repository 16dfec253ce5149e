"""Where a run keeps its outcomes: one part file a chunk, whole or absent, so that a run can resume.

A part is written under another name and then moved into place: a run that is killed leaves whole
parts and at most one ``.tmp`` file, which nobody reads. Its first line says which part it is, which
session of the run it counts for, and the number and SHA-256 of the lines below: where a bit has
changed, there is no part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xai_core.errors import BadInput
from xai_core.files import write_atomically
from xai_core.records import outcome_from_line, outcome_line
from xai_core.types import Outcome

FIRST_LINE = 1000
"""Bytes that the first line of a part has at most."""

PARTS = "parts"
"""Folder of the part files within that of the run."""


@dataclass(frozen=True)
class Contents:
    """What the parts of a run hold.

    Attributes:
        outcomes: in the order in which they count: of one cell the last does.
        session: the latest session that a part counts for; 0 without a part.
        damaged: names of the files that hold no whole part; they are left out.
    """

    outcomes: tuple[Outcome, ...]
    session: int
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    session: int
    outcomes: tuple[Outcome, ...]


class Store:
    """The parts of one run.

    Args:
        folder: of the part files; made when the first is written.
        session: 1 for the run's first, one more each time that it is resumed. Where two parts have
            a cell, as after an image was replaced, that of the later session counts, whatever the
            clock says.
    """

    def __init__(self, folder: Path, session: int = 1) -> None:
        self.folder = folder
        self.session = session

    def write(self, key: str, outcomes: Iterable[Outcome]) -> None:
        """Keep the outcomes of the chunk with this key; floats are written exactly."""
        body = [outcome_line(outcome) for outcome in outcomes]
        write_atomically(self._path(key), _sealed(key, self.session, body))

    def read(self, key: str) -> list[Outcome] | None:
        """The outcomes of the chunk with this key; None if they are not there whole.

        From now on they count for this session.
        """
        part = _read(self._path(key))
        if part is None:
            return None
        if part.session != self.session:
            self.write(key, part.outcomes)
        return list(part.outcomes)

    def latest(self) -> int:
        """The latest session that a part claims to count for, by its first line; 0 without one."""
        return max((_claimed(path) for path in self.folder.glob("*.jsonl")), default=0)

    def contents(self) -> Contents:
        """All outcomes of all parts."""
        paths = sorted(self.folder.glob("*.jsonl"))
        parts = [(path, _read(path)) for path in paths]
        whole = sorted(
            (part for _, part in parts if part is not None), key=lambda part: part.session
        )  # stable: of one session by name
        return Contents(
            outcomes=tuple(outcome for part in whole for outcome in part.outcomes),
            session=max((part.session for part in whole), default=0),
            damaged=tuple(path.name for path, part in parts if part is None),
        )

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"


def _sealed(key: str, session: int, body: list[str]) -> bytes:
    """The content of a part: these lines below one that vouches for them."""
    facts = {"part": key, "session": session, "outcomes": len(body)}
    text = "".join(f"{line}\n" for line in body)
    sha256 = hashlib.sha256(f"{json.dumps(facts)}\n{text}".encode()).hexdigest()
    return f"{json.dumps({**facts, 'sha256': sha256})}\n{text}".encode()


def _claimed(path: Path) -> int:
    try:
        if not path.is_file():  # a pipe would never end
            return 0
        with path.open("rb") as file:
            return int(json.loads(file.readline(FIRST_LINE))["session"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError, OverflowError):
        return 0


def _read(path: Path) -> _Part | None:
    """A part if it is, byte for byte, what was written under this name."""
    try:
        content = path.read_bytes() if path.is_file() else b""
        first, *body = content.decode().removesuffix("\n").split("\n")
        session = json.loads(first)["session"]
        if content != _sealed(path.stem, int(session), body):
            return None
        outcomes = tuple(outcome_from_line(line) for line in body)
    except (OSError, ValueError, TypeError, LookupError, RecursionError, BadInput):
        return None
    cells = {outcome.cell for outcome in outcomes}
    return _Part(session, outcomes) if 0 < len(cells) == len(outcomes) else None
