"""Data sets by name: the bundled scenes, folders, those of other packages, any importable class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xai_core.data.annotations import find_annotations, load_annotations
from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.scenes import SCENES_DIR
from xai_core.data.voc import VocDataSet
from xai_core.errors import BadInput, UnknownChoice, XaiError
from xai_core.registry import Registry
from xai_core.types import DataSet

DATA_SETS: Registry[Callable[..., DataSet]] = Registry("data_set")
"""Names to functions (or classes) that give the data set when called.

What they are called with follows from the names of their parameters: ``path`` is what stands
behind the colon in ``NAME:PATH``, ``class_map`` the `ClassMap` that the user wishes, if any.
"""

SCENES = "scenes"
FUNCTIONS = ("samples", "image", "mask", "fingerprint")


def scenes() -> CocoDataSet:
    """The data set that ships with the project."""
    annotations, images = find_annotations(SCENES_DIR)
    return CocoDataSet(SCENES, load_annotations(annotations), images, coco_to_imagenet())


def get_data_set(name: str, class_map: ClassMap | None = None) -> DataSet:
    """Look a data set up: a registered name, ``NAME:PATH``, or ``package.module:NAME``.

    Args:
        name: which one.
        class_map: category names to outputs of the net; None for the data set's own.

    Raises:
        UnknownChoice: no such data set.
        DataMissing: its files are not where the path says.
        BadInput: the name leads to nothing that gives a data set, or it takes no class map.
    """
    make, given = _find(name)
    if class_map and "class_map" not in _parameters(make):
        raise BadInput(f"--class-map is not for the data set {name}, which knows its class indices")
    if class_map:
        given["class_map"] = class_map
    try:
        data: DataSet = make(**given) if callable(make) else make
    except XaiError:
        raise
    except Exception as error:  # a user's class may raise anything
        raise BadInput(f"the data set {name} can't be made: {error}") from error
    missing = [f for f in FUNCTIONS if not callable(getattr(data, f, None))]
    if missing or not isinstance(getattr(data, "name", None), str):
        raise BadInput(f"{name} is no data set: it has no {(missing or ['name'])[0]}")
    return data


def _find(name: str) -> tuple[Any, dict[str, Any]]:
    """What gives the data set, and the path for it."""
    start, _, rest = name.partition(":")
    registered = DATA_SETS.get(start) if start in set(DATA_SETS) else None
    if registered and "path" in _parameters(registered):
        if not rest:
            raise BadInput(f"the data set {start} needs a path: {start}:PATH")
        return registered, {"path": Path(rest)}
    if registered and not rest:
        return registered, {}
    if rest:
        try:
            return getattr(importlib.import_module(start), rest), {}
        except Exception as error:  # the user's module may raise anything
            raise BadInput(f"the data set {name} can't be imported: {error}") from error
    known = [n + ":PATH" * ("path" in _parameters(DATA_SETS.get(n))) for n in DATA_SETS]
    raise UnknownChoice("data set", name, [*known, "package.module:DATASET"])


def _parameters(make: object) -> set[str]:
    try:
        return set(inspect.signature(make).parameters) if callable(make) else set()
    except ValueError:  # written in C
        return set()


DATA_SETS.register(SCENES, scenes)
DATA_SETS.register("voc", VocDataSet)
