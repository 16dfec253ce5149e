"""Critical-difference diagram: the methods' mean ranks over images, and who can't be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from xai_core.report.charts import parts
from xai_core.report.charts.chart import Chart
from xai_core.report.charts.sheet import PanelTitle, sheet
from xai_core.report.charts.text import SMALL, counted, listed, width
from xai_core.report.palette import INK, QUIET, colour_of
from xai_core.report.ranking import blocks
from xai_core.report.summary import Summary

TITLE = "Ranks of the methods"
FEWEST_METHODS, FEWEST_IMAGES = 3, 10
"""Friedman's chi-squared and Nemenyi's normal approximation are too rough below."""

ALPHA = 0.05
LINE = 0.165
"""Inches per unit of y: a label's height."""

LEFT, RIGHT = "{label} ({rank:.1f})", "({rank:.1f}) {label}"
"""A method's label on either side."""

TOP = 2.3
"""Highest y: room for the axis' labels and the critical difference."""


@dataclass(frozen=True)
class Ranking:
    """Friedman's test and Nemenyi's comparisons (Demsar 2006), images as blocks.

    Attributes:
        ranks: mean rank over images by method id, 1 = highest P; ties share their mean rank.
        same: p values of Nemenyi's test, method by method.
        distance: critical difference of two mean ranks at 5 %.
        friedman: p value of "all methods rank alike".
        images: number of blocks.
        table: the records behind it, of the cells that all ranked methods have.
        without: methods left out, because they share no cell with all others.
    """

    ranks: pd.Series[float]
    same: pd.DataFrame
    distance: float
    friedman: float
    images: int
    table: pd.DataFrame
    without: tuple[str, ...]


def ranking(table: pd.DataFrame) -> Ranking | None:
    """Rank methods by their mean P on each image, over the cells (net, size, sample) of all.

    None with fewer than three methods or ten images, or where P never differs.
    """
    found = blocks(table)
    means = found.means
    images, methods = means.shape
    if methods < FEWEST_METHODS or images < FEWEST_IMAGES or (means.nunique(axis=1) == 1).all():
        return None
    # Imported here: it brings seaborn and statsmodels, which take a second.
    from scikit_posthocs import posthoc_nemenyi_friedman

    quantile = stats.studentized_range.ppf(1 - ALPHA, methods, np.inf) / np.sqrt(2)
    return Ranking(
        ranks=found.ranks,
        same=posthoc_nemenyi_friedman(means),
        distance=float(quantile * np.sqrt(methods * (methods + 1) / (6 * images))),
        friedman=float(stats.friedmanchisquare(*means.to_numpy().T).pvalue),
        images=images,
        table=found.table,
        without=found.without,
    )


def draw(table: pd.DataFrame, summary: Summary) -> Chart | None:
    """The diagram, of trained nets if there are any; None where there is no `ranking`."""
    found = ranking(parts.by_training(table)[0][1])
    if found is None:
        return None
    names = _names([str(method) for method in found.ranks.index], summary)
    side = max(width(f"{name} (00.0)") for name in names.values()) + 0.2
    lowest = _diagram(Figure().add_subplot(), found, names, summary)
    page = sheet(
        TITLE,
        _subtitle(found, names | dict(summary.titles)),
        [PanelTitle("")],
        (TOP - lowest) * LINE,
        side,
        below=0.0,
        full=True,
    )
    axis = page.panels[0]
    box = axis.get_position()
    axis.set_position((box.x0, box.y0, box.width * (1 - side / page.panel_width), box.height))
    _diagram(axis, found, names, summary)
    axis.set_ylim(lowest, TOP)
    return Chart("ranks", TITLE, _alt(found, names), page.figure)


def _names(methods: Sequence[str], summary: Summary) -> dict[str, str]:
    """Titles, with the id behind those that are not unique: the diagram tells methods by name."""
    titles = {method: summary.titles.get(method, method) for method in methods}
    often = Counter(titles.values())
    return {m: title if often[title] == 1 else f"{title} [{m}]" for m, title in titles.items()}


def _diagram(axis: Axes, found: Ranking, names: dict[str, str], summary: Summary) -> float:
    """Draw it; the result is its lowest y."""
    from scikit_posthocs import critical_difference_diagram

    count = len(found.ranks)
    drawn = critical_difference_diagram(
        found.ranks.rename(names),
        found.same.rename(index=names, columns=names),
        alpha=ALPHA,
        ax=axis,
        label_fmt_left=LEFT,
        label_fmt_right=RIGHT,
        text_h_margin=count / 60,
        color_palette={names[m]: colour_of(m) for m in names},
        marker_props={"s": 16, "linewidths": 0},
        elbow_props={"linewidth": 1.1},
        crossbar_props={"color": INK, "linewidth": 2.4, "solid_capstyle": "round"},
    )
    quiet_labels = {
        form.format(label=names[method], rank=found.ranks[method])
        for method in summary.baselines
        if method in names
        for form in (LEFT, RIGHT)
    }
    axis.spines["top"].set(visible=True, color=QUIET, linewidth=0.6)
    for label in drawn["labels"]:
        away = -1 if label.get_horizontalalignment() == "right" else 1
        label.set_x(label.get_position()[0] + away * count / 120)
        quiet = label.get_text() in quiet_labels
        label.set(color=QUIET if quiet else INK, style="italic" if quiet else "normal")
    axis.set_xlim(1, count)
    axis.set_xticks(range(1, count + 1))
    axis.plot([1, 1 + found.distance], [1.75, 1.75], color=INK, linewidth=1.2, marker="|")
    axis.text(
        1 + found.distance + count / 60,
        1.75,
        f"critical difference {found.distance:.2f}",
        fontsize=SMALL,
        va="center_baseline",
    )
    return float(min(label.get_position()[1] for label in drawn["labels"])) - 0.7


def _subtitle(found: Ranking, titles: dict[str, str]) -> str:
    without = [titles.get(method, method) for method in found.without]
    return (
        f"Mean rank of P over {counted(found.images, 'image')} (1 = highest P): "
        f"{parts.records(found.table)}, {parts.whose(found.table)}; only nets, sizes and samples "
        f"that all {len(found.ranks)} methods have"
        f"{f' (without {listed(without)})' if without else ''}. "
        "Thick bars join methods whose ranks can't be told apart (Nemenyi, 5 %). "
        f"{_friedman(found)}"
    )


def _friedman(found: Ranking) -> str:
    p = "p < 0.001" if found.friedman < 0.001 else f"p = {found.friedman:.3f}"
    if found.friedman < ALPHA:
        return f"Friedman: {p}."
    return f"Friedman's test sees no difference at all ({p})."


def _alt(found: Ranking, names: dict[str, str]) -> str:
    order = found.ranks.sort_values()
    best, worst = str(order.index[0]), str(order.index[-1])
    return (
        f"Critical-difference diagram of {counted(len(order), 'method')} over "
        f"{counted(found.images, 'image')}: {names[best]} ranks best (mean rank "
        f"{order.iloc[0]:.1f}), {names[worst]} worst ({order.iloc[-1]:.1f}); ranks closer than "
        f"{found.distance:.2f} can't be told apart. {_friedman(found)}"
    )
