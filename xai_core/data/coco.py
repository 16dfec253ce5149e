"""Samples from any annotation file in COCO's instances format.

Reads ``DIR/annotations/instances_NAME.json`` with its images in ``DIR/NAME``, which is how COCO's
own archives unpack. Nothing from the file is believed: ids, sizes, file names and segmentations
are checked at the sample that they belong to, so that one bad entry spoils this sample only.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as rle

from xai_core.data.classes import ClassMap
from xai_core.data.images import MAX_PIXELS, decode
from xai_core.errors import BadInput, DataMissing
from xai_core.types import Sample

if TYPE_CHECKING:
    from xai_core.types import Image, Mask

PREFERRED = "instances_train2017.json"
"""The study's annotation file: taken where a folder has several."""

Json = dict[str, Any]


def find_annotations(path: Path) -> tuple[Path, Path]:
    """The annotation file under ``path`` and the folder of its images.

    Args:
        path: a folder in COCO's layout, or one annotation file within such a folder.

    Raises:
        DataMissing: there is no such file or folder, or more than one to choose from.
    """
    if path.is_dir():
        files = sorted((path / "annotations").glob("instances_*.json"))
        preferred = [file for file in files if file.name == PREFERRED] or files
        if len(preferred) != 1:
            what = "several files" if files else "no file"
            raise DataMissing(
                f"{path} has {what} annotations/instances_*.json; give COCO's folder (with "
                f"annotations/{PREFERRED}) or the annotation file itself"
            )
        path = preferred[0]
    elif not path.is_file():
        raise DataMissing(f"no COCO folder or annotation file at {path}")
    images = path.parent.parent / path.stem.removeprefix("instances_")
    if not images.is_dir():
        raise DataMissing(f"the images of {path} should be in {images}, which is no folder")
    return path, images


def load_annotations(path: Path) -> Json:
    """Parse an annotation file.

    Raises:
        DataMissing: it can't be read, or is not in COCO's instances format.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataMissing(f"{path} can't be read as COCO annotations: {error}") from error
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) and all(isinstance(e, dict) for e in content[part])
        for part in parts
    ):
        raise DataMissing(f"{path} is not in COCO's format: it needs the lists {', '.join(parts)}")
    flaw = next(_flaws(content), None)
    if flaw:
        raise DataMissing(f"{path} is not in COCO's format: it has {flaw}")
    return content


def _flaws(content: Json) -> Iterator[str]:
    """What keeps entries from being told apart; all else is checked at the sample."""
    ids = {"images": ("id",), "categories": ("id",), "annotations": ("image_id", "category_id")}
    for part, keys in ids.items():
        for key in keys:
            for entry in content[part]:
                if key not in entry:
                    yield f"{part} without {key!r}"
                elif type(entry[key]) is not int:
                    yield f"{part} whose {key} {str(entry[key])[:40]!r} is no whole number"
    if not all(isinstance(category.get("name"), str) for category in content["categories"]):
        yield "categories without 'name'"
    for part in ("images", "categories"):
        found, times = max(
            Counter(entry["id"] for entry in content[part]).items(),
            key=lambda pair: pair[1],
            default=(0, 0),
        )
        if times > 1:
            yield f"{times} {part} with the id {found}"


class CocoDataSet:
    """The samples of one annotation file.

    Args:
        name: stands in every record.
        content: the parsed annotation file, or a part of it.
        images: folder of the images; no file name leads out of it.
        class_map: category name to outputs of the net; categories without any are left out.

    Raises:
        UnknownChoice: a user's class map has a category that the file doesn't have.
    """

    def __init__(self, name: str, content: Json, images: Path, class_map: ClassMap) -> None:
        self.name = name
        self.content = content
        self.folder = images
        self._class_map = class_map
        self._images: dict[int, Json] = {image["id"]: image for image in content["images"]}
        self._categories: dict[int, str] = {c["id"]: c["name"] for c in content["categories"]}
        class_map.check(self._categories.values())
        self._annotations: dict[tuple[int, str], list[Json]] = defaultdict(list)
        for annotation in content["annotations"]:
            category = self._categories.get(annotation["category_id"])
            if category is not None and annotation["image_id"] in self._images:
                self._annotations[annotation["image_id"], category].append(annotation)

    def samples(self) -> Sequence[Sample]:
        """See `DataSet`."""
        mapped = set(self._class_map.mapped)
        return sorted(
            Sample(image_id, category, self._class_map.indices(category))
            for (image_id, category), annotations in self._annotations.items()
            if category in mapped and not all(a.get("iscrowd") for a in annotations)
        )

    def image(self, sample: Sample) -> Image:
        """See `DataSet`. Greyscale, palette, CMYK and 16-bit files become RGB."""
        content, name = self._read(sample), self._images[sample.image_id]["file_name"]
        return decode(content, name, self._shape(sample))

    def mask(self, sample: Sample) -> Mask:
        """See `DataSet`. Polygons and RLE, crowds included, as pycocotools rasterises them."""
        height, width = self._shape(sample)
        union = np.zeros((height, width), dtype=np.bool_)
        for annotation in self._annotations[sample.image_id, sample.category]:
            union |= _rasterise(annotation, height, width)
        if not union.any():
            raise BadInput(f"the mask of {sample.category} in image {sample.image_id} has no area")
        return union

    def fingerprint(self, sample: Sample) -> str:
        """See `DataSet`."""
        digest = hashlib.sha256(self._read(sample))
        annotations = self._annotations[sample.image_id, sample.category]
        digest.update(json.dumps(annotations, sort_keys=True).encode())
        digest.update(repr(sample).encode())
        return digest.hexdigest()

    def subset(self, samples: Iterable[Sample]) -> Json:
        """The part of the annotation file that these samples need, in the same format."""
        wanted = {(sample.image_id, sample.category) for sample in samples}
        ids = {image_id for image_id, _ in wanted}
        return {
            "images": [self._images[image_id] for image_id in sorted(ids)],
            "categories": self.content["categories"],
            "annotations": [
                annotation for key in sorted(wanted) for annotation in self._annotations[key]
            ],
        }

    def _shape(self, sample: Sample) -> tuple[int, int]:
        entry = self._images[sample.image_id]
        height, width = entry.get("height"), entry.get("width")
        if not (type(height) is int and type(width) is int and min(height, width) > 0):
            raise BadInput(f"image {sample.image_id} has no height and width in the annotations")
        if height * width > MAX_PIXELS:
            raise BadInput(
                f"image {sample.image_id} is {width}x{height} by its annotation, more than "
                f"{MAX_PIXELS // 10**6} megapixels"
            )
        return height, width

    def _read(self, sample: Sample) -> bytes:
        name = self._images[sample.image_id].get("file_name")
        if not isinstance(name, str) or not name:
            raise BadInput(f"image {sample.image_id} has no file_name in the annotations")
        if not name.isprintable():
            raise BadInput(f"file_name {name!r} of image {sample.image_id} is no name of a file")
        # Only the name is from outside: links that the user has put into the folder are followed.
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise BadInput(f"file_name {name!r} leaves the image folder; it was not read")
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise BadInput(f"image {name} can't be read: {error.strerror}") from error


def _rasterise(annotation: Mapping[str, Any], height: int, width: int) -> Mask:
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
    polygons = [[float(x) for x in polygon] for polygon in segmentation]
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
