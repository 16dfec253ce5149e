"""How P spreads over the records: points and box of each method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from xai_core.report.charts import marks, parts
from xai_core.report.charts.chart import Chart
from xai_core.report.charts.sheet import label_room, label_rows, method_rows, sheet
from xai_core.report.charts.text import SMALL, width
from xai_core.report.palette import INK, colour_of, lightened
from xai_core.report.ranking import in_order
from xai_core.report.summary import Summary

TITLE = "Distribution of concentration P"
ROW, BOX, SPREAD = 0.24, 0.46, 0.84
"""Height of a row in inches; of a box and of the points' band in rows."""

ENOUGH = 8
"""Records below which a box would pretend to know quartiles."""

GOLDEN = (5**0.5 - 1) / 2


def draw(table: pd.DataFrame, summary: Summary) -> Chart:
    """One row a method; trained and random nets apart."""
    groups = parts.by_training(table)
    rows = method_rows(parts.methods_of(table, summary), summary.titles, set(summary.baselines))
    room = label_room(rows)
    page = sheet(
        TITLE,
        f"{parts.source(table)}. Dots: records. Box: quartiles. Thick line and number: median.",
        [parts.panel_title(random, part, len(groups)) for random, part in groups],
        rows.count * ROW,
        room,
        above=SMALL * 1.35 / 72,
    )
    number = width("0.000", SMALL) + 0.06
    for (_, part), axis, first in zip(groups, page.panels, page.first, strict=True):
        marks.grid(axis, marks.steps(1.0))
        axis.set_xlim(0, 1 / (1 - number / page.panel_width))
        for row in rows.rows:
            values = part.loc[part["method"] == row.method, "concentration"].to_numpy(float)
            if len(values):
                _row(axis, row.at, values, colour_of(row.method))
            else:
                marks.absent(axis, row.at)
        marks.chance_line(
            axis, rows, parts.by_name(part.groupby("method")["chance"].mean()), page.panel_width
        )
        label_rows(axis, rows, room, page, first)
        axis.set_xlabel("P", fontsize=SMALL, color=INK, labelpad=1.5)
    return Chart("distribution", TITLE, _alt(groups, summary), page.figure)


def jitter(count: int) -> npt.NDArray[np.float64]:
    """`count` offsets in [-1/2, 1/2), spread evenly and the same every time."""
    return np.asarray((0.5 + np.arange(count) * GOLDEN) % 1 - 0.5)


def _row(axis: Axes, at: float, values: npt.NDArray[np.float64], colour: str) -> None:
    axis.scatter(
        values,
        at + SPREAD * jitter(len(values)),
        s=1.6 if len(values) > marks.MANY else 4.0,
        color=lightened(colour, 0.15),
        linewidths=0,
        rasterized=len(values) > marks.MANY,
        zorder=1,
    )
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if len(values) >= ENOUGH:
        axis.add_patch(
            Rectangle(
                (low, at - BOX / 2),
                high - low,
                BOX,
                fill=False,
                edgecolor=INK,
                linewidth=0.8,
                zorder=3,
                path_effects=marks.HALO,
            )
        )
    axis.plot(
        [middle, middle],
        [at - BOX / 2 - 0.08, at + BOX / 2 + 0.08],
        color=INK,
        linewidth=2.0,
        solid_capstyle="butt",
        zorder=3.5,
        path_effects=marks.HALO,
    )
    axis.text(
        1,
        at,
        f"{middle:.3f}",
        fontsize=SMALL,
        color=INK,
        ha="right",
        va="center_baseline",
        transform=axis.get_yaxis_transform(),
    )


def _alt(groups: list[tuple[bool, pd.DataFrame]], summary: Summary) -> str:
    sentences = []
    for random, part in groups:
        medians = in_order(part.groupby("method")["concentration"].median())
        ends = [
            f"{summary.titles.get(str(method), str(method))} {median:.3f}"
            for method, median in (
                (medians.index[0], medians.iloc[0]),
                (medians.index[-1], medians.iloc[-1]),
            )
        ]
        text = (
            f"Highest median: {ends[0]}, lowest: {ends[1]}"
            if medians.nunique() > 1
            else f"Every median is {medians.iloc[0]:.3f}"
        )
        sentences.append(f"{text} ({parts.training(random).lower()}).")
    return f"Box plots of P, one a method. {' '.join(sentences)}"
