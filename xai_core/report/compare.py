"""Two runs side by side, as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from xai_core.comparison import Comparison, compare, paired, values
from xai_core.errors import BadInput
from xai_core.report.statistics import few_images
from xai_core.report.summary import Summary
from xai_core.report.table import interval, markdown_table, number, p_value

LARGEST = 10
"""Cells that are listed by name."""


def render(before: Summary, after: Summary) -> str:
    """Means, paired differences and the largest changes, from ``before`` to ``after``.

    Raises:
        BadInput: the runs have no cell in common.
    """
    found = compare(before.records, after.records)
    if found.pairs.empty:
        raise BadInput(
            f"{before.name} and {after.name} have no record of the same net, size, sample and "
            "method: there is nothing to compare"
        )
    titles = {**before.titles, **after.titles}
    parts = [
        f"# Concentration: {after.name} against {before.name}",
        _counts(found),
        *_changed(found, before, after),
        "## By method",
        "P and its difference (after - before) on the records that both have; 95 % interval by "
        "bootstrap over images; p by sign-flip permutation over images, two-sided, Holm-adjusted "
        "over the table.",
    ]
    for random, part in found.pairs.groupby("random", sort=True):
        caption = "Nets that were never trained." if random else "Trained nets."
        warning = few_images(part["image_id"].nunique())
        parts += [f"{caption} {warning}".rstrip(), _table(part, ["method"], titles)]
    if found.pairs[["net", "size"]].drop_duplicates().shape[0] > 1:
        parts += ["## By net, size and method"]
        parts += [_table(found.pairs, ["net", "size", "method"], titles)]
    parts += _largest(found.pairs, titles)
    return "\n\n".join(parts) + "\n"


def _counts(found: Comparison) -> str:
    same = int((found.pairs["difference"] == 0).sum())
    sentence = (
        f"{len(found.pairs)} records in both runs, {same} of them with exactly the same P; "
        f"{len(found.missing)} only before, {len(found.new)} only after."
    )
    for what, cells in (("Only before", found.missing), ("Only after", found.new)):
        if cells:
            kinds = sorted({f"{method} on {net} at {size}" for net, size, _, method in cells})
            more = f" and {len(kinds) - LARGEST} more" if len(kinds) > LARGEST else ""
            sentence += f"\n\n{what}: {', '.join(kinds[:LARGEST])}{more}."
    return sentence


def _changed(found: Comparison, before: Summary, after: Summary) -> list[str]:
    if not found.changed:
        return ["Data, weights, versions and arithmetic are the same."]
    rows = [
        [f"`{field}`", values(before.records, field), values(after.records, field)]
        for field in found.changed
    ]
    return ["## What differs between the runs", markdown_table(["Field", "Before", "After"], rows)]


def _table(pairs: pd.DataFrame, keys: Sequence[str], titles: Mapping[str, str]) -> str:
    rows = [
        [
            *(titles.get(row[key], row[key]) if key == "method" else row[key] for key in keys),
            str(row["pairs"]),
            str(row["images"]),
            number(row["before"]),
            number(row["after"]),
            number(row["difference"], 4, signed=True),
            interval(row["low"], row["high"], 4),
            p_value(row["p"]),
        ]
        for row in paired(pairs, keys).to_dict("records")
    ]
    names = [key.capitalize() for key in keys]
    header = ["Pairs", "Images", "Before", "After", "Difference", "95 % interval", "p"]
    return markdown_table([*names, *header], rows, numbers_from=len(names))


def _largest(pairs: pd.DataFrame, titles: Mapping[str, str]) -> list[str]:
    moved = pairs[pairs["difference"] != 0]
    if moved.empty:
        return []
    order = moved["difference"].abs().sort_values(ascending=False, kind="stable").index
    rows = [
        [
            *(row["net"], row["size"], row["sample"], titles.get(row["method"], row["method"])),
            *(number(row["before"], 4), number(row["after"], 4)),
            number(row["difference"], 4, signed=True),
        ]
        for row in moved.loc[order[:LARGEST]].to_dict("records")
    ]
    header = ["Net", "Size", "Sample", "Method", "Before", "After", "Difference"]
    return ["## Largest changes", markdown_table(header, rows, numbers_from=4)]
