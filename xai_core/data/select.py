"""Which samples a run looks at: seeded, reproducible, or pinned by image ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xai_core.data.classes import ClassMap
from xai_core.data.masks import as_bool
from xai_core.errors import BadInput, DataMissing, UnknownChoice
from xai_core.types import DataSet, Sample

STUDY_CLASSES = ("banana", "clock", "orange", "stop sign", "traffic light", "umbrella")
"""Six classes that COCO and ImageNet share. The study names one of its six (traffic light)."""

ALL = "all"


@dataclass(frozen=True)
class Selection:
    """How to choose samples.

    Attributes:
        classes: category names; `ALL` among them for all that there are; empty for the study's,
            or for all where the data has none of those.
        per_class: samples of each class, at most.
        seed: of the shuffling.
        image_ids: only these images; empty for all.
        min_area: smallest share of the image that the mask (before dilation) may have.
        max_area: largest share.
    """

    classes: Sequence[str] = ()
    per_class: int = 30
    seed: int = 0
    image_ids: Sequence[int] = ()
    min_area: float = 0.01
    max_area: float = 0.70


def select(data: DataSet, selection: Selection, class_map: ClassMap | None = None) -> list[Sample]:
    """The samples of a run, sorted by image and class.

    Each class is shuffled on its own, by the seed and its name: adding a class, or an image of
    another class, leaves the choice as it was. A sample whose mask can't be read is chosen all the
    same: it then fails by name instead of vanishing.

    Args:
        data: to choose from.
        selection: how.
        class_map: which says why a class has no counterpart; None where there is none.

    Raises:
        DataMissing: nothing is left to look at.
        UnknownChoice: a class that the data doesn't have, or an image id that it doesn't have with
            any of the classes.
        Unsupported: a class that has no counterpart among the net's.
    """
    samples = data.samples()
    if not samples:
        raise DataMissing(f"{data.name} has no sample of any class")
    classes = chosen_classes(
        selection.classes, sorted({sample.category for sample in samples}), class_map
    )
    candidates: dict[str, list[Sample]] = {category: [] for category in classes}
    for sample in samples:
        if sample.category in candidates:
            candidates[sample.category].append(sample)
    pinned = set(selection.image_ids)
    if pinned:
        known = {sample.image_id for group in candidates.values() for sample in group}
        for image_id in sorted(pinned - known):
            raise UnknownChoice("image id", str(image_id), _some(sorted(known)))
    chosen = []
    for category, group in candidates.items():
        group = [sample for sample in group if not pinned or sample.image_id in pinned]
        chosen += _choose(data, group, selection, _generator(selection.seed, category))
    if not chosen:
        raise DataMissing(
            f"{data.name} has no sample of {', '.join(classes)} whose mask covers "
            f"{selection.min_area:.0%} to {selection.max_area:.0%} of its image"
        )
    return sorted(chosen)


def chosen_classes(
    asked: Sequence[str], there: Sequence[str], class_map: ClassMap | None = None
) -> Sequence[str]:
    """The classes of a run.

    Args:
        asked: see `Selection`.
        there: that the data has.
        class_map: see `select`.

    Raises:
        UnknownChoice: a class that the data doesn't have.
        BadInput: likewise, where the data has names that a list can't hold.
        Unsupported: a class that has no counterpart among the net's.
    """
    for category in set(asked) - {ALL, *there}:
        if class_map and category in class_map.classes:
            class_map.indices(category)  # says why it has no counterpart, if so
        if with_comma := [name for name in there if "," in name]:
            raise BadInput(
                f"unknown class {category!r}; a name with a comma ({with_comma[0]!r}) can't be "
                f"given in a list: use {ALL}, or a class map of the categories that are wanted"
            )
        raise UnknownChoice("class", category, there)
    default = STUDY_CLASSES if set(STUDY_CLASSES) & set(there) else there
    return there if ALL in asked else asked or default


def _choose(
    data: DataSet, group: list[Sample], selection: Selection, generator: np.random.Generator
) -> list[Sample]:
    chosen: list[Sample] = []
    for i in generator.permutation(len(group)):
        if len(chosen) == selection.per_class:
            break
        if _fits(data, group[i], selection):
            chosen.append(group[i])
    return chosen


def _fits(data: DataSet, sample: Sample, selection: Selection) -> bool:
    try:
        share = float(as_bool(data.mask(sample)).mean())
    except BadInput:
        return True
    return selection.min_area <= share <= selection.max_area


def _generator(seed: int, category: str) -> np.random.Generator:
    digest = hashlib.sha256(category.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])])


def _some(ids: Sequence[int], limit: int = 10) -> list[str]:
    shown = [str(image_id) for image_id in ids[:limit]]
    return shown if len(ids) <= limit else [*shown, f"... ({len(ids)} in all)"]
