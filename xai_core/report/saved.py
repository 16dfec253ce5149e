"""A run's records, and beside them what records don't say, so that its report can be rebuilt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from xai_core.errors import BadInput, DataMissing
from xai_core.report.recognition import Recognition
from xai_core.report.summary import Gap, Summary, Timing, split
from xai_core.store import PARTS, Store, record_from_row, record_line, sorted_records
from xai_core.types import Record

RECORDS = "records.jsonl"
SUMMARY = "summary.json"

_OF_RECORDS = {"records", "randomised"}
_GAPS = ("skipped", "failed", "broken")


def dump(summary: Summary) -> dict[str, str]:
    """File name to content: the records, and the rest of the summary."""
    rest = {f.name: getattr(summary, f.name) for f in fields(Summary) if f.name not in _OF_RECORDS}
    rest |= {name: [vars(gap) for gap in rest[name]] for name in _GAPS}
    rest["recognition"] = [vars(entry) for entry in summary.recognition]
    rest["timings"] = [vars(timing) for timing in summary.timings]
    records = [*summary.records, *summary.randomised]
    return {
        RECORDS: "".join(record_line(record) + "\n" for record in records),
        SUMMARY: json.dumps(rest, indent=1, default=dict) + "\n",
    }


def load(folder: Path) -> Summary:
    """The summary of a finished run; of one that was killed, what its parts hold.

    Raises:
        DataMissing: the folder holds no run.
        BadInput: a file of it is damaged.
    """
    records, parts = folder / RECORDS, folder / PARTS
    if records.is_file() and not _is_older(records, parts):
        found = list(_records(records))
        if (folder / SUMMARY).is_file():
            return _restored(folder / SUMMARY, found)
    elif parts.is_dir():
        found = sorted_records(Store(parts).all())
    else:
        raise DataMissing(f"{folder} holds no run: neither {RECORDS} nor {PARTS} is there")
    own, randomised = split(found)
    return Summary(
        name=folder.name,
        records=own,
        randomised=randomised,
        planned=len(found),
        titles={method: method for method in sorted({record.method for record in found})},
        interrupted=f"rebuilt from records alone, without {SUMMARY}",
        no_timings=f"without {SUMMARY} they are not known",
        provenance={"Rebuilt": f"from records alone, without {SUMMARY}"},
    )


def _is_older(records: Path, parts: Path) -> bool:
    """Whether a run that went on was killed before it could write its records again."""
    written = records.stat().st_mtime_ns
    return any(part.stat().st_mtime_ns > written for part in parts.glob("*.jsonl"))


def _records(path: Path) -> Iterator[Record]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} can't be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            yield record_from_row(json.loads(line))
        except (ValueError, TypeError, AttributeError, BadInput) as error:
            raise BadInput(f"line {number} of {path} is no record: {error}") from error


def _restored(path: Path, records: Sequence[Record]) -> Summary:
    try:
        rest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        rest |= {name: [Gap(**gap) for gap in rest[name]] for name in _GAPS}
        # Reports that were written before there was a choice by recognition don't have it.
        rest["recognition"] = [Recognition(**entry) for entry in rest.get("recognition", [])]
        rest["timings"] = [Timing(**timing) for timing in rest["timings"]]
        own, randomised = split(records)
        return Summary(records=own, randomised=randomised, **rest)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is no summary of a run: {error}; delete it, or mend it") from error
