"""Data sets by name: the bundled scenes, those of other packages, or any importable class."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from xai_core.data.annotations import find_annotations, load_annotations
from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.scenes import SCENES_DIR
from xai_core.errors import BadInput, UnknownChoice
from xai_core.registry import Registry
from xai_core.types import DataSet

DATA_SETS: Registry[Callable[[], DataSet]] = Registry("data_set")
"""Names to functions (or classes) that give the data set when called."""

SCENES = "scenes"
FUNCTIONS = ("samples", "image", "mask", "fingerprint")


def scenes() -> CocoDataSet:
    """The data set that ships with the project."""
    annotations, images = find_annotations(SCENES_DIR)
    return CocoDataSet(SCENES, load_annotations(annotations), images, coco_to_imagenet())


def get_data_set(name: str) -> DataSet:
    """Look a data set up: a registered name, or ``package.module:NAME``.

    Raises:
        UnknownChoice: no such data set.
        BadInput: the module path leads to nothing that gives a data set.
    """
    if name in set(DATA_SETS):
        make = DATA_SETS.get(name)
    elif ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            make = getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # the user's module may raise anything
            raise BadInput(f"the data set {name} can't be imported: {error}") from error
    else:
        raise UnknownChoice("data set", name, [*DATA_SETS, "package.module:DATASET"])
    data = make() if callable(make) else make
    missing = [f for f in FUNCTIONS if not callable(getattr(data, f, None))]
    if missing or not isinstance(getattr(data, "name", None), str):
        raise BadInput(f"{name} is no data set: it has no {(missing or ['name'])[0]}")
    return data


DATA_SETS.register(SCENES, scenes)
