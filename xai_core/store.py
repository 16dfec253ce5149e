"""Where a run keeps its outcomes: one part file a chunk, whole or absent, so that a run can resume.

A part is written under another name and then moved into place: a run that is killed leaves whole
parts and at most one ``.tmp`` file, which nobody reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from xai_core.errors import BadInput
from xai_core.files import write_atomically
from xai_core.types import NoRecord, Outcome, Record

PARTS = "parts"
"""Folder of the part files within that of the run."""


class Store:
    """The parts of one run.

    Args:
        folder: of the part files; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, key: str, outcomes: Iterable[Outcome]) -> None:
        """Keep the outcomes of the chunk with this key; floats are written exactly."""
        lines = [json.dumps(_to_json(outcome), allow_nan=False) for outcome in outcomes]
        write_atomically(self._path(key), ("\n".join(lines) + "\n").encode())

    def read(self, key: str) -> list[Outcome] | None:
        """The outcomes of the chunk with this key; None if they are not there whole."""
        path = self._path(key)
        try:
            lines = path.read_text("utf-8").splitlines()
            return [_from_json(json.loads(line)) for line in lines] or None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, BadInput):
            return None

    def all(self) -> list[Outcome]:
        """The outcomes of all parts, the newest last; damaged parts are left out."""
        outcomes: list[Outcome] = []
        for path in sorted(self.folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns):
            outcomes += self.read(path.stem) or []
        return outcomes

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.jsonl"


def sorted_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """The records among outcomes, each cell once (the last counts), in a fixed order."""
    found = {outcome.cell: outcome for outcome in outcomes}
    return sorted(
        (outcome for outcome in found.values() if isinstance(outcome, Record)),
        key=lambda record: record.cell,
    )


def _to_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Record):
        return {"record": outcome.row()}
    return {"no_record": asdict(outcome)}


def _from_json(line: Mapping[str, Any]) -> Outcome:
    if "no_record" in line:
        return NoRecord(**line["no_record"])
    return record_from_row(line["record"])


def record_line(record: Record) -> str:
    """A record as one line of JSON; `record_from_row` gives it back exactly."""
    return json.dumps(record.row(), allow_nan=False)


_FIELDS = {field.name for field in fields(Record)} - {"metrics"}
_REQUIRED = {field.name for field in fields(Record) if field.default is MISSING} - {"metrics"}


def record_from_row(row: Mapping[str, Any]) -> Record:
    """The inverse of `Record.row`: columns that are no field are metrics.

    Raises:
        BadInput: a column is missing.
    """
    missing = _REQUIRED - row.keys()
    if missing:
        raise BadInput(f"a record has no column {sorted(missing)[0]}")
    known = {name: row[name] for name in _FIELDS if name in row}
    return Record(**known, metrics={n: v for n, v in row.items() if n not in _FIELDS})
