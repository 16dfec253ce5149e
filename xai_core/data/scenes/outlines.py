"""Outlines of simple shapes and letters in local coordinates, each an array (n, 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from xai_core.data.scenes.canvas import Points

_CURVES: Final[dict[str, tuple[tuple[tuple[float, float], ...], ...]]] = {
    # Control points in a box of width 0.6 and height 1; a path of more than two points is rounded.
    "S": (((0.57, 0.22), (0.55, 0.0), (0.05, 0.0), (0.02, 0.42), (0.3, 0.47), (0.58, 0.55),
           (0.58, 1.0), (0.05, 1.0), (0.02, 0.76)),),
    "T": (((0.0, 0.06), (0.6, 0.06)), ((0.3, 0.0), (0.3, 1.03))),
    "O": (((0.3, 0.02), (0.02, 0.02), (0.02, 0.5), (0.02, 0.98), (0.3, 0.98), (0.58, 0.98),
           (0.58, 0.5), (0.58, 0.02), (0.29, 0.02)),),
    "P": (((0.1, -0.03), (0.1, 1.03)),
          ((0.1, 0.05), (0.3, 0.05), (0.6, 0.03), (0.6, 0.57), (0.3, 0.55), (0.1, 0.55))),
    "0": (((0.3, 0.02), (0.04, 0.02), (0.04, 0.5), (0.04, 0.98), (0.3, 0.98), (0.56, 0.98),
           (0.56, 0.5), (0.56, 0.02), (0.29, 0.02)),),
    "1": (((0.12, 0.2), (0.36, 0.02)), ((0.34, 0.0), (0.34, 1.0))),
    "2": (((0.06, 0.25), (0.1, 0.0), (0.58, 0.0), (0.56, 0.4), (0.06, 0.94)),
          ((0.04, 0.94), (0.58, 0.94))),
    "3": (((0.06, 0.12), (0.2, 0.0), (0.56, 0.02), (0.52, 0.46), (0.22, 0.47)),
          ((0.22, 0.47), (0.58, 0.46), (0.6, 0.98), (0.2, 1.0), (0.04, 0.86))),
    "4": (((0.42, 0.0), (0.04, 0.7)), ((0.0, 0.7), (0.6, 0.7)), ((0.42, 0.0), (0.42, 1.0))),
    "5": (((0.1, 0.05), (0.54, 0.05)), ((0.12, 0.02), (0.09, 0.48)),
          ((0.08, 0.44), (0.4, 0.34), (0.62, 0.56), (0.52, 1.0), (0.2, 1.0), (0.04, 0.88))),
    "6": (((0.5, 0.04), (0.1, 0.1), (0.04, 0.6), (0.04, 0.98), (0.3, 0.98), (0.58, 0.98),
           (0.58, 0.46), (0.3, 0.44), (0.08, 0.5)),),
    "7": (((0.02, 0.05), (0.6, 0.05)), ((0.58, 0.04), (0.22, 1.0))),
    "8": (((0.3, 0.46), (0.06, 0.46), (0.06, 0.0), (0.3, 0.0), (0.54, 0.0), (0.54, 0.46),
           (0.29, 0.46)),
          ((0.3, 0.46), (0.02, 0.46), (0.02, 1.0), (0.3, 1.0), (0.58, 1.0), (0.58, 0.46),
           (0.29, 0.46))),
    "9": (((0.1, 0.96), (0.5, 0.9), (0.56, 0.4), (0.56, 0.02), (0.3, 0.02), (0.02, 0.02),
           (0.02, 0.54), (0.3, 0.56), (0.52, 0.5)),),
    "I": (((0.3, 0.0), (0.3, 1.0)),),
    "V": (((0.04, 0.0), (0.3, 1.0)), ((0.56, 0.0), (0.3, 1.0))),
    "X": (((0.04, 0.0), (0.56, 1.0)), ((0.56, 0.0), (0.04, 1.0))),
}  # fmt: skip
_NARROW: Final = {"I": 0.28, "1": 0.5}


def rounded(path: ArrayLike, rounds: int = 3) -> Points:
    """Chaikin's corner cutting of an open path."""
    points = np.asarray(path, np.float64)
    for _ in range(rounds):
        a, b = points[:-1], points[1:]
        inner = np.stack([a * 0.75 + b * 0.25, a * 0.25 + b * 0.75], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], inner, points[-1:]])
    return points


def ribbon(path: ArrayLike, width: float | Points) -> Points:
    """A stroke of ``width`` (constant or per point) along a path, flat-ended, as one polygon."""
    points = np.asarray(path, np.float64)
    tangent = np.gradient(points, axis=0)
    tangent /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-9)[:, None]
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    offset = normal * (np.broadcast_to(width, len(points))[:, None] / 2)
    return np.concatenate([points + offset, (points - offset)[::-1]])


def ellipse(cx: float, cy: float, rx: float, ry: float, count: int = 48) -> Points:
    """An ellipse with axes along x and y."""
    angle = np.arange(count) * (2 * math.pi / count)
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def regular(sides: int, radius: float, turn: float = 0.0) -> Points:
    """A regular polygon around the origin."""
    angle = np.arange(sides) * (2 * math.pi / sides) + turn
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def box(x0: float, y0: float, x1: float, y1: float, corner: float = 0.0) -> Points:
    """A rectangle, its corners rounded with radius ``corner``."""
    if corner <= 0:
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    turns = np.arange(6) * (math.pi / 10)
    arc = np.stack([np.cos(turns), np.sin(turns)], 1) * corner
    parts = []
    for cx, cy, quarter in ((x1, y1, 0), (x0, y1, 1), (x0, y0, 2), (x1, y0, 3)):
        cos, sin = round(math.cos(quarter * math.pi / 2)), round(math.sin(quarter * math.pi / 2))
        turned = arc @ np.array([[cos, sin], [-sin, cos]])
        inset = np.array(
            [cx + (corner if cx == x0 else -corner), cy + (corner if cy == y0 else -corner)]
        )
        parts.append(turned + inset)
    return np.concatenate(parts)


def rotated(points: ArrayLike, angle: float, shift: tuple[float, float] = (0.0, 0.0)) -> Points:
    """Points turned around the origin, then moved."""
    cos, sin = math.cos(angle), math.sin(angle)
    turned = np.asarray(points, np.float64) @ np.array([[cos, sin], [-sin, cos]])
    return np.asarray(turned + np.array(shift), np.float64)


def text(letters: str, height: float, stroke: float, gap: float = 0.14) -> list[Points]:
    """Strokes of a word centred on the origin; ``stroke`` and ``gap`` in letter heights."""
    widths = [_NARROW.get(letter, 0.6) for letter in letters]
    x = -(sum(widths) + gap * (len(letters) - 1)) / 2
    polygons = []
    for letter, width in zip(letters, widths, strict=True):
        for path in _CURVES[letter]:
            line: Sequence[tuple[float, float]] | Points = path
            if len(path) > 2:
                line = rounded(path)
            centred = np.asarray(line) + np.array([x + (width - 0.6) / 2, -0.5])
            polygons.append(ribbon(centred, stroke) * height)
        x += width + gap
    return polygons
