"""A run's records, and beside them what records don't say, so that its report can be rebuilt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from xai_core.errors import BadInput, DataMissing
from xai_core.files import printable
from xai_core.records import check_unique, record_from_line, record_line, sorted_records
from xai_core.report.summary import Summary, split
from xai_core.store import PARTS, Contents, Store
from xai_core.types import Record

RECORDS = "records.jsonl"
SUMMARY = "summary.json"
CHECKSUM = "records_sha256"
"""In the summary: of the file of records that was written with it."""

_OF_RECORDS = {"records", "randomised"}


def dump(summary: Summary) -> dict[str, str]:
    """File name to content: the records, and the rest of the summary."""
    records = "".join(f"{record_line(r)}\n" for r in [*summary.records, *summary.randomised])
    rest = {f.name: getattr(summary, f.name) for f in fields(Summary) if f.name not in _OF_RECORDS}
    rest[CHECKSUM] = hashlib.sha256(records.encode()).hexdigest()
    return {
        RECORDS: records,
        SUMMARY: json.dumps(msgspec.to_builtins(rest), indent=1) + "\n",
    }


def load(folder: Path) -> Summary:
    """The summary of a finished run; of one that was killed, what its parts hold.

    Nothing in the folder is believed unseen, nor by when it was written: records are held to their
    types and ranges, parts to their checksums, and `RECORDS` to that in `SUMMARY`. The parts are
    what counts where a session of the run was killed after the report of the one before.

    Raises:
        DataMissing: the folder holds no run.
        BadInput: a file of it is damaged.
    """
    records, parts = folder / RECORDS, Store(folder / PARTS)
    listed = _listed(records) if records.is_file() else None
    if listed is not None and (folder / SUMMARY).is_file():
        summary = _restored(folder / SUMMARY, listed)
        if parts.latest() <= summary.session:
            return summary
        later = parts.contents()
        if later.session <= summary.session or sorted_records(later.outcomes) == sorted_records(
            listed
        ):
            return summary
        return _rebuilt(folder, sorted_records(later.outcomes), later)
    found = parts.contents()
    if found.outcomes or (listed is None and parts.folder.is_dir()):
        return _rebuilt(folder, sorted_records(found.outcomes), found)
    if listed is None:
        raise DataMissing(f"{folder} holds no run: neither {RECORDS} nor {PARTS} is there")
    return _rebuilt(folder, listed)


def _rebuilt(folder: Path, found: Sequence[Record], parts: Contents | None = None) -> Summary:
    source = "parts" if parts else RECORDS
    reason = f"rebuilt from {source} alone, without {SUMMARY}"
    if parts and parts.damaged:
        reason += (
            f"; {len(parts.damaged)} damaged file(s) among the parts left out, "
            f"{printable(parts.damaged[0])} first: --resume computes them again"
        )
    own, randomised = split(found)
    return Summary(
        name=printable(folder.name),
        records=own,
        randomised=randomised,
        planned=len(found),
        titles={method: method for method in sorted({record.method for record in found})},
        interrupted=reason,
        no_timings=f"without {SUMMARY} they are not known",
        provenance={"Rebuilt": reason.removeprefix("rebuilt ")},
    )


def _listed(path: Path) -> list[Record]:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} can't be read: {error}") from error
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line:
            try:
                found.append(record_from_line(line))
            except BadInput as error:
                raise BadInput(f"line {number} of {path} is no record: {error}") from error
    try:
        check_unique(found)
    except BadInput as error:
        raise BadInput(f"{path} can't be used: {error}") from error
    return found


def _restored(path: Path, records: Sequence[Record]) -> Summary:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    own, randomised = split(records)
    try:
        rest = _printable(json.loads(path.read_text("utf-8"), parse_constant=refuse))
        checksum = rest.pop(CHECKSUM, None)
        summary = msgspec.convert({**rest, "records": [], "randomised": []}, Summary)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} is no summary of a run: {error}; delete it, or mend it") from error
    listed = path.parent / RECORDS
    if checksum is not None and checksum != hashlib.sha256(listed.read_bytes()).hexdigest():
        raise BadInput(
            f"{listed} is not what {SUMMARY} was written with: it was changed, or the other was; "
            "delete the one that is wrong, and the report is made from the rest"
        )
    return replace(summary, records=own, randomised=randomised)


def _printable(value: Any) -> Any:
    """The same with all text printable, that of keys too."""
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(entry) for entry in value]
        case dict():
            return {printable(name): _printable(entry) for name, entry in value.items()}
    return value
