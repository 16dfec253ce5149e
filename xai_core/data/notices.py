"""What a user should know of the chosen part of an annotation file before it is computed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from warnings import catch_warnings

import PIL.Image

from xai_core.data.coco import CocoDataSet
from xai_core.data.images import FORMATS, MAX_PIXELS, shapes
from xai_core.errors import BadInput
from xai_core.files import printable
from xai_core.types import Sample

MOST_NAMED = 5


def notices(data: CocoDataSet, samples: Iterable[Sample]) -> list[str]:
    """Sentences about samples that are left out, and images with an orientation that turns them.

    Args:
        data: the annotation file, or the chosen part of it.
        samples: whose images are looked at; their headers are read.
    """
    found = []
    if crowds := data.crowds():
        listed = ", ".join(f"{printable(name)}: {n}" for name, n in crowds.items())
        found.append(
            f"left out, for all their annotations have iscrowd 1 (crowds): {listed} "
            f"sample{'s' * (sum(crowds.values()) != 1)}"
        )
    stored: list[str] = []
    upright: list[str] = []
    for sample in {sample.image_id: sample for sample in samples}.values():
        # What can't be read fails by name later.
        with suppress(BadInput, OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            path, shape = data.path(sample), data.shape(sample)
            if not path.is_file():
                continue
            with catch_warnings(action="ignore"), PIL.Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    continue
                as_stored, turned = shapes(image)
            if turned not in (None, as_stored):
                (stored if shape == as_stored else upright).append(printable(path.name))
    for names, how in ((stored, "as stored"), (upright, "upright")):
        if names:
            found.append(
                f"{len(names)} image{'s' * (len(names) > 1)} with an EXIF orientation taken {how}, "
                f"which is the shape in the annotations: {_some(names)}"
            )
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown}, ..."
