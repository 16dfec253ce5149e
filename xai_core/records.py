"""Records and missing records as rows of JSON: written exactly, and checked when they are read.

The one place where what a file says becomes a record: whoever reads a part or ``records.jsonl``
gets values of the right types and within their ranges, each cell once, or one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, TypeVar

import msgspec

from xai_core.errors import BadInput
from xai_core.types import NoRecord, Outcome, Record

SHARE = "concentration"
"""The metric P, in [0, 1]; energies are 0 or more."""

HEADLINE = (SHARE, "energy", "energy_total")
"""The metrics that every record has."""

FIELDS = frozenset(field.name for field in fields(Record)) - {"metrics"}
"""Columns of a record that are no metric."""

_REQUIRED = [
    field.name for field in fields(Record) if field.default is MISSING and field.name in FIELDS
]


def sorted_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """The records among outcomes, each cell once (the last counts), in a fixed order."""
    found = {outcome.cell: outcome for outcome in outcomes}
    return sorted(
        (outcome for outcome in found.values() if isinstance(outcome, Record)),
        key=lambda record: record.cell,
    )


def record_line(record: Record) -> str:
    """A record as one line of JSON; `record_from_line` gives it back exactly."""
    return json.dumps(record.row(), allow_nan=False)


def outcome_line(outcome: Outcome) -> str:
    """An outcome as one line of JSON; `outcome_from_line` gives it back exactly."""
    kind = "record" if isinstance(outcome, Record) else "no_record"
    row = outcome.row() if isinstance(outcome, Record) else asdict(outcome)
    return json.dumps({kind: row}, allow_nan=False)


def record_from_line(line: str) -> Record:
    """The inverse of `record_line`.

    Raises:
        BadInput: it is no record; the message says in which column.
    """
    return record_from_row(_parsed(line))


def outcome_from_line(line: str) -> Outcome:
    """The inverse of `outcome_line`.

    Raises:
        BadInput: it is no outcome.
    """
    match _parsed(line):
        case {"record": row, **rest} if not rest:
            return record_from_row(row)
        case {"no_record": row, **rest} if not rest:
            return _checked(row, NoRecord)
    raise BadInput("it is neither a record nor the reason for a missing one")


def record_from_row(row: object) -> Record:
    """The inverse of `Record.row`: columns that are no field are metrics.

    Raises:
        BadInput: a column is missing, of the wrong type or out of its range.
    """
    if not isinstance(row, Mapping):
        raise BadInput("it is no row of columns")
    missing = [name for name in (*_REQUIRED, *HEADLINE) if name not in row]
    if missing:
        raise BadInput(f"it has no column {missing[0]}")
    metrics = {name: _metric(name, row[name]) for name in row if name not in FIELDS}
    known = {name: row[name] for name in row if name in FIELDS}
    record = _checked({**known, "metrics": metrics}, Record)
    if record.map_min > record.map_max:
        raise BadInput(f"map_min, {record.map_min!r}, is above map_max, {record.map_max!r}")
    return record


def check_unique(records: Iterable[Record]) -> None:
    """`BadInput` names a cell that has more than one record."""
    seen: set[tuple[str, str, str, str]] = set()
    for record in records:
        if record.cell in seen:
            net, size, sample, method = record.cell
            raise BadInput(f"{method} on {net} at {size} for {sample} has two records")
        seen.add(record.cell)


def _parsed(line: str) -> Any:
    def refuse(name: str) -> None:
        raise BadInput(f"{name} is no number of JSON")

    try:
        return json.loads(line, parse_constant=refuse)
    except RecursionError as error:
        raise BadInput("it is nested too deep") from error
    except ValueError as error:
        raise BadInput(f"it is no line of JSON: {error}") from error


def _metric(name: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"its {name} is no number but {_short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadInput(f"its {name} is no finite number")
    if (name in HEADLINE and number < 0) or (name == SHARE and number > 1):
        within = "0 to 1" if name == SHARE else "0 or more"
        raise BadInput(f"its {name} is {number!r}, not {within}")
    return number


_Kind = TypeVar("_Kind", Record, NoRecord)


def _checked(row: object, kind: type[_Kind]) -> _Kind:
    try:
        found = msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        what, _, column = str(error).partition(" - at `$.")
        where = f" as {column.rstrip('`')}" if column else ""
        raise BadInput(f"it has no valid value{where}: {what}") from error
    for name, value in vars(found).items():
        if isinstance(value, str) and not value.isprintable():
            raise BadInput(f"its {name} holds what can't be printed: {_short(value)}")
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
