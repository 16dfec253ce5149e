"""Masks: resized with the image, then dilated by a share of their area."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from xai_core.errors import BadInput

if TYPE_CHECKING:
    from xai_core.types import Mask


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """Nearest neighbour with half-pixel centres, which is how the image is resized too.

    Args:
        mask: (H, W).
        height: rows of the result.
        width: columns of the result.

    Raises:
        BadInput: the mask is no image of one channel, or is neither bool nor of 0 and 1.
    """
    mask = as_bool(mask)
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.intp)
    return mask[np.ix_(rows, columns)]


def dilate(mask: Mask, dilation: float) -> Mask:
    """All pixels within the smallest Euclidean distance at which the area reaches its target.

    The target is ``(1 + dilation) * area``, at most the whole image. Pixels at the same distance
    come in together, so the area may exceed the target by the last ring's width.

    Args:
        mask: (H, W) with at least one pixel set.
        dilation: share of the area to add, >= 0; 0 returns the mask as it is.

    Raises:
        BadInput: the mask is empty, or is neither bool nor of 0 and 1.
    """
    mask = as_bool(mask)
    area = int(mask.sum())
    if area == 0:
        raise BadInput("the mask has no pixel at this size")
    # Rounded first: in floats 1.1 * 50 is 55.00000000000001, whose next integer is 56.
    target = min(math.ceil(round((1 + dilation) * area, 6)), mask.size)
    if target <= area:
        return mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = 8
    while True:
        top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
        part = np.s_[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
        squared = _squared_distances(mask[part])
        # All pixels up to the margin's distance are in this part: is the farthest needed one?
        if target <= squared.size:
            farthest = np.partition(squared, target - 1, axis=None)[target - 1]
            if farthest <= margin * margin or squared.size == mask.size:
                dilated = np.zeros_like(mask)
                dilated[part] = squared <= farthest
                return dilated
        margin *= 2


def as_bool(mask: npt.NDArray[Any]) -> Mask:
    """A mask of 0 and 1 of any type as bool; a plug-in may give it so.

    Raises:
        BadInput: it has other values (255, a class index, a probability), or another shape.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise BadInput(f"the mask has the shape {mask.shape}, not (height, width)")
    if mask.dtype == np.bool_:
        return mask
    if mask.dtype.kind not in "iuf" or not ((mask == 0) | (mask == 1)).all():
        raise BadInput(f"the mask must be bool, or 0 and 1; it has other values ({mask.dtype})")
    return mask.astype(np.bool_)


def _squared_distances(mask: Mask) -> np.ndarray[Any, np.dtype[np.float32]]:
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Squared distances are integers; OpenCV's float32 roots are only near them.
    return np.rint(np.square(distance, dtype=np.float64)).astype(np.float32)
