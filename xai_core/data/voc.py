"""Samples from a Pascal VOC folder, by its class segmentations.

Everingham et al., "The Pascal Visual Object Classes Challenge" (IJCV 2010, 2015). A mask is a
palette PNG whose pixels are class indices: 0 background, 1 to 20 the classes, 255 void (borders and
what is hard to tell), which belongs to no class.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.images import MAX_BYTES, MAX_PIXELS, decode
from xai_core.data.reading import read
from xai_core.errors import BadInput, DataMissing
from xai_core.types import Sample

if TYPE_CHECKING:
    from xai_core.types import Image, Mask

CATEGORIES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""VOC's classes in its order: the first has index 1 in the masks."""

VOID = 255

_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}

LISTS, IMAGES, MASKS = "ImageSets/Segmentation", "JPEGImages", "SegmentationClass"


def voc_to_imagenet() -> ClassMap:
    """VOC's classes by way of COCO's categories of the same meaning; see `coco_to_imagenet`."""
    table = coco_to_imagenet()
    names = {category: _COCO_NAMES.get(category, category) for category in CATEGORIES}
    return ClassMap(
        MappingProxyType({category: table.classes[name] for category, name in names.items()}),
        MappingProxyType({category: table.why[name] for category, name in names.items()}),
    )


def find_voc(path: Path) -> Path:
    """The folder of one year, e.g. ``VOCdevkit/VOC2012``.

    Args:
        path: that folder, or one that holds a single such folder.

    Raises:
        DataMissing: there is none, or more than one to choose from.
    """
    if _is_voc(path):
        return path
    years = sorted(child for child in path.glob("VOC*") if _is_voc(child))
    if len(years) == 1:
        return years[0]
    if years:
        names = ", ".join(year.name for year in years)
        raise DataMissing(f"{path} has several years of Pascal VOC ({names}); give one of them")
    raise DataMissing(
        f"{path} is no Pascal VOC folder: it needs the folders {IMAGES}, {MASKS} and {LISTS}"
    )


def _is_voc(path: Path) -> bool:
    return all((path / part).is_dir() for part in (LISTS, IMAGES, MASKS))


class VocDataSet:
    """The images of ``ImageSets/Segmentation/trainval.txt``, or of all lists there without it.

    A sample's category is VOC's name of the class, its image_id the digits of VOC's id:
    2007000032 for ``2007_000032``. Which classes an image has is read from its mask. Where the mask
    can't be read none of them is known to be absent: the image stands for a sample of each, which
    fails by name if it is chosen.

    Args:
        path: see `find_voc`.
        class_map: category name to outputs of the net; categories without any are left out.

    Raises:
        DataMissing: the folder or its lists can't be used.
        UnknownChoice: a user's class map has a category that is none of VOC's.
    """

    def __init__(self, path: Path, class_map: ClassMap | None = None) -> None:
        self.folder = find_voc(path).resolve()
        self.name = self.folder.name
        self._class_map = class_map or voc_to_imagenet()
        self._class_map.check(CATEGORIES)
        self._names = _listed(self.folder / LISTS)

    def samples(self) -> Sequence[Sample]:
        """See `DataSet`."""
        return self._samples

    @cached_property
    def _samples(self) -> Sequence[Sample]:
        mapped = self._class_map.mapped
        # Reading waits for the disk, and decoding lets other threads run.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            present = list(pool.map(self._present, self._names))
        return sorted(
            Sample(image_id, category, self._class_map.indices(category))
            for image_id, categories in zip(self._names, present, strict=True)
            for category in categories
            if category in mapped
        )

    def image(self, sample: Sample) -> Image:
        """See `DataSet`."""
        width, height = self._labels(sample.image_id).size
        name = self._image_name(sample.image_id)
        return decode(self._read(name), name, (height, width))

    def mask(self, sample: Sample) -> Mask:
        """See `DataSet`. All pixels of the class; void is none."""
        index = 1 + CATEGORIES.index(sample.category)
        mask: Mask = np.asarray(self._labels(sample.image_id)) == index
        if not mask.any():
            name = self._mask_name(sample.image_id)
            raise BadInput(f"the mask {name} has no pixel of {sample.category}")
        return mask

    def fingerprint(self, sample: Sample) -> str:
        """See `DataSet`."""
        digest = hashlib.sha256(self._read(self._image_name(sample.image_id)))
        digest.update(self._read(self._mask_name(sample.image_id)))
        digest.update(repr(sample).encode())
        return digest.hexdigest()

    def _present(self, image_id: int) -> Sequence[str]:
        try:
            counts = self._labels(image_id).histogram()
        except BadInput:
            return CATEGORIES
        return [category for i, category in enumerate(CATEGORIES, 1) if counts[i]]

    def _labels(self, image_id: int) -> PIL.Image.Image:
        """The decoded mask, of class indices."""
        name = self._mask_name(image_id)
        content = self._read(name)
        try:
            # Never as RGB: the palette's colours are for people.
            with PIL.Image.open(io.BytesIO(content), formats=("PNG",)) as labels:
                if labels.mode != "P":
                    raise ValueError(f"it is no palette image, but of Pillow's mode {labels.mode}")
                if labels.width * labels.height > MAX_PIXELS:
                    raise ValueError(f"it has more than {MAX_PIXELS // 10**6} megapixels")
                labels.load()
        except PIL.UnidentifiedImageError as error:
            raise BadInput(f"the mask {name} can't be read: it is no PNG") from error
        except Exception as error:  # a damaged file makes decoders raise anything
            raise BadInput(f"the mask {name} can't be read: {error}") from error
        known = {0, VOID, *range(1, 1 + len(CATEGORIES))}
        unknown = [i for i, count in enumerate(labels.histogram()) if count and i not in known]
        if unknown:
            raise BadInput(f"the mask {name} has the index {unknown[0]}, which is no class of VOC")
        return labels

    def _read(self, name: str) -> bytes:
        try:
            return read(self.folder / name, MAX_BYTES)
        except OSError as error:
            raise BadInput(f"{name} can't be read: {error.strerror}") from error

    def _image_name(self, image_id: int) -> str:
        return f"{IMAGES}/{self._names[image_id]}.jpg"

    def _mask_name(self, image_id: int) -> str:
        return f"{MASKS}/{self._names[image_id]}.png"


def _listed(folder: Path) -> dict[int, str]:
    """image_id to VOC's id, of the lists in a folder."""
    whole = folder / "trainval.txt"
    lists = [whole] if whole.is_file() else sorted(folder.glob("*.txt"))
    names: dict[int, str] = {}
    for path in lists:
        for name in _lines(path):
            # Digits and underscores only: no name leads out of the folder.
            if not re.fullmatch(r"[0-9][0-9_]{0,17}", name):
                raise DataMissing(f"{path} lists {name[:40]!r}, which is no id like 2007_000032")
            image_id = int(name.replace("_", ""))
            if names.setdefault(image_id, name) != name:
                both = f"{names[image_id]} and {name}"
                raise DataMissing(f"{folder} lists {both}, which are the same number")
    if not names:
        raise DataMissing(f"{folder} has no list (trainval.txt) that names an image")
    return names


def _lines(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, ValueError) as error:
        raise DataMissing(f"{path} can't be read: {error}") from error
    return (line.strip() for line in lines if line.strip())
