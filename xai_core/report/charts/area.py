"""P against the mask's share of the image, method by method."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from xai_core.report.charts import marks, parts
from xai_core.report.charts.chart import Chart
from xai_core.report.charts.sheet import PanelTitle, sheet
from xai_core.report.charts.text import SMALL, counted
from xai_core.report.palette import INK, RULE, colour_of
from xai_core.report.summary import Summary

TITLE = "Concentration P against mask area"
TICKS = (0.0, 0.05, 0.2, 0.5, 1.0)
FIFTHS, ENOUGH = 5, 25
"""Groups of records behind the line, and records without which there is none."""

LEFT, BELOW, ALONE = 0.36, 0.34, 2.4
"""Inches: room for labels left and below, side of the panel of a single method."""


def draw(table: pd.DataFrame, summary: Summary) -> Chart:
    """One square panel a method, both axes as square roots because most objects are small.

    Of trained nets; of random ones only if no net was trained.
    """
    _, part = parts.by_training(table)[0]
    methods = parts.methods_of(part, summary)
    groups = {method: part[part["method"] == method] for method in methods}
    lines = any(len(own) >= ENOUGH for own in groups.values())
    page = sheet(
        TITLE,
        f"{parts.source(part)}. Dots: records. "
        + ("Line: mean P in fifths of the records, by area. " if lines else "")
        + "Dashed: chance, the P of a uniform map. Axes are scaled by square roots.",
        [_title(method, own, summary) for method, own in groups.items()],
        None if len(methods) > 1 else ALONE,
        LEFT,
        above=0.03,
        below=BELOW if len(methods) == 1 else 0.22,
        foot=0.0 if len(methods) == 1 else BELOW - 0.22,
    )
    for method, axis, first, lowest in zip(
        methods, page.panels, page.first, page.bottom, strict=True
    ):
        _panel(axis, groups[method], colour_of(method))
        if first:
            axis.set_ylabel("P", fontsize=SMALL, color=INK, labelpad=1.5)
        else:
            axis.tick_params(labelleft=False)
        if lowest:
            axis.set_xlabel("dilated mask / image", fontsize=SMALL, color=INK, labelpad=1.5)
    return Chart("area", TITLE, _alt(groups, summary), page.figure)


def fifths(
    shares: npt.NDArray[np.float64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean share and mean value of five equal groups of records, from small to large shares."""
    order = np.argsort(shares, kind="stable")
    groups = np.array_split(order, FIFTHS)
    means = np.array([(shares[group].mean(), values[group].mean()) for group in groups])
    return means[:, 0], means[:, 1]


def _title(method: str, own: pd.DataFrame, summary: Summary) -> PanelTitle:
    kind = "reference, " if method in summary.baselines else ""
    return PanelTitle(
        summary.titles.get(method, method), f"{kind}mean P {own['concentration'].mean():.3f}"
    )


def _panel(axis: Axes, own: pd.DataFrame, colour: str) -> None:
    shares, values = own["chance"].to_numpy(float), own["concentration"].to_numpy(float)
    places = np.sqrt(TICKS)
    labels = [f"{tick:g}" for tick in TICKS]
    axis.set_xticks(places, labels)
    axis.set_yticks(places, labels)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.spines["left"].set(visible=True, color=RULE, linewidth=0.6)
    axis.vlines(places[1:], 0, 1, colors=RULE, linewidth=0.5, zorder=0)
    axis.hlines(places[1:], 0, 1, colors=RULE, linewidth=0.5, zorder=0)
    axis.scatter(
        np.sqrt(shares),
        np.sqrt(np.clip(values, 0, 1)),
        s=2.2,
        color=colour,
        linewidths=0,
        rasterized=len(values) > marks.MANY,
        clip_on=False,
        zorder=1,
    )
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, dashes=(3, 1.6), zorder=2)
    if len(values) >= ENOUGH:
        x, y = fifths(shares, values)
        axis.plot(
            np.sqrt(x),
            np.sqrt(y),
            color=INK,
            linewidth=1.1,
            marker="o",
            markersize=2.6,
            path_effects=marks.HALO,
            zorder=3,
        )


def _alt(groups: dict[str, pd.DataFrame], summary: Summary) -> str:
    lines = []
    for method, own in groups.items():
        if len(own) < ENOUGH or method in summary.baselines:
            continue
        shares, means = fifths(own["chance"].to_numpy(float), own["concentration"].to_numpy(float))
        lines.append((means[-1] - means[0], summary.titles.get(method, method), means, shares))
    count = counted(len(groups), "method")
    head = f"Scatter of P against the dilated mask's share of the image, {count}."
    if not any(trend for trend, *_ in lines):
        return f"{head} The diagonal is chance."
    _, name, means, shares = max(lines, key=lambda line: abs(line[0]))
    return (
        f"{head} Strongest trend: {name}, whose mean P goes from {means[0]:.3f} in the fifth with "
        f"the smallest masks (mean share {shares[0]:.3f}) to {means[-1]:.3f} in the fifth with the "
        f"largest ({shares[-1]:.3f})."
    )
