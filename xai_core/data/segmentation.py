"""Segmentations in COCO's formats: polygons, run lengths, compressed run lengths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as rle

from xai_core.errors import BadInput, first_line

if TYPE_CHECKING:
    from xai_core.types import Mask


def rasterise(annotations: Iterable[Mapping[str, Any]], height: int, width: int) -> Mask:
    """The union of polygons and run lengths as pixels, as pycocotools does it.

    Run lengths are united: pixels for each of many annotations of a large image take minutes.

    Args:
        annotations: entries of an annotation file, of one image.
        height: of the image.
        width: of the image.

    Returns:
        (height, width), bool.

    Raises:
        BadInput: one has no segmentation, or one that can't be read.
    """
    encoded = rle.merge([_encoded(annotation, height, width) for annotation in annotations])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own, with numpy 2
        return np.asarray(rle.decode(encoded), dtype=np.bool_)


def _encoded(annotation: Mapping[str, Any], height: int, width: int) -> Any:
    """Pycocotools' run lengths of an annotation."""
    segmentation = annotation.get("segmentation")
    where = f"annotation {annotation.get('id')} of image {annotation.get('image_id')}"
    if not segmentation:
        raise BadInput(f"{where} has no segmentation")
    try:
        if isinstance(segmentation, list):
            polygons = _polygons(segmentation, height, width)
            return rle.merge(rle.frPyObjects(polygons, height, width))
        runs = _runs(segmentation, height, width)
        return rle.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    except (ArithmeticError, TypeError, ValueError, MemoryError) as error:
        reason = first_line(error)
        raise BadInput(f"{where} has a segmentation that can't be read: {reason}") from error


FORMS = (
    "COCO has a list of polygons [[x1, y1, x2, y2, ...], ...] or run lengths "
    '{"size": [height, width], "counts": ...}'
)


def _polygons(segmentation: Sequence[Any], height: int, width: int) -> list[list[float]]:
    for polygon in segmentation:
        if isinstance(polygon, dict):
            raise ValueError(f"a list holds an object, such as run lengths in a list; {FORMS}")
        if not isinstance(polygon, list):
            raise ValueError(f"it is a flat list, one level of brackets too few; {FORMS}")
        if any(isinstance(x, list) for x in polygon):
            raise ValueError(
                f"its numbers are nested too deeply, as points [x, y] or polygons in one list "
                f"more; {FORMS}"
            )
        if not all(x is None or type(x) in (int, float) for x in polygon):
            raise ValueError(f"a polygon has a coordinate that is no number; {FORMS}")
    # null stands for a number that JSON doesn't have: NaN, infinity.
    polygons = [[math.nan if x is None else _float(x) for x in xs] for xs in segmentation]
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


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _runs(segmentation: object, height: int, width: int) -> list[int]:
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError(f"it is neither polygons nor run lengths; {FORMS}")
    if (size := segmentation.get("size")) is None:
        raise ValueError(f"its run lengths come without their size; {FORMS}")
    if size != [height, width]:
        raise ValueError(f"its size is {str(size)[:40]}, the image's {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = _decompress(counts, height * width)
    if not isinstance(counts, list) or any(type(run) is not int for run in counts):
        raise ValueError("its run lengths are no whole numbers")
    _check_runs(counts, height, width)
    return counts


def _check_runs(runs: Sequence[int], height: int, width: int) -> None:
    # pycocotools believes what it is given: it would read or write beyond the mask.
    if any(run < 0 for run in runs):
        raise ValueError("its run lengths hold a negative number")
    if sum(runs) != height * width:
        raise ValueError(f"its run lengths don't add up to the image's {width}x{height} pixels")


def _decompress(text: str, most: int) -> list[int]:
    """COCO's compressed RLE: 6 bits a character, low bits first, differences from the third on.

    Args:
        text: the counts.
        most: largest run; numbers of more bits would take time that grows with their square.
    """
    longest = most.bit_length() + 10
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError("its run lengths hold a character that COCO's RLE does not have")
        value |= (bits & 31) << shift
        shift += 5
        if shift > longest:
            raise ValueError("its run lengths are larger than the image")
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths break off")
    return runs
