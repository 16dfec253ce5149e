"""Marks that several charts share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from xai_core.report.charts.sheet import Rows
from xai_core.report.charts.text import SMALL, width
from xai_core.report.palette import INK, QUIET, RULE

HALO = [withStroke(linewidth=2.4, foreground="white")]
"""Keeps thin dark lines visible on dark bars."""

PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
"""Interrupts lines behind a number; a halo would turn text into curves."""

MANY = 50
"""Points above this number are pixels, in vector files too, which would be slow to open."""

SAME_CHANCE = 5e-4
"""Levels closer than this are one line: they would be printed as the same number."""


def grid(axis: Axes, ticks: Sequence[float]) -> None:
    """Ticks of an x axis with thin lines above them; the axis ends at the last."""
    decimals = 1 if all(round(tick, 1) == tick for tick in ticks) else 2
    axis.set_xticks(ticks, [f"{tick:.{decimals}f}" if tick else "0" for tick in ticks])
    axis.spines["bottom"].set_bounds(ticks[0], ticks[-1])
    axis.set_xlim(left=ticks[0])
    axis.vlines(
        ticks[1:], 0, 1, colors=RULE, linewidth=0.5, transform=axis.get_xaxis_transform(), zorder=0
    )
    axis.axvline(0, color=QUIET, linewidth=0.6, zorder=4)


def steps(highest: float) -> tuple[float, ...]:
    """Three to six round ticks from 0 to `highest` <= 1 or a little less."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if highest / s <= 6 or s == 0.5)
    return tuple(round(i * step, 6) for i in range(math.floor(highest / step + 1e-9) + 1))


def chance_line(axis: Axes, rows: Rows, levels: Mapping[str, float], panel_width: float) -> None:
    """Chance as a dashed line through all rows, or as one dash a row where it differs.

    Args:
        axis: of the panel.
        rows: of the panel.
        levels: method id to the chance level of its records.
        panel_width: in inches, so that the label stays above the panel.
    """
    values = list(levels.values())
    middle = sum(values) / len(values)
    same = max(values) - min(values) < SAME_CHANCE
    spans = (
        [(middle, 0.0, rows.count)]
        if same
        else [(levels[r.method], r.at - 0.5, r.at + 0.5) for r in rows.rows if r.method in levels]
    )
    for x, top, bottom in spans:
        axis.plot([x, x], [top, bottom], color="white", linewidth=1.8, zorder=2.4)
        axis.plot([x, x], [top, bottom], color=INK, linewidth=0.8, dashes=(3, 1.6), zorder=2.5)
    label = f"chance {middle:.3f}" if same else "chance"
    left, right = axis.get_xlim()
    half = width(label, SMALL) / 2 / panel_width * (right - left)
    axis.text(
        min(max(middle, left + half), right - half),
        -0.12,
        label,
        fontsize=SMALL,
        color=INK,
        ha="center",
        va="bottom",
    )
    axis.plot([middle, middle], [-0.1, 0], color=INK, linewidth=0.8, clip_on=False)


def absent(axis: Axes, at: float, words: str = "no records") -> None:
    """In place of a bar: the method is not defined here, or was not computed."""
    axis.text(
        0.02,
        at,
        words,
        fontsize=SMALL,
        color=QUIET,
        style="italic",
        va="center_baseline",
        zorder=5,
        bbox=PLATE,
        transform=axis.get_yaxis_transform(),
    )
