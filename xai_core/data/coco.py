"""Samples from any annotation file in COCO's instances format.

Reads ``DIR/annotations/instances_NAME.json`` with its images in ``DIR/NAME``, which is how COCO's
own archives unpack. Nothing from the file is believed: ids, sizes, file names and segmentations
are checked at the sample that they belong to, so that one bad entry spoils this sample only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from xai_core.data.annotations import Annotations
from xai_core.data.classes import ClassMap
from xai_core.data.images import MAX_PIXELS, decode
from xai_core.data.segmentation import rasterise
from xai_core.errors import BadInput
from xai_core.types import Sample

if TYPE_CHECKING:
    from xai_core.types import Image, Mask


class CocoDataSet:
    """The samples of one annotation file.

    Args:
        name: stands in every record.
        annotations: what the file holds.
        images: folder of the images; no file name leads out of it.
        class_map: category name to outputs of the net; categories without any are left out.

    Raises:
        UnknownChoice: a user's class map has a category that the file doesn't have.
    """

    def __init__(
        self, name: str, annotations: Annotations, images: Path, class_map: ClassMap
    ) -> None:
        self.name = name
        self.annotations = annotations
        self.folder = images
        self._class_map = class_map
        class_map.check(annotations.categories.values())

    def samples(self) -> Sequence[Sample]:
        """See `DataSet`."""
        indices = {name: self._class_map.indices(name) for name in self._class_map.mapped}
        there = self.annotations.objects.keys() - self.annotations.crowds
        found = sorted(key for key in there if key[1] in indices)
        return [Sample(image_id, name, indices[name]) for image_id, name in found]

    def image(self, sample: Sample) -> Image:
        """See `DataSet`. Greyscale, palette, CMYK and 16-bit files become RGB."""
        path = self.path(sample)
        return decode(_read(path), path.name, self.shape(sample))

    def path(self, sample: Sample) -> Path:
        """The file of its image.

        Raises:
            BadInput: its name is none, or leads out of the folder.
        """
        name = self.annotations.image(sample.image_id).get("file_name")
        if not isinstance(name, str) or not name:
            raise BadInput(f"image {sample.image_id} has no file_name in the annotations")
        if not name.isprintable():
            raise BadInput(f"file_name {name!r} of image {sample.image_id} is no name of a file")
        # Only the name is from outside: links that the user has put into the folder are followed.
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise BadInput(f"file_name {name!r} leaves the image folder; it was not read")
        return self.folder / name

    def mask(self, sample: Sample) -> Mask:
        """See `DataSet`. Polygons and RLE, crowds included, as pycocotools rasterises them."""
        height, width = self.shape(sample)
        union = np.zeros((height, width), dtype=np.bool_)
        for annotation in self.annotations.of(sample.image_id, sample.category):
            union |= rasterise(annotation, height, width)
        if not union.any():
            raise BadInput(f"the mask of {sample.category} in image {sample.image_id} has no area")
        return union

    def fingerprint(self, sample: Sample) -> str:
        """See `DataSet`."""
        digest = hashlib.sha256(_read(self.path(sample)))
        annotations = self.annotations.of(sample.image_id, sample.category)
        digest.update(json.dumps(annotations, sort_keys=True).encode())
        digest.update(repr(sample).encode())
        return digest.hexdigest()

    def subset(self, samples: Iterable[Sample]) -> bytes:
        """The part of the annotation file that these samples need, in the same format."""
        return self.annotations.subset({(sample.image_id, sample.category) for sample in samples})

    def shape(self, sample: Sample) -> tuple[int, int]:
        """(height, width) of its image.

        Raises:
            BadInput: the annotations give none, or one beyond `MAX_PIXELS`.
        """
        entry = self.annotations.image(sample.image_id)
        height, width = entry.get("height"), entry.get("width")
        if not (type(height) is int and type(width) is int and min(height, width) > 0):
            raise BadInput(f"image {sample.image_id} has no height and width in the annotations")
        if height * width > MAX_PIXELS:
            raise BadInput(
                f"image {sample.image_id} is {width}x{height} by its annotation, more than "
                f"{MAX_PIXELS // 10**6} megapixels"
            )
        return height, width


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"image {path.name} can't be read: {error.strerror}") from error
