"""Mask operations by their definitions: all pairs of pixels, exact integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.ndimage import distance_transform_edt


def resize_nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each new pixel takes the old pixel that its centre falls into."""
    rows, columns = mask.shape
    out = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            row = (2 * y + 1) * rows // (2 * height)
            column = (2 * x + 1) * columns // (2 * width)
            out[y, x] = mask[row, column]
    return out


def squared_distances(mask: np.ndarray) -> np.ndarray:
    """For each pixel the squared distance to the nearest pixel of the mask, by all pairs."""
    inside = np.argwhere(mask)
    out = np.zeros(mask.shape, dtype=int)
    for pixel in np.ndindex(mask.shape):
        out[pixel] = min(((point - pixel) ** 2).sum() for point in inside)
    return out


def squared_distances_edt(mask: np.ndarray) -> np.ndarray:
    """The same by scipy's exact transform, for large masks."""
    nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return ((nearest - np.indices(mask.shape)) ** 2).sum(axis=0)


def dilate(mask: np.ndarray, share: str, squared: np.ndarray | None = None) -> np.ndarray:
    """Grow the distance until the area is (1 + share) times what it was, or the whole image.

    Args:
        mask: (H, W).
        share: as a decimal, which a float is not, e.g. ``0.2``.
        squared: squared distances, where they are at hand.
    """
    squared = squared_distances(mask) if squared is None else squared
    target = min((1 + Fraction(share)) * int(mask.sum()), mask.size)
    for threshold in np.unique(squared):
        grown = squared <= threshold
        if grown.sum() >= target:
            return grown
    raise AssertionError("the whole image is always large enough")
