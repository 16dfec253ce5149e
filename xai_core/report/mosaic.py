"""A page of pictures with captions, in inches from its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xai_core.report import tiles
from xai_core.report.charts.sheet import EDGE, FULL_WIDTH, LINE
from xai_core.report.charts.text import SMALL, TITLE, wrapped
from xai_core.report.palette import INK, QUIET, RULE

if TYPE_CHECKING:
    from xai_core.types import Image

EMPTY = "#F2F2F2"
"""Ground of a cell without a picture."""

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"

KEY_HEIGHT = 0.3
"""Of the two colour scales, in inches."""


class Page:
    """A figure as wide as a printed page that is filled from top to bottom.

    Args:
        height: in inches.
    """

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(FULL_WIDTH, height), facecolor="white")
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set_xlim(0, FULL_WIDTH)
        self._axes.set_ylim(height, 0)
        self._axes.set_autoscale_on(False)

    def text(
        self,
        x: float,
        y: float,
        lines: Sequence[str],
        size: float = SMALL,
        colour: str = INK,
        *,
        bold: bool = False,
        centred: bool = False,
    ) -> float:
        """Lines from (x, y) downwards; the result is the y below them."""
        for line in lines:
            self._axes.text(
                x,
                y,
                line,
                fontsize=size,
                color=colour,
                weight="bold" if bold else "normal",
                ha="center" if centred else "left",
                va="top",
            )
            y += size * LINE
        return y

    def picture(self, x: float, y: float, width: float, height: float, picture: Image) -> None:
        """The picture as large as it fits into the cell, at the middle of its lower edge."""
        rows, columns = picture.shape[:2]
        scale = min(width / columns, height / rows)
        wide, tall = columns * scale, rows * scale
        left, low = x + (width - wide) / 2, y + height
        self._axes.imshow(
            picture,
            extent=(left, left + wide, low, low - tall),
            aspect="auto",
            interpolation="antialiased",
        )

    def empty(self, x: float, y: float, width: float, height: float, words: str = DASH) -> None:
        """A light cell with a dash: there is nothing to be seen."""
        self._axes.add_patch(
            Rectangle((x, y), width, height, facecolor=EMPTY, edgecolor=RULE, linewidth=0.5)
        )
        self.words(x, y, width, height, words)

    def words(self, x: float, y: float, width: float, height: float, words: str) -> None:
        """Words in the middle of a cell."""
        self._axes.text(
            x + width / 2,
            y + height / 2,
            words,
            fontsize=SMALL,
            color=QUIET,
            ha="center",
            va="center",
            bbox={"facecolor": EMPTY, "edgecolor": "none", "pad": 1.5},
        )

    def rule(self, y: float) -> None:
        """A thin line across the page."""
        self._axes.plot([EDGE, FULL_WIDTH - EDGE], [y, y], color=RULE, linewidth=0.6)

    def key(self, y: float) -> None:
        """The two colour scales and what the number below a map means."""
        width, height = 0.9, 0.09
        ramp = np.linspace(-1, 1, 128, dtype=np.float32)[np.newaxis]
        grey = np.full((1, 128, 3), 128, np.uint8)
        for x, picture, ends in (
            (EDGE + 0.2, tiles.diverging(ramp), (f"{MINUS}s", "+s")),
            (EDGE + 2.1, tiles.overlay((ramp + 1) / 2, grey), ("0", "s")),
        ):
            self._axes.imshow(picture, extent=(x, x + width, y + height, y), aspect="auto")
            self.text(x - 0.1, y - 0.015, [ends[0]], centred=True)
            self.text(x + width + 0.11, y - 0.015, [ends[1]], centred=True)
        self.text(
            EDGE + 3.4,
            y - 0.015,
            ["s stands below each map: a map of noise would else", "look as strong as any other."],
            colour=QUIET,
        )


def heading(title: str, subtitle: str) -> tuple[list[str], list[str], float]:
    """Title and subtitle in lines, and their height in inches."""
    inner = FULL_WIDTH - 2 * EDGE
    above, below = wrapped(title, inner, TITLE, bold=True), wrapped(subtitle, inner, SMALL)
    return above, below, 0.04 + len(above) * TITLE * LINE + len(below) * SMALL * LINE + 0.1
