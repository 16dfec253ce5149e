"""Annotation files in COCO's instances format: found, and read without being unpacked.

train2017's file has 860,000 annotations in 450 MB. Of most of them only the ids are of interest, so
each entry stays the bytes that it is until it is asked for: a sixth of the time and a third of the
memory of ``json.load`` (``python -m bench.selection`` measures it).
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct

from xai_core.data.reading import read
from xai_core.errors import BadInput, DataMissing, first_line

PREFERRED = "instances_train2017.json"
"""The study's annotation file: taken where a folder has several."""

LONGEST_WHOLE = 19
"""Digits from which a whole number may not fit 64 bits, and becomes a float."""

PARTS = ("images", "annotations", "categories")

MAX_BYTES = 8 << 30
"""Annotation files beyond it are refused unread."""

CROWD = {b"1": True, b"true": True, b'"1"': True, b"0": False, b"false": False, b'"0"': False}
"""What ``iscrowd`` may be; some tools write it as a string."""

Json = dict[str, Any]
_Head = TypeVar("_Head", bound=Struct)


class _File(Struct, gc=False):
    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]
    left_out: Any = UNSET


class _Image(Struct, gc=False):
    id: Any = UNSET


class _Category(Struct, gc=False):
    id: Any = UNSET
    name: Any = None


class _Annotation(Struct, gc=False):
    image_id: Any = UNSET
    category_id: Any = UNSET
    iscrowd: Raw = Raw(b"0")


@dataclass(frozen=True)
class Annotations:
    """The entries of an annotation file, unparsed.

    Attributes:
        images: by id.
        categories: name by id.
        objects: annotations of each (image id, category name), in the file's order; those of
            unknown images and categories are left out.
        crowds: the (image id, category name) that have nothing but crowds.
        left_out: category name to the number of those in the file that this one is a part of.
        all_categories: the entries of all categories.
    """

    images: Mapping[int, Raw]
    categories: Mapping[int, str]
    objects: Mapping[tuple[int, str], Sequence[Raw]]
    crowds: frozenset[tuple[int, str]]
    all_categories: Sequence[Raw]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def image(self, image_id: int) -> Json:
        """The entry of an image; raises `BadInput` if it can't be read."""
        return _parsed(self.images[image_id], f"the entry of image {image_id}")

    def of(self, image_id: int, category: str) -> list[Json]:
        """The annotations of a category in an image, crowds included.

        Raises:
            BadInput: one of them can't be read.
        """
        found = []
        for number, entry in enumerate(self.objects[image_id, category], 1):
            where = f"annotation {number} of {category!r} in image {image_id}"
            annotation = _parsed(entry, where)
            crowd = annotation.get("iscrowd", 0)
            if crowd not in (0, 1, None, "0", "1"):
                raise BadInput(f"{where} has an iscrowd that is neither 0 nor 1")
            found.append(annotation)
        return found

    def subset(
        self, wanted: set[tuple[int, str]], left_out: Mapping[str, int] | None = None
    ) -> bytes:
        """An annotation file of these (image id, category name) alone.

        Args:
            wanted: which.
            left_out: see `Annotations`; None for that of this file.
        """
        ids = sorted({image_id for image_id, _ in wanted})
        return msgspec.json.encode(
            {
                "images": [self.images[image_id] for image_id in ids],
                "annotations": [entry for key in sorted(wanted) for entry in self.objects[key]],
                "categories": self.all_categories,
                "left_out": dict(self.left_out if left_out is None else left_out),
            }
        )


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


def load_annotations(path: Path) -> Annotations:
    """Read an annotation file.

    Raises:
        DataMissing: it can't be read, or is not in COCO's instances format.
    """
    try:
        return parse(read(path, MAX_BYTES))
    except Flaw as flaw:
        raise DataMissing(f"{path} is not in COCO's format: it {flaw}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataMissing(f"{path} can't be read as COCO annotations: {reason}") from error


class Flaw(Exception):
    """What keeps entries from being told apart; all else is checked at the sample."""


def parse(content: bytes) -> Annotations:
    """See `load_annotations`.

    Raises:
        ValueError: this is no JSON.
        RecursionError: it nests too deeply.
        Flaw: it is not in COCO's format.
    """
    try:
        return _indexed(_decode(_FILE, content))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _indexed(_decode(_FILE, _mended(content)))


def _mended(content: bytes) -> bytes:
    """The file as JSON, where it holds what JSON doesn't have.

    NaN, Infinity and numbers beyond any float become null, bytes that are not UTF-8 U+FFFD, halves
    of characters a question mark: only the entries that hold them are wrong then.
    """

    def number(text: str) -> float | None:
        value = float(text)
        return value if math.isfinite(value) else None

    def whole(text: str) -> float | None:
        return int(text) if len(text) < LONGEST_WHOLE else number(text)

    parsed = json.loads(
        content.decode("utf-8-sig", "replace"),
        parse_constant=lambda _: None,
        parse_float=number,
        parse_int=whole,
    )
    return json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace")


def _indexed(file: _File) -> Annotations:
    images: dict[int, Raw] = {}
    for entry in file.images:
        images[_whole("images", "id", _decode(_IMAGE, entry).id)] = entry
    categories: dict[int, str] = {}
    for entry in file.categories:
        category = _decode(_CATEGORY, entry)
        categories[_whole("categories", "id", category.id)] = category.name
    if not all(isinstance(name, str) for name in categories.values()):
        raise Flaw("has categories without 'name'")
    _check_unique("images", file.images, images)
    _check_unique("categories", file.categories, categories)

    objects: dict[tuple[int, str], list[Raw]] = defaultdict(list)
    not_only_crowds = set()
    for entry in file.annotations:
        head = _decode(_ANNOTATION, entry)
        image_id = _whole("annotations", "image_id", head.image_id)
        name = categories.get(_whole("annotations", "category_id", head.category_id))
        if name is not None and image_id in images:
            objects[image_id, name].append(entry)
            if not CROWD.get(bytes(head.iscrowd), False):
                not_only_crowds.add((image_id, name))
    crowds = frozenset(objects.keys() - not_only_crowds)
    return Annotations(
        images, categories, dict(objects), crowds, file.categories, _counts(file.left_out)
    )


def _counts(value: object) -> dict[str, int]:
    found = value if isinstance(value, dict) else {}
    return {name: n for name, n in found.items() if type(n) is int}


_FILE = msgspec.json.Decoder(_File)
_IMAGE = msgspec.json.Decoder(_Image)
_CATEGORY = msgspec.json.Decoder(_Category)
_ANNOTATION = msgspec.json.Decoder(_Annotation)


def _decode(decoder: msgspec.json.Decoder[_Head], content: bytes | Raw) -> _Head:
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        needs = f"needs the lists {', '.join(PARTS)}, of objects"
        raise Flaw(f"{needs}: {first_line(error)}") from None


def _whole(part: str, key: str, value: object) -> int:
    if value is UNSET:
        raise Flaw(f"has {part} without {key!r}")
    if type(value) is not int:
        raise Flaw(f"has {part} whose {key} {str(value)[:40]!r} is no whole number")
    return value


def _check_unique(part: str, entries: Sequence[Raw], by_id: Mapping[int, object]) -> None:
    if len(entries) == len(by_id):
        return
    ids = Counter(_decode(_IMAGE, entry).id for entry in entries)
    found, times = ids.most_common(1)[0]
    raise Flaw(f"has {times} {part} with the id {found}")


def _parsed(entry: Raw, where: str) -> Json:
    try:
        content: Json = msgspec.json.decode(entry)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise BadInput(f"{where} can't be read: {first_line(error)}") from error
    return content
