"""Where things lie: a heading, panels side by side with shared rows, notes below; all in inches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xai_core.report.charts.text import BODY, SMALL, TITLE, shortened, width, wrapped
from xai_core.report.palette import INK, QUIET, RULE

ONE_COLUMN, FULL_WIDTH = 3.5, 7.2
"""Of a printed page."""

EDGE, GUTTER, MAX_COLUMNS = 0.06, 0.16, 4
LINE = 1.35 / 72
"""Line height in inches per point of font size."""

MAX_LABEL = 1.75


@dataclass(frozen=True)
class Row:
    """One method's place in a panel.

    Attributes:
        method: its id.
        label: its name, short enough.
        at: y of its middle, counted downwards in rows.
    """

    method: str
    label: str
    at: float


@dataclass(frozen=True)
class Rows:
    """The methods' places, the same in all panels of a chart.

    Attributes:
        rows: from top to bottom.
        divider: y of the heading above the reference methods; None without them, or nothing else.
    """

    rows: tuple[Row, ...]
    divider: float | None

    @property
    def count(self) -> float:
        """Height in rows."""
        return self.rows[-1].at + 0.5


def method_rows(methods: Sequence[str], titles: Mapping[str, str], baselines: set[str]) -> Rows:
    """The methods in their order, the reference methods after a gap."""
    ahead = [method for method in methods if method not in baselines]
    behind = [method for method in methods if method in baselines]
    gap = 0.95 if ahead and behind else 0.0
    places = [
        *((method, i + 0.5) for i, method in enumerate(ahead)),
        *((method, i + 0.5 + len(ahead) + gap) for i, method in enumerate(behind)),
    ]
    rows = tuple(
        Row(method, shortened(titles.get(method, method), MAX_LABEL), at) for method, at in places
    )
    return Rows(rows, len(ahead) + gap / 2 if gap else None)


@dataclass(frozen=True)
class PanelTitle:
    """Above a panel.

    Attributes:
        name: bold.
        note: smaller, below the name.
    """

    name: str
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """A figure with empty panels.

    Attributes:
        figure: has its heading and notes.
        panels: axes in reading order.
        first: of each panel, whether it lies in the first column.
        bottom: of each panel, whether no other lies below it.
        panel_width: in inches.
    """

    figure: Figure
    panels: list[Axes]
    first: list[bool]
    bottom: list[bool]
    panel_width: float


def sheet(
    title: str,
    subtitle: str,
    panels: Sequence[PanelTitle],
    height: float | None,
    left: float,
    *,
    notes: Sequence[str] = (),
    above: float = 0.0,
    below: float = 0.33,
    foot: float = 0.0,
    full: bool | None = None,
) -> Sheet:
    """Lay out a chart.

    Args:
        title: bold; broken into lines where it must.
        subtitle: what the chart is made from.
        panels: their titles; at most four side by side.
        height: of a panel; None makes panels square.
        left: room for labels left of the first column.
        notes: below the panels.
        above: room between a panel's title and the panel.
        below: room for the labels of an axis below each panel.
        foot: the same, below the lowest panels alone.
        full: whether the chart is as wide as the page, not one column; by default if it has more
            than one panel.
    """
    full = len(panels) > 1 if full is None else full
    page = FULL_WIDTH if full else ONE_COLUMN
    inner = page - 2 * EDGE
    rows = math.ceil(len(panels) / MAX_COLUMNS)
    columns = math.ceil(len(panels) / rows)
    panel_width = (inner - left - GUTTER * (columns - 1)) / columns
    tall = panel_width if height is None else height

    heads = [wrapped(title, inner, TITLE, bold=True), wrapped(subtitle, inner, SMALL)]
    top = 0.04 + _lines(heads[0], TITLE) + _lines(heads[1], SMALL) + 0.08
    titles = [
        (wrapped(panel.name, panel_width, BODY, bold=True), wrapped(panel.note, panel_width, SMALL))
        for panel in panels
    ]
    title_room = [
        max(_lines(name, BODY) + _lines(note, SMALL) for name, note in row) + above
        for row in (titles[at : at + columns] for at in range(0, len(panels), columns))
    ]
    ending = [line for note in notes for line in wrapped(note, inner, SMALL)]
    full_height = (
        top + sum(title_room) + rows * tall + below * rows + foot + _lines(ending, SMALL) + 0.03
    )

    figure = Figure(figsize=(page, full_height), facecolor="white")
    y = full_height - 0.04
    for lines, size, colour, weight in (
        (heads[0], TITLE, INK, "bold"),
        (heads[1], SMALL, QUIET, "normal"),
    ):
        _write(figure, lines, EDGE, y, size, colour, weight)
        y -= _lines(lines, size)
    _write(figure, ending, EDGE, 0.03 + _lines(ending, SMALL), SMALL, QUIET)

    axes = []
    y = full_height - top
    for index, (name, note) in enumerate(titles):
        row, column = divmod(index, columns)
        if column == 0:
            y -= title_room[row] + tall + (below if row else 0)
        x = EDGE + left + column * (panel_width + GUTTER)
        axis = figure.add_axes((x / page, y / full_height, panel_width / page, tall / full_height))
        _quiet(axis)
        upper = y + tall + above + _lines(name, BODY) + _lines(note, SMALL)
        _write(figure, name, x, upper, BODY, INK, "bold")
        _write(figure, note, x, upper - _lines(name, BODY), SMALL, QUIET)
        axes.append(axis)
    bottom = [index + columns >= len(panels) for index in range(len(panels))]
    first = [index % columns == 0 for index in range(len(panels))]
    return Sheet(figure, axes, first, bottom, panel_width)


def label_room(rows: Rows) -> float:
    """Inches that the labels of `label_rows` need."""
    heading = width("Reference methods", SMALL) if rows.divider is not None else 0.0
    return max(heading, *(width(row.label) for row in rows.rows)) + 0.1


def label_rows(axis: Axes, rows: Rows, room: float, page: Sheet, first: bool) -> None:
    """Set the panel's y axis to the rows and, in the first column, name them."""
    axis.set_ylim(rows.count, 0)
    axis.set_yticks([])
    start = -room / page.panel_width
    if first:
        for row in rows.rows:
            axis.text(
                -0.06 / page.panel_width,
                row.at,
                row.label,
                ha="right",
                va="center_baseline",
                color=INK,
                transform=axis.get_yaxis_transform(),
            )
    if rows.divider is not None:
        axis.plot(
            [start if first else 0, 1],
            [rows.divider - 0.4] * 2,
            color=RULE,
            linewidth=0.6,
            transform=axis.get_yaxis_transform(),
            clip_on=False,
            zorder=0.5,
        )
        if first:
            axis.text(
                -0.06 / page.panel_width,
                rows.divider,
                "Reference methods",
                ha="right",
                va="center_baseline",
                color=QUIET,
                fontsize=SMALL,
                style="italic",
                transform=axis.get_yaxis_transform(),
            )


def _quiet(axis: Axes) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(QUIET)
    axis.spines["bottom"].set_linewidth(0.6)
    axis.tick_params(
        length=2.5, width=0.6, pad=2, color=QUIET, labelcolor=INK, labelsize=SMALL, which="both"
    )
    axis.set_axisbelow(True)


def _lines(lines: Sequence[str], size: float) -> float:
    return len(lines) * size * LINE


def _write(
    figure: Figure,
    lines: Sequence[str],
    x: float,
    y: float,
    size: float,
    colour: str,
    weight: str = "normal",
) -> None:
    """Lines from their upper left corner, in inches."""
    page, tall = figure.get_size_inches()
    for line in lines:
        figure.text(x / page, y / tall, line, fontsize=size, color=colour, weight=weight, va="top")
        y -= size * LINE
