"""Does a method notice that the net has forgotten what it learnt?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from xai_core import stats
from xai_core.report.summary import Summary, frame
from xai_core.report.table import markdown_table, number, p_value

STAGES = ("logits", "half", "all")
"""As far as a run has them, from the output downwards."""

NOTE = (
    "The model randomisation test of Adebayo et al. (2018): P of the trained net, and of copies "
    "whose weights were re-initialised from the output downwards (the last layer, the upper half, "
    "all), on the same samples, for the same class. A method whose P stays points at the object "
    "without what the net has learnt. *Gain left*: (P of *all* - chance) / (P of *trained* - "
    "chance). *p*: trained against all, sign flips over images, Holm-adjusted over each table."
)


def sections(summary: Summary) -> list[str]:
    """A table a net; nothing where the run has no randomised copies."""
    if not summary.randomised:
        return []
    table = frame([*summary.records, *summary.randomised])
    table["base"] = table["base"].where(table["base"] != "", table["net"])
    table["stage"] = table["randomised"].replace("", "trained")
    parts = ["## Does the method notice that the net was randomised?", NOTE]
    for base in sorted(set(table.loc[table["randomised"] != "", "base"])):
        parts += [f"### {base}", _compared(table[table["base"] == base], summary)]
    return parts


def _compared(table: pd.DataFrame, summary: Summary) -> str:
    stages = ["trained", *(stage for stage in STAGES if (table["stage"] == stage).any())]
    found = []
    for method in _methods(table, summary):
        wide = table[table["method"] == method].pivot_table(
            index=["image_id", "size", "sample"], columns="stage", values="concentration"
        )
        wide = wide.reindex(columns=stages).dropna()
        if len(wide):
            found.append((method, wide))
    if not found:
        return "No sample has a record of the net and of all its copies."
    chance = table[table["stage"] == "trained"].set_index(["image_id", "size", "sample"])["chance"]
    adjusted = stats.holm(
        np.array(
            [
                stats.sign_flip_test(_by_image(wide["trained"] - wide[stages[-1]]))
                for _, wide in found
            ]
        )
    )
    rows = []
    for (method, wide), p in zip(found, adjusted, strict=True):
        means = wide.mean()
        level = float(chance[~chance.index.duplicated()].reindex(wide.index).mean())
        title = summary.titles.get(method, method)
        rows.append(
            [
                f"*{title}*" if method in summary.baselines else title,
                str(len(wide)),
                *(number(means[stage]) for stage in stages),
                number(level),
                _left(means["trained"] - level, means[stages[-1]] - level),
                p_value(p),
            ]
        )
    names = [stage.capitalize() for stage in stages]
    header = ["Method", "Records", *names, "Chance", "Gain left", "p"]
    return markdown_table(header, rows, numbers_from=1)


def _methods(table: pd.DataFrame, summary: Summary) -> Sequence[str]:
    there = set(table["method"])
    known = [method for method in summary.titles if method in there]
    return sorted([*known, *sorted(there - set(known))], key=lambda m: m in summary.baselines)


def _by_image(differences: pd.Series[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(differences.groupby("image_id").sum(), dtype=np.float64)


def _left(before: float, after: float) -> str:
    """A dash where there was no gain to lose."""
    return f"{after / before:.0%}" if before > 0.0005 else "-"
