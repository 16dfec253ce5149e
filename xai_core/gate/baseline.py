"""What a baseline keeps of a run, as small files that people can read and diff.

One CSV file for each data set, net and weights: facts that hold for all rows as ``# name: value``,
then one row a size and sample, one column a method, its values P.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from xai_core.comparison import ARITHMETIC
from xai_core.errors import BadInput
from xai_core.types import Record

DIGITS = 7
"""Decimals of P: finer than `xai_core.gate.EXACT`."""

ZERO = "zero"
"""Written for the P of a map that is zero everywhere."""


@dataclass(frozen=True)
class Entry:
    """One cell of a baseline, or of a run that is held against one.

    Attributes are those of `xai_core.types.Record`; ``p`` is its concentration.
    """

    net: str
    size: str
    sample: str
    method: str
    image_id: int
    category: str
    class_index: int
    p: float
    zero_energy: bool
    chance: float
    sample_sha256: str
    data: str
    weights: str
    weights_sha256: str
    weights_random: bool
    target_layer: str
    dilation: float
    engine: str
    device: str
    processor: str
    dtype: str
    threads: str
    batch_size: str
    torch: str

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """(net, size, sample, method)."""
        return self.net, self.size, self.sample, self.method


Baseline = Mapping[tuple[str, str, str, str], Entry]

_SAME = (
    *("data", "net", "weights", "weights_sha256", "weights_random", "target_layer", "dilation"),
    *ARITHMETIC,
)
_ROW = ("size", "sample", "image_id", "category", "class_index", "chance", "sample_sha256")
_JOINED = ("threads", "batch_size")
"""Facts of which a net may have several: the last batch is smaller, a resumed run has others."""

_SHORT = 16
"""Digits of an image's hash: enough to see that it changed."""


def baseline_of(records: Iterable[Record]) -> Baseline:
    """What is compared of a run's records; randomised copies are left out."""
    own = {field.name for field in fields(Entry)} - {"p", "sample_sha256", *_JOINED}
    kept = [record for record in records if not record.randomised]
    joined: dict[str, dict[str, Any]] = {
        net: {name: _joined(getattr(r, name) for r in kept if r.net == net) for name in _JOINED}
        for net in {record.net for record in kept}
    }
    return {
        record.cell: Entry(
            **{name: getattr(record, name) for name in own},
            **joined[record.net],
            p=record.metrics["concentration"],
            sample_sha256=record.sample_sha256[:_SHORT],
        )
        for record in kept
    }


def to_files(baseline: Baseline) -> dict[str, str]:
    """File name to content."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for _, entry in sorted(baseline.items()):
        groups.setdefault((entry.data, entry.net, entry.weights_sha256), []).append(entry)
    return {
        f"{_safe(data)}-{_safe(net)}-{weights[:8]}.csv": _render(entries)
        for (data, net, weights), entries in groups.items()
    }


def from_files(files: Mapping[str, str]) -> Baseline:
    """The inverse of `to_files`, but for the digits that P loses.

    Raises:
        BadInput: a file is damaged; the message names it.
    """
    found: dict[tuple[str, str, str, str], Entry] = {}
    for name, text in files.items():
        try:
            found |= {entry.cell: entry for entry in _parse(text)}
        except (KeyError, ValueError, TypeError) as error:
            raise BadInput(f"{name} is no baseline: {error}") from error
    return found


def _render(entries: Sequence[Entry]) -> str:
    out = io.StringIO()
    for name in _SAME:
        out.write(f"# {name}: {getattr(entries[0], name)}\n")
    methods = sorted({entry.method for entry in entries})
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_ROW, *methods])
    rows: dict[tuple[str, str], dict[str, Entry]] = {}
    for entry in entries:
        rows.setdefault((entry.size, entry.sample), {})[entry.method] = entry
    for by_method in rows.values():
        first = next(iter(by_method.values()))
        facts = [f"{v:.{DIGITS}f}" if isinstance(v, float) else v for v in _values(first)]
        writer.writerow([*facts, *(_p(by_method.get(method)) for method in methods)])
    return out.getvalue()


def _values(entry: Entry) -> list[str | int | float]:
    return [getattr(entry, name) for name in _ROW]


def _joined(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _p(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return ZERO if entry.zero_energy else f"{entry.p:.{DIGITS}f}"


def _parse(text: str) -> Iterable[Entry]:
    lines = text.split("\n")
    head = [line[2:].partition(": ") for line in lines if line.startswith("# ")]
    values = {name: value for name, _, value in head}
    same = {name: values[name] for name in _SAME}
    rows = csv.DictReader(line for line in lines if not line.startswith("# "))
    methods = [name for name in rows.fieldnames or () if name not in _ROW]
    if not methods:
        raise ValueError("it has no column of a method")
    for row in rows:
        for method in methods:
            if row[method] == "":
                continue
            facts: dict[str, Any] = {
                **same,
                **{name: row[name] for name in _ROW},
                **{name: int(row[name]) for name in ("image_id", "class_index")},
                "chance": float(row["chance"]),
                "dilation": float(same["dilation"]),
                "weights_random": same["weights_random"] == "True",
            }
            zero = row[method] == ZERO
            yield Entry(
                **facts, method=method, p=0.0 if zero else float(row[method]), zero_energy=zero
            )


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
