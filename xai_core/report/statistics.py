"""Means with intervals, paired differences and ranks, as markdown sections.

Every comparison of two methods is made over the cells (net, size, sample) that both have, and over
images: see `xai_core.stats`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from xai_core import stats
from xai_core.report.ranking import blocks, in_order
from xai_core.report.summary import Summary, frame
from xai_core.report.table import interval, markdown_table, number

STRATA = ((1, "1"), (5, "2 to 5"), (50, "6 to 50"), (10**9, "above 50"))
"""Upper ends of the strata by rank of the class, and their names."""

CELL = ["net", "size", "sample"]


def intervals(table: pd.DataFrame, keys: Sequence[str] = ("method",)) -> pd.DataFrame:
    """Mean P and its 95 % bootstrap interval over images, by the given columns.

    Columns: the keys, records, images, mean_p, low and high (NaN with fewer than two images).
    """
    sums, counts = _per_image(table, list(keys))
    low, high = stats.bootstrap_interval(sums.to_numpy(), counts.to_numpy())
    result = pd.DataFrame(
        {
            "records": counts.sum(axis=0).astype(int),
            "images": (counts > 0).sum(axis=0),
            "mean_p": sums.sum(axis=0) / counts.sum(axis=0),
            "low": low,
            "high": high,
        },
        index=sums.columns,
    )
    return result.reset_index()


def _per_image(table: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    groups = table.groupby(["image_id", *keys], sort=True)["concentration"]
    levels = list(range(1, 1 + len(keys)))
    sums = groups.sum().unstack(levels).fillna(0.0)
    counts = groups.size().unstack(levels).fillna(0.0)
    return sums.sort_index(axis=1), counts.sort_index(axis=1)


def few_images(images: int) -> str:
    """A warning where intervals over so few images promise too much; empty where they don't."""
    if images >= stats.FEW_IMAGES or images < 2:
        return ""
    return (
        f"Only {images} images: below {stats.FEW_IMAGES} the 95 % intervals are too narrow (with 5 "
        "to 10 images and skewed P they cover the mean in 77 to 85 % of runs)."
    )


def sections(summary: Summary) -> list[str]:
    """The statistics of a run; trained and random nets are never mixed."""
    table = frame(summary.records)
    trained = table[~table["weights_random"].astype(bool)]
    if trained.empty:
        return ["## Statistics", "No net of this run was trained: nothing to test."]
    parts = ["## Statistics", "Trained nets only.", *_differences(trained, summary)]
    return [*parts, *_ranks(trained, summary), *_strata(trained, summary)]


def _differences(table: pd.DataFrame, summary: Summary) -> list[str]:
    heading = "### Is the order of the methods more than chance?"
    order = _order(table)
    if len(order) < 2:
        return [heading, "One method only: nothing to compare."]
    wide = table.pivot_table(
        index=["image_id", *CELL], columns="method", values="concentration", sort=True
    )
    pairs = list(pairwise(order))
    found = [_paired(wide, *pair) for pair in pairs]
    compared = [entry for entry in found if entry is not None]
    adjusted = iter(stats.holm(np.array([entry[-1] for entry in compared])))
    rows = []
    for (first, second), entry in zip(pairs, found, strict=True):
        names = [_title(summary, first), _title(summary, second)]
        if entry is None:
            rows.append([*names, "0", "0", "no cell in common", "-", "-"])
            continue
        records, images, difference, low, high, _ = entry
        p = next(adjusted)
        verdict = [number(difference), interval(low, high), _p(p)]
        rows.append([*names, str(records), str(images), *verdict])
    header = ["Method", "Next", "Pairs", "Images", "Difference of P", "95 % interval", "p"]
    note = (
        "Each method against the next in the order of means, on the cells that both have. "
        "Interval: bootstrap over images. p: sign-flip permutation test over images, two-sided, "
        f"Holm-adjusted over the {len(compared)} tests of this table."
    )
    images = table["image_id"].nunique()
    if 2.0 ** (1 - images) > 0.05:
        note += f" With {images} image(s) no difference can reach p < 0.05."
    return [heading, note, markdown_table(header, rows, numbers_from=2)]


def _paired(
    wide: pd.DataFrame, first: str, second: str
) -> tuple[int, int, float, float, float, float] | None:
    both = wide[[first, second]].dropna()
    if both.empty:
        return None
    difference = both[first] - both[second]
    by_image = difference.where(difference.abs() > stats.TIE, 0.0).groupby("image_id")
    sums, counts = by_image.sum().to_numpy(float), by_image.size().to_numpy().astype(float)
    low, high = stats.bootstrap_interval(sums[:, None], counts[:, None])
    p = stats.sign_flip_test(sums)
    return len(both), len(sums), float(sums.sum() / counts.sum()), float(low[0]), float(high[0]), p


def _ranks(table: pd.DataFrame, summary: Summary) -> list[str]:
    heading = "### Does another draw of images give the same order?"
    found = blocks(table)
    images, methods = found.means.shape
    if methods < 2 or images < 2:
        return [heading, "This needs two methods and two images at least."]
    sums, counts = _per_image(found.table, ["method"])
    whole, each = stats.order_stability(sums.to_numpy(), counts.to_numpy())
    ranks = found.ranks
    overall = sums.sum() / counts.sum()
    kept = pd.Series(each, index=sums.columns)
    rows = [
        [
            _title(summary, str(method)),
            number(overall[method]),
            number(ranks[method], 2),
            f"{kept[method]:.0%}",
        ]
        for method in in_order(overall).index
    ]
    p = stats.friedman(found.means.to_numpy())
    note = (
        f"{images} images, on the cells that all these methods have. The order is the same in "
        f"{whole:.0%} of {stats.RESAMPLES} resamples of the images; *place kept* says it of each "
        f"method. *Mean rank*: of the image's mean P, 1 = highest; methods that differ by at "
        f"most {stats.TIE:g} share it."
    )
    if p is not None:
        note += f" Friedman's test that all methods rank alike: p {_p(p)}."
    if found.without:
        left_out = [_title(summary, method) for method in found.without]
        note += f" No cell in common with all others, so left out: {', '.join(left_out)}."
    return [
        heading,
        note,
        markdown_table(["Method", "Mean P", "Mean rank", "Place kept"], rows, numbers_from=1),
    ]


def _strata(table: pd.DataFrame, summary: Summary) -> list[str]:
    ends = [0, *(end for end, _ in STRATA)]
    names = [name for _, name in STRATA]
    stratum = pd.cut(table["rank"], ends, labels=names)
    part = table.assign(stratum=stratum)
    means = part.pivot_table(
        index="method", columns="stratum", values="concentration", observed=False, dropna=False
    )
    there = [name for name in names if (stratum == name).any()]
    once = part.drop_duplicates(CELL)
    sizes = once.groupby("stratum", observed=False)["sample"].size()
    rows = [
        [_title(summary, method), *(number(means.loc[method, name]) for name in there)]
        for method in _order(table)
    ]
    chance = once.groupby("stratum", observed=False)["chance"].mean()
    rows.append(["*Chance*", *(number(chance[name]) for name in there)])
    rows.append(["*n (net, size, sample)*", *(str(sizes[name]) for name in there)])
    note = "Mean P by the rank of the explained class among the net's outputs."
    header = ["Method", *(f"Rank {name}" for name in there)]
    heading = "### Does it matter whether the net recognised the object?"
    return [heading, note, markdown_table(header, rows, numbers_from=1)]


def _order(table: pd.DataFrame) -> list[str]:
    return list(in_order(table.groupby("method")["concentration"].mean()).index)


def _title(summary: Summary, method: str) -> str:
    titles: Mapping[str, str] = summary.titles
    return titles.get(method, method)


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"
