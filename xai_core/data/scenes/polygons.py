"""A pixel mask as COCO polygons that pycocotools rasterises to exactly this mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

Mask = NDArray[np.bool_]


def polygons_of(mask: Mask) -> list[list[float]]:
    """Outlines along pixel edges, one for each run-free piece of the mask.

    Pieces with holes have no single outline: they are cut into bands of rows until none is left.

    Args:
        mask: (H, W) with at least one pixel.

    Raises:
        ValueError: pycocotools does not give the mask back; the segmentation would not be exact.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    polygons: list[list[float]] = []
    for label in range(1, count):
        polygons += _pieces(labels == label)
    if not np.array_equal(rasterise(polygons, *mask.shape), mask):
        raise ValueError("pycocotools does not give this mask back from its outlines")
    return polygons


def rasterise(polygons: list[list[float]], height: int, width: int) -> Mask:
    """The union of polygons, as pycocotools draws it."""
    return np.asarray(rle.decode(rle.merge(rle.frPyObjects(polygons, height, width))), np.bool_)


def _pieces(piece: Mask) -> list[list[float]]:
    if not _has_hole(piece):
        return [_outline(piece)]
    rows = np.flatnonzero(piece.any(axis=1))
    middle = (rows[0] + rows[-1] + 1) // 2
    polygons: list[list[float]] = []
    for half in (slice(None, middle), slice(middle, None)):
        part = np.zeros_like(piece)
        part[half] = piece[half]
        count, labels = cv2.connectedComponents(part.astype(np.uint8), connectivity=4)
        for label in range(1, count):
            polygons += _pieces(labels == label)
    return polygons


def _has_hole(piece: Mask) -> bool:
    """Whether background is enclosed; diagonal neighbours don't let it out."""
    around = np.pad(~piece, 1, constant_values=True).astype(np.uint8)
    return cv2.connectedComponents(around, connectivity=4)[0] > 2


def _outline(piece: Mask) -> list[float]:
    """The corners of the piece's one boundary, walked with its pixels at the right hand."""
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    padded = np.pad(piece, 1)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):  # walking right means an edge on top, ...
        outside = np.roll(padded, (dx, -dy), (0, 1))
        for y, x in np.argwhere(padded & ~outside) - 1:
            corner = int(y) + (dy < 0 or dx < 0), int(x) + (dx < 0 or dy > 0)
            steps.setdefault(corner, []).append((dy, dx))
    corner = min(steps)
    direction = steps[corner][0]
    points: list[tuple[int, int]] = []
    for _ in range(sum(len(directions) for directions in steps.values())):
        leaving = steps[corner]
        turn = _rightmost(direction, leaving)
        if turn != direction or not points:
            points.append(corner)
        leaving.remove(turn)
        direction = turn
        corner = corner[0] + turn[0], corner[1] + turn[1]
    return [float(value) for y, x in points for value in (x, y)]


def _rightmost(direction: tuple[int, int], leaving: list[tuple[int, int]]) -> tuple[int, int]:
    """The way on from a corner that was reached in ``direction``.

    Two ways leave where two pixels touch diagonally: one turns left, one right. The right turn
    keeps to the pixel at the right hand.
    """
    if len(leaving) == 1:
        return leaving[0]
    dy, dx = direction
    return dx, -dy
