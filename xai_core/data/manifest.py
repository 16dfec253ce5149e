"""The chosen part of an annotation file, chosen once: later runs start from a few kilobytes.

Reading train2017's annotations takes seconds and most of a gigabyte; the choice depends on the
file, the `Selection` and the class map alone, which together are the name that it is kept under.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from xai_core.data.annotations import MAX_BYTES, Flaw, load_annotations, parse
from xai_core.data.classes import ClassMap
from xai_core.data.coco import CocoDataSet
from xai_core.data.reading import check, read
from xai_core.data.select import Selection, chosen_classes, select
from xai_core.errors import DataMissing, UnknownChoice
from xai_core.files import printable, write_atomically

FORMAT = 2
"""Raised when the same selection would choose other samples, or keep them in another way."""

RACY = 2.0  # seconds


def chosen(
    annotations: Path, images: Path, selection: Selection, class_map: ClassMap, kept: Path
) -> CocoDataSet:
    """The samples that ``selection`` chooses from an annotation file, as a data set of their own.

    Args:
        annotations: the file.
        images: folder of its images.
        selection: what to choose.
        class_map: category names to outputs of the net.
        kept: folder of what was chosen before; where it can't be written nothing is kept.

    Raises:
        DataMissing: the file can't be read, or nothing is left to look at.
        UnknownChoice: the file has no such class or image.
        Unsupported: a class has no counterpart.
    """
    name = printable(annotations.stem)
    mapped = sorted((k, list(v)) for k, v in class_map.classes.items())
    what = [FORMAT, _sha256(annotations, kept), asdict(selection), mapped]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    path = kept / f"{key}.selection"
    with suppress(OSError, ValueError, RecursionError, Flaw, UnknownChoice):  # damaged: made again
        checksum, _, part = read(path, MAX_BYTES).partition(b"\n")
        if checksum == _checksum(key, part):
            return CocoDataSet(name, parse(part), images, class_map)
    whole = CocoDataSet(name, load_annotations(annotations), images, class_map)
    for category in (None, *(set(selection.classes) & set(class_map.mapped))):
        known = category is None or category in whole.annotations.categories.values()
        if known and (reason := whole.why_none(category)):
            raise DataMissing(f"{annotations} has no sample: {reason}")
    samples, crowds = select(whole, selection, class_map), whole.crowds()
    there = sorted({sample.category for sample in whole.samples()} | crowds.keys())
    classes = chosen_classes(selection.classes, there)
    part = whole.subset(samples, {c: n for c, n in crowds.items() if c in classes})
    _keep(path, _checksum(key, part) + b"\n" + part)
    return CocoDataSet(name, parse(part), images, class_map)


def _checksum(key: str, part: bytes) -> bytes:
    """Of what is kept, and of what it was chosen by."""
    return hashlib.sha256(key.encode() + part).hexdigest().encode()


def _sha256(file: Path, kept: Path) -> str:
    """Of the file's content; computed again when anything says that it may be another one.

    A file that takes the place of another may have its size and time of change (``cp -p``, an
    archive), but not its inode and the time at which that was changed, which nobody can set.
    """
    try:
        status = check(file, MAX_BYTES)
        state = [str(file.resolve()), status.st_size, status.st_mtime_ns]
        state += [status.st_ctime_ns, status.st_ino, status.st_dev]
        note = kept / f"sha256-{hashlib.sha256(json.dumps(state).encode()).hexdigest()}.txt"
        with suppress(OSError, ValueError):
            known = note.read_text("ascii")
            if re.fullmatch("[0-9a-f]{64}", known):
                return known
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataMissing(f"{file} can't be read: {error.strerror}") from error
    if (
        time.time() - max(status.st_mtime, status.st_ctime) > RACY
    ):  # else it may change again at the same time
        _keep(note, digest.encode())
    return digest


def _keep(path: Path, content: bytes) -> None:
    with suppress(OSError):  # it saves time, no more
        write_atomically(path, content)
