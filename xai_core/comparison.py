"""Two sets of records side by side, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from xai_core import stats
from xai_core.types import Record

Cell = tuple[str, str, str, str]

CELL = ["net", "size", "sample", "method"]

P = ["before", "after"]

ARITHMETIC = ("engine", "device", "processor", "dtype", "threads", "batch_size", "torch")
"""Fields that say how a record was computed."""

FINGERPRINT = (
    *("data", "sample_sha256", "dilation", "weights", "weights_sha256", "target_layer"),
    *ARITHMETIC,
)
"""Fields that decide a record's P: where all are the same, P must be."""


@dataclass(frozen=True)
class Comparison:
    """What became of each cell.

    Attributes:
        pairs: one row for each cell that both have: net, size, sample, method, image_id, category,
            random (whether either net was never trained), before, after (P), difference (after -
            before).
        missing: cells that only the first has, sorted.
        new: cells that only the second has, sorted.
        changed: fields of `FINGERPRINT` that are not the same in every pair.
    """

    pairs: pd.DataFrame
    missing: tuple[Cell, ...]
    new: tuple[Cell, ...]
    changed: tuple[str, ...]


def compare(before: Iterable[Record], after: Iterable[Record]) -> Comparison:
    """Match the records of two runs by net, size, sample and method."""
    first = {record.cell: record for record in before}
    second = {record.cell: record for record in after}
    both = sorted(first.keys() & second.keys())
    rows = [
        {
            **dict(zip(CELL, cell, strict=True)),
            "image_id": first[cell].image_id,
            "category": first[cell].category,
            "random": first[cell].weights_random or second[cell].weights_random,
            "before": first[cell].metrics["concentration"],
            "after": second[cell].metrics["concentration"],
        }
        for cell in both
    ]
    pairs = pd.DataFrame(rows, columns=[*CELL, "image_id", "category", "random", *P])
    pairs["difference"] = pairs["after"] - pairs["before"]
    changed = [
        field
        for field in FINGERPRINT
        if any(getattr(first[cell], field) != getattr(second[cell], field) for cell in both)
    ]
    return Comparison(
        pairs=pairs,
        missing=tuple(sorted(first.keys() - second.keys())),
        new=tuple(sorted(second.keys() - first.keys())),
        changed=tuple(changed),
    )


def paired(pairs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean differences by the given columns, tested over images.

    Columns: the keys, pairs, images, before, after (means), difference, low, high (its 95 %
    interval by bootstrap over images; NaN with one image) and p (sign flips over images, two-sided,
    Holm-adjusted over all rows).
    """
    found = []
    groups = pairs.groupby(list(keys), sort=True)
    flips = max(stats.FLIPS, 200 * groups.ngroups)  # else no adjusted p could be below 0.01
    for group, part in groups:
        by_image = part.groupby("image_id")["difference"]
        sums, counts = by_image.sum().to_numpy(float), by_image.size().to_numpy().astype(float)
        low, high = stats.bootstrap_interval(sums[:, None], counts[:, None])
        found.append(
            {
                **dict(zip(keys, group, strict=True)),
                "pairs": len(part),
                "images": len(sums),
                "before": part["before"].mean(),
                "after": part["after"].mean(),
                "difference": part["difference"].mean(),
                "low": low[0],
                "high": high[0],
                "p": stats.sign_flip_test(sums, flips=flips),
            }
        )
    columns = ["pairs", "images", "before", "after", "difference", "low", "high", "p"]
    result = pd.DataFrame(found, columns=[*keys, *columns])
    result["p"] = stats.holm(result["p"].to_numpy(float))
    return result


def values(records: Iterable[Record], field: str) -> str:
    """The distinct values of a field, for a table cell."""
    distinct = sorted({str(getattr(record, field)) for record in records})
    shown = [value[:12] if field.endswith("sha256") else value for value in distinct[:4]]
    return ", ".join(shown) + (f" and {len(distinct) - 4} more" if len(distinct) > 4 else "")
