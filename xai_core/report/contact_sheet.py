"""All maps of one picture on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.figure import Figure

from xai_core.report import tiles
from xai_core.report.charts.chart import STYLE
from xai_core.report.charts.sheet import EDGE, FULL_WIDTH, LINE
from xai_core.report.charts.text import BODY, SMALL, TITLE, wrapped
from xai_core.report.gallery import GAP, scale
from xai_core.report.mosaic import KEY_HEIGHT, Page, heading
from xai_core.report.palette import QUIET
from xai_core.report.previews import Preview, full_colour, shrink, shrunk_image

if TYPE_CHECKING:
    from xai_core.types import Image

COLUMNS = 4


def draw(
    image: Image,
    maps: Mapping[str, npt.NDArray[np.floating]],
    reasons: Mapping[str, str],
    title: str,
    subtitle: str,
) -> Figure:
    """The image first, then a tile a method.

    Args:
        image: uint8 RGB.
        maps: name of the method to its map, (C, H, W).
        reasons: name of a method without a map to the reason.
        title: of the page.
        subtitle: below it.
    """
    with rc_context(STYLE):
        above, below, top = heading(title, subtitle)
        side = (FULL_WIDTH - 2 * EDGE - (COLUMNS - 1) * GAP) / COLUMNS
        shown = {name: _preview(values) for name, values in maps.items()}
        height, width = image.shape[:2]
        if shown:
            height, width = next(iter(shown.values())).values.shape
        small = shrunk_image(image, height, width)
        tall = side * min(1.5, height / width)
        cells = 1 + len(maps) + len(reasons)
        row_height = BODY * LINE + tall + SMALL * LINE + 0.12
        page = Page(top + math.ceil(cells / COLUMNS) * row_height + KEY_HEIGHT)
        page.text(EDGE, page.text(EDGE, 0.04, above, TITLE, bold=True), below, colour=QUIET)

        def place(index: int) -> tuple[float, float]:
            row, column = divmod(index, COLUMNS)
            return EDGE + column * (side + GAP), top + row * row_height

        x, y = place(0)
        page.text(x, y, ["Image"], BODY, bold=True)
        page.picture(x, y + BODY * LINE + 0.02, side, tall, small)
        for index, name in enumerate([*maps, *reasons], 1):
            x, y = place(index)
            at = y + BODY * LINE + 0.02
            page.text(x, y, [name], BODY, bold=True)
            if name in reasons:
                page.empty(x, at, side, tall, "\n".join(wrapped(reasons[name], side - 0.1, SMALL)))
                continue
            page.picture(x, at, side, tall, tiles.colour(shown[name], small))
            page.text(x, at + tall + 0.02, [scale(shown[name])], colour=QUIET)
        page.key(top + math.ceil(cells / COLUMNS) * row_height + 0.04)
    return page.figure


def _preview(values: npt.NDArray[np.floating]) -> Preview:
    unit, peak = shrink(values)
    share = full_colour(unit)
    shown = np.clip(unit / share, -1, 1).astype(np.float32)
    return Preview(shown, share * peak, peak, heat=values.shape[0] == 1)
