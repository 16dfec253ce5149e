"""Samples from any annotation file in COCO's instances format.

Reads ``DIR/annotations/instances_NAME.json`` with its images in ``DIR/NAME``, which is how COCO's
own archives unpack. Nothing from the file is believed: ids, sizes, file names and segmentations
are checked at the sample that they belong to, so that one bad entry spoils this sample only.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from xai_core.data.annotations import Annotations
from xai_core.data.classes import ClassMap
from xai_core.data.images import MAX_PIXELS, decode, read_image
from xai_core.data.segmentation import rasterise
from xai_core.errors import BadInput
from xai_core.types import Sample

if TYPE_CHECKING:
    from xai_core.types import Image, Mask


LONGEST_PART, LONGEST_PATH = 255, 2000
"""Bytes of a file's name, and of the path to it within the folder: what file systems take."""


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

    def crowds(self) -> dict[str, int]:
        """Category to the number of its images that are left out: all annotations are crowds."""
        mapped = set(self._class_map.mapped)
        found = Counter(name for _, name in self.annotations.crowds if name in mapped)
        return dict(sorted(found.items())) or dict(self.annotations.left_out)

    def why_none(self, category: str | None = None) -> str:
        """Why there is no sample of a category, or none at all, in one sentence; empty if there is.

        Args:
            category: name; None for all that the class map has.
        """
        mapped, known = set(self._class_map.mapped), set(self.annotations.categories.values())
        wanted = mapped & known if category is None else {category} & mapped & known
        if any(sample.category in wanted for sample in self.samples()):
            return ""
        if not known:
            return "it lists no categories"
        if not wanted:
            there, table = _named(known), self._class_map.source or "the table in docs/classes.md"
            return (
                f"none of its categories ({there}) is in {table}, whose names are compared letter "
                "by letter; --class-map says which outputs of the net mean others"
            )
        if any(name in wanted for _, name in self.annotations.crowds):
            return (
                f"all annotations of {_named(wanted)} have iscrowd 1: they mark crowds, no object"
            )
        return f"no image has an annotation of {_named(wanted)}"

    def image(self, sample: Sample) -> Image:
        """See `DataSet`. Greyscale, palette, CMYK and 16-bit files become RGB."""
        path = self.path(sample)
        return decode(read_image(path), path.name, self.shape(sample))

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
        try:
            parts = [len(os.fsencode(part)) for part in PurePath(name).parts]
        except UnicodeEncodeError as error:
            raise BadInput(
                f"file_name {name[:40]!r} of image {sample.image_id} can't be written in "
                f"{error.encoding}, the encoding of this system's file names"
            ) from error
        if max(parts, default=0) > LONGEST_PART or sum(parts) + len(parts) > LONGEST_PATH:
            raise BadInput(f"file_name {name[:40]!r}... of image {sample.image_id} is too long")
        # Only the name is from outside: links that the user has put into the folder are followed.
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise BadInput(f"file_name {name!r} leaves the image folder; it was not read")
        return self.folder / name

    def mask(self, sample: Sample) -> Mask:
        """See `DataSet`. Polygons and RLE, crowds included, as pycocotools rasterises them."""
        height, width = self.shape(sample)
        annotations = self.annotations.of(sample.image_id, sample.category)
        union = rasterise(annotations, height, width)
        if not union.any():
            raise BadInput(f"the mask of {sample.category} in image {sample.image_id} has no area")
        return union

    def fingerprint(self, sample: Sample) -> str:
        """See `DataSet`."""
        digest = hashlib.sha256(read_image(self.path(sample)))
        annotations = self.annotations.of(sample.image_id, sample.category)
        digest.update(json.dumps(annotations, sort_keys=True).encode())
        digest.update(repr(sample).encode())
        return digest.hexdigest()

    def subset(self, samples: Iterable[Sample], left_out: Mapping[str, int] | None = None) -> bytes:
        """The part of the annotation file that these samples need, in the same format.

        Args:
            samples: which.
            left_out: see `Annotations`; None for that of this data set.
        """
        wanted = {(sample.image_id, sample.category) for sample in samples}
        return self.annotations.subset(wanted, left_out)

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


def _named(categories: Iterable[str], most: int = 12) -> str:
    names = sorted(categories)
    return ", ".join(names[:most] + ["..."] * (len(names) > most))
