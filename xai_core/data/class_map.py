"""A class map from a file: which outputs of a net mean which categories of a data set.

.. code-block:: json

    {"banana": 0, "traffic light": [3, 4]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from xai_core.data.classes import ClassMap
from xai_core.data.reading import read
from xai_core.errors import BadInput, DataMissing

MAX_BYTES = 16 << 20
"""Larger files are refused unread."""

FORM = '{"category name": 3, "another": [4, 5]}'


def load_class_map(path: Path) -> ClassMap:
    """Read category names and the class indices (one, or a list) that mean them.

    Raises:
        DataMissing: there is no such file.
        BadInput: it is no JSON of this form, or something stands in it twice.
    """
    where = f"the class map {path}"
    try:
        content = json.loads(read(path, MAX_BYTES), object_pairs_hook=_Pairs)
    except FileNotFoundError as error:
        raise DataMissing(f"no class map at {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{where} can't be read: {reason}") from error
    if not isinstance(content, _Pairs) or not content:
        raise BadInput(f"{where} is not of the form {FORM}")
    classes: dict[str, tuple[int, ...]] = {}
    for category, value in content:
        if category in classes:
            raise BadInput(f"{where} has the category {category!r} twice")
        classes[category] = _indices(value, f"{where}: the value of {category!r}")
    return ClassMap(MappingProxyType(classes), source=path.name)


class _Pairs(list[tuple[str, object]]):
    """An object of JSON with all its keys: a dict would keep the last of two."""


def _indices(value: object, where: str) -> tuple[int, ...]:
    indices = value if isinstance(value, list) and not isinstance(value, _Pairs) else [value]
    if not indices or not _are_whole(indices):
        raise BadInput(f"{where} must be a class index (0 or more), or a list of them")
    if len(set(indices)) < len(indices):
        raise BadInput(f"{where} has a class index twice")
    return tuple(sorted(indices))


def _are_whole(values: Sequence[object]) -> bool:
    return all(type(value) is int and value >= 0 for value in values)  # True is an int, too
