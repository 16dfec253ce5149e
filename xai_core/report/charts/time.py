"""Time per method, as measured by pytest-benchmark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pandas as pd
from matplotlib.axes import Axes

from xai_core.report.charts import marks, parts
from xai_core.report.charts.chart import Chart
from xai_core.report.charts.sheet import (
    PanelTitle,
    Rows,
    label_room,
    label_rows,
    method_rows,
    sheet,
)
from xai_core.report.charts.text import SMALL, counted, width
from xai_core.report.palette import INK, RULE, colour_of
from xai_core.report.summary import Summary, Timing

TITLE = "Time per image of each method alone"
ROW = 0.168
NUMBER = width("0,000", SMALL) + 0.12
APART = 0.06
"""Inches between the labels of two ticks, at least."""


def draw(summary: Summary) -> Chart | None:
    """One panel a net and size, one logarithmic axis for all; None without timings."""
    if not summary.timings:
        return None
    timings = pd.DataFrame([vars(timing) for timing in summary.timings])
    rows = method_rows(parts.methods_of(timings, summary), summary.titles, set(summary.baselines))
    room = label_room(rows)
    groups = [
        (net, size, timings[(timings["net"] == net) & (timings["size"] == size)])
        for size in parts.sizes_of(timings)
        for net in sorted(set(timings.loc[timings["size"] == size, "net"]))
    ]
    page = sheet(
        TITLE,
        f"Median of {_rounds(summary.timings)} on one image, logarithmic axis. Lines: "
        "interquartile range around it.",
        [PanelTitle(net, parts.sizes(own)) for net, _, own in groups],
        rows.count * ROW,
        room,
        above=0.03,
    )
    low, high = _range(timings)
    room_right = NUMBER / (page.panel_width - NUMBER) * (high - low)
    for (_, _, own), axis, first, lowest in zip(
        groups, page.panels, page.first, page.bottom, strict=True
    ):
        _panel(axis, own, rows, (low, high), page.panel_width - NUMBER)
        axis.set_xlim(low, high + room_right)
        label_rows(axis, rows, room, page, first)
        if lowest:
            axis.set_xlabel("milliseconds", fontsize=SMALL, color=INK, labelpad=1.5)
    return Chart("time", TITLE, _alt(timings, summary), page.figure)


def _panel(
    axis: Axes, own: pd.DataFrame, rows: Rows, limits: tuple[float, float], inches: float
) -> None:
    labelled = ticks(*limits, inches)
    places = [math.log10(tick) for tick in labelled]
    axis.set_xticks(places, [label(tick) for tick in labelled])
    axis.spines["bottom"].set_bounds(*limits)
    axis.vlines(
        places, 0, 1, colors=RULE, linewidth=0.5, transform=axis.get_xaxis_transform(), zorder=0
    )
    known = own.set_index("method")
    for row in rows.rows:
        if row.method not in known.index:
            marks.absent(axis, row.at, "not timed")
            continue
        median = 1000 * float(known["median"][row.method])
        spread = 1000 * float(known["iqr"][row.method])
        ends = [_log(median - spread / 2), _log(median + spread / 2)]
        ends[0] = max(ends[0], limits[0])
        axis.plot(ends, [row.at] * 2, color=INK, linewidth=0.9, zorder=3)
        axis.scatter(
            _log(median),
            row.at,
            s=22,
            color=colour_of(row.method),
            edgecolor=INK,
            linewidths=0.5,
            zorder=4,
        )
        axis.annotate(
            f"{median:,.{0 if median >= 100 else 1}f}",
            (max(ends[1], _log(median)), row.at),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=SMALL,
            color=INK,
            va="center_baseline",
            bbox=marks.PLATE,
            zorder=2,
        )


def _range(timings: pd.DataFrame) -> tuple[float, float]:
    """Limits of the axis in log10 milliseconds: all medians and spreads, and some air."""
    low = min(_log(1000 * m) for m in timings["median"])
    high = max(
        _log(1000 * (m + s / 2)) for m, s in zip(timings["median"], timings["iqr"], strict=True)
    )
    return low - 0.12, max(high, low + 0.3) + 0.05


def ticks(low: float, high: float, inches: float) -> list[float]:
    """The densest round numbers of a logarithmic axis whose labels stand apart.

    Args:
        low: left limit, log10 of what is labelled.
        high: right limit, likewise.
        inches: from `low` to `high`.

    Returns:
        1, 2, 5, 10, ..., or 1, 3, 10, ..., or powers of ten, within the limits.
    """
    exponents = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        all_of = [step * 10.0**exponent for exponent in exponents for step in steps]
        inside = [tick for tick in all_of if low <= math.log10(tick) <= high]
        if all(
            (math.log10(right) - math.log10(left)) / (high - low) * inches
            >= (width(label(left), SMALL) + width(label(right), SMALL)) / 2 + APART
            for left, right in pairwise(inside)
        ):
            break
    return inside


def label(tick: float) -> str:
    """As it stands below the axis: no exponent, no trailing zeros."""
    return f"{tick:,g}"


def _log(milliseconds: float) -> float:
    return math.log10(max(milliseconds, 1e-3))


def _rounds(timings: Sequence[Timing]) -> str:
    numbers = sorted({timing.rounds for timing in timings})
    if len(numbers) == 1:
        return counted(numbers[0], "round")
    return f"{numbers[0]} to {numbers[-1]} rounds"


def _alt(timings: pd.DataFrame, summary: Summary) -> str:
    ordered = timings.sort_values("median")
    ends = [
        f"{summary.titles.get(row.method, row.method)} on {row.net} at {parts.sizes(one)}, "
        f"{1000 * row['median']:.1f} ms"
        for row, one in ((ordered.iloc[at], ordered.iloc[[at]]) for at in (0, -1))
    ]
    return f"Dots on a logarithmic axis. Fastest: {ends[0]}. Slowest: {ends[1]}."
