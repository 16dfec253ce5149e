"""A baseline as small files that people can read and diff, and back.

One CSV file for each net: facts that hold for all rows as ``# name: value``, then one row a size
and sample, one column a method, its values P. A baseline holds one data set.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from xai_core.comparison import ARITHMETIC
from xai_core.errors import BadInput
from xai_core.files import file_name
from xai_core.gate.baseline import Baseline, Entry

DIGITS = 7
"""Decimals of P: finer than `xai_core.gate.EXACT`."""

ZERO = "zero"
"""Written for the P of a map that is zero everywhere."""

_SAME = (
    *("data", "net", "weights", "weights_sha256", "weights_random", "target_layer", "dilation"),
    *ARITHMETIC,
)
_ROW = ("size", "sample", "image_id", "category", "class_index", "chance", "sample_sha256")


def to_files(baseline: Baseline) -> dict[str, str]:
    """File name to content.

    Raises:
        BadInput: two nets would have the same file, or a value is no P.
    """
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for _, entry in sorted(baseline.items()):
        groups.setdefault((entry.data, entry.net, entry.weights_sha256), []).append(entry)
    files: dict[str, str] = {}
    owners: dict[str, str] = {}
    for (data, net, weights), entries in groups.items():
        name = f"{file_name(data)}-{file_name(net)}-{weights[:8]}.csv"
        # Some file systems take names that differ in case, or in how an accent is stored, for one.
        other = owners.setdefault(unicodedata.normalize("NFC", name.casefold()), net)
        if other != net:
            raise BadInput(f"the nets {other!r} and {net!r} would have the same file, {name}")
        files[name] = _render(entries)
    return files


def from_files(files: Mapping[str, str]) -> Baseline:
    """The inverse of `to_files`, but for the digits that P loses.

    Raises:
        BadInput: a file is damaged, or two can't belong to one baseline; the message names them.
    """
    found: dict[tuple[str, str, str, str], Entry] = {}
    first: tuple[str, str] | None = None  # (data set, file)
    nets: dict[str, str] = {}
    for name, text in files.items():
        try:
            entries = _parse(text)
        except (csv.Error, KeyError, ValueError, TypeError) as error:
            raise BadInput(f"{name} is no baseline: {error}") from error
        data, net = entries[0].data, entries[0].net
        first = first or (data, name)
        if first[0] != data:
            raise BadInput(
                f"{first[1]} is of the data set {first[0]} and {name} of {data}: a baseline holds "
                "one data set; save each under a name of its own"
            )
        if nets.setdefault(net, name) != name:
            raise BadInput(
                f"{nets[net]} and {name} are both of the net {net}: delete the one that no longer "
                "counts, or save the baseline again"
            )
        found |= {entry.cell: entry for entry in entries}
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
        values = [getattr(first, name) for name in _ROW]
        facts = [f"{v:.{DIGITS}f}" if isinstance(v, float) else v for v in values]
        writer.writerow([*facts, *(_p(by_method.get(method)) for method in methods)])
    return out.getvalue()


def _p(entry: Entry | None) -> str:
    if entry is None:
        return ""
    if not 0 <= entry.p <= 1:
        raise BadInput(f"P of {', '.join(entry.cell)} is {entry.p!r}: no baseline can hold that")
    return ZERO if entry.zero_energy else f"{entry.p:.{DIGITS}f}"


def _parse(text: str) -> list[Entry]:
    if not text.endswith("\n"):
        raise ValueError("its last line is not whole")
    lines = text.split("\n")
    if not all(line.isprintable() for line in lines):
        raise ValueError("it holds what can't be printed")
    same = _head(line[2:] for line in lines if line.startswith("# "))
    rows = csv.DictReader((line for line in lines if not line.startswith("# ")), strict=True)
    names = list(rows.fieldnames or ())
    methods = [name for name in names if name not in _ROW]
    if not methods or len(set(names)) < len(names):
        raise ValueError("its columns are not those of a baseline, each once")
    entries = [entry for row in rows for entry in _entries(row, methods, same)]
    if not entries:
        raise ValueError("it has no row")
    if len({entry.cell for entry in entries}) < len(entries):
        raise ValueError("it has two rows of the same size and sample")
    return entries


def _head(lines: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name in found:
            raise ValueError(f"it says {name!r} twice")
        found[name] = value
    missing = [name for name in _SAME if name not in found]
    if missing:
        raise ValueError(f"it doesn't say {missing[0]!r}")
    if found["weights_random"] not in ("True", "False"):
        raise ValueError(f"weights_random is {found['weights_random']!r}, not True or False")
    return {
        **{name: found[name] for name in _SAME},
        "dilation": float(found["dilation"]),
        "weights_random": found["weights_random"] == "True",
    }


def _entries(
    row: Mapping[str, str], methods: Sequence[str], same: Mapping[str, Any]
) -> Iterator[Entry]:
    if None in row or None in row.values():
        raise ValueError(f"a row, {', '.join(map(str, list(row.values())[:2]))}, is not whole")
    facts: dict[str, Any] = {
        **same,
        **{name: row[name] for name in _ROW},
        **{name: int(row[name]) for name in ("image_id", "class_index")},
        "chance": _share(row["chance"]),
    }
    for method in methods:
        if row[method] == "":
            continue
        zero = row[method] == ZERO
        p = 0.0 if zero else _share(row[method])
        yield Entry(**facts, method=method, p=p, zero_energy=zero)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{text} is not from 0 to 1")
    return value
