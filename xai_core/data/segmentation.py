"""Segmentations in COCO's formats: polygons, run lengths, compressed run lengths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as rle

from xai_core.errors import BadInput

if TYPE_CHECKING:
    from xai_core.types import Mask


def rasterise(annotation: Mapping[str, Any], height: int, width: int) -> Mask:
    """Polygons or run lengths to pixels, as pycocotools does it.

    Args:
        annotation: an entry of an annotation file.
        height: of the image.
        width: of the image.

    Returns:
        (height, width), bool.

    Raises:
        BadInput: it has no segmentation, or one that can't be read.
    """
    segmentation = annotation.get("segmentation")
    where = f"annotation {annotation.get('id')} of image {annotation.get('image_id')}"
    if not segmentation:
        raise BadInput(f"{where} has no segmentation")
    try:
        if isinstance(segmentation, list):
            encoded = rle.merge(
                rle.frPyObjects(_polygons(segmentation, height, width), height, width)
            )
        elif list(segmentation["size"]) != [height, width]:
            raise ValueError(f"its size is {segmentation['size']}, the image's {[height, width]}")
        else:
            counts = segmentation["counts"]
            runs = _decompress(counts) if isinstance(counts, str) else counts
            _check_runs(runs, height, width)
            encoded = rle.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own, with numpy 2
            mask = rle.decode(encoded)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, MemoryError) as error:
        raise BadInput(f"{where} has a segmentation that can't be read: {error}") from error
    return np.asarray(mask, dtype=np.bool_)


def _polygons(segmentation: Sequence[Any], height: int, width: int) -> list[list[float]]:
    # null stands for a number that JSON doesn't have: NaN, infinity.
    polygons = [[math.nan if x is None else float(x) for x in xs] for xs in segmentation]
    # pycocotools takes a polygon of four numbers for a box.
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon needs three points or more, each with x and y")
    if not all(np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("a polygon has a coordinate that is no finite number")
    for polygon in polygons:
        # pycocotools takes memory for every pixel of the outline, also beyond the image, and
        # crashes where it gets none.
        points = np.array(polygon).reshape(-1, 2)
        outline = np.abs(np.diff(points, axis=0, append=points[:1])).sum()
        if np.abs(points).max() > 10 * max(height, width) or outline > 1000 * (height + width):
            raise ValueError("a polygon reaches far beyond the image")
    return polygons


def _check_runs(runs: Sequence[int], height: int, width: int) -> None:
    # pycocotools believes what it is given: it would read or write beyond the mask.
    if any(type(run) is not int or run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError("its run lengths don't add up to the image")


def _decompress(text: str) -> list[int]:
    """COCO's compressed RLE: 6 bits a character, low bits first, differences from the third on."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError("its run lengths hold a character that COCO's RLE does not have")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths break off")
    return runs
