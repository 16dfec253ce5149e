"""Which ImageNet-1k classes a COCO category stands for: the table in ``coco_to_imagenet.json``.

``python -m xai_core.data.classes`` prints it as Markdown, as in ``docs/classes.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import groupby
from types import MappingProxyType
from typing import TypedDict

from xai_core.errors import UnknownChoice, Unsupported


class Entry(TypedDict):
    """One category of the table; ``classes`` are torchvision's names of ``indices``."""

    coco_id: int
    indices: list[int]
    classes: list[str]
    why: str


@dataclass(frozen=True)
class ClassMap:
    """Category names and the class indices that a net knows them by.

    Attributes:
        classes: Class indices by category name; empty where the category has no counterpart.
        why: The reason, by category name; used for the categories without counterpart.
        source: Name of the file that a user wrote it in; empty for the table that ships.
    """

    classes: Mapping[str, tuple[int, ...]]
    why: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def indices(self, category: str) -> tuple[int, ...]:
        """The class indices of a category, at least one.

        Args:
            category: A name such as ``"traffic light"``.

        Returns:
            Its class indices, as the table lists them.

        Raises:
            UnknownChoice: The table doesn't know the category.
            Unsupported: The category has no counterpart among the classes.
        """
        if category not in self.classes:
            raise UnknownChoice("category", category, self.classes)
        if not (found := self.classes[category]):
            reason = self.why.get(category, "none means the same thing or a kind of it")
            raise Unsupported(f"category {category!r} has no ImageNet-1k class: {reason}")
        return found

    def check(self, categories: Iterable[str]) -> None:
        """Find a misspelt category: all that a user maps must be there.

        The table that ships may know more categories than a data set has.

        Args:
            categories: All that the data set knows.

        Raises:
            UnknownChoice: The data set doesn't know one of them.
        """
        known = sorted(set(categories))
        for category in self.classes if self.source else ():
            if category not in known:
                raise UnknownChoice(f"category in the class map {self.source}", category, known)

    @property
    def mapped(self) -> tuple[str, ...]:
        """The categories that have class indices, sorted by name."""
        return tuple(sorted(name for name, found in self.classes.items() if found))


@cache
def coco_to_imagenet() -> ClassMap:
    """The table that ships with the project, for COCO's 80 categories."""
    table = _entries()
    return ClassMap(
        MappingProxyType({name: tuple(entry["indices"]) for name, entry in table.items()}),
        MappingProxyType({name: entry["why"] for name, entry in table.items()}),
    )


def markdown() -> str:
    """The table as Markdown: the categories with counterpart, then those without."""
    table = _entries()
    mapped = (
        f"| {entry['coco_id']} | {name} | {_ranges(entry['indices'])} "
        f"| {_shortened(entry['classes'])} | {entry['why']} |"
        for name, entry in table.items()
        if entry["indices"]
    )
    empty = (
        f"| {entry['coco_id']} | {name} | {entry['why']} |"
        for name, entry in table.items()
        if not entry["indices"]
    )
    return "\n".join(
        [
            "| id | COCO category | indices | ImageNet classes | why |",
            "| --- | --- | --- | --- | --- |",
            *mapped,
            "",
            "| id | COCO category without counterpart | why |",
            "| --- | --- | --- |",
            *empty,
        ]
    )


def _entries() -> dict[str, Entry]:
    text = resources.files("xai_core.data").joinpath("coco_to_imagenet.json").read_text("utf-8")
    table: dict[str, Entry] = json.loads(text)["categories"]
    return table


def _ranges(indices: Sequence[int]) -> str:
    """``[1, 2, 3, 7]`` as ``1-3, 7``."""

    def spans() -> Iterator[str]:
        for _, run in groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
            members = [index for _, index in run]
            yield str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}"

    return ", ".join(spans())


def _shortened(names: Sequence[str], most: int = 20) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ... {names[-1]} ({len(names)} classes)"


if __name__ == "__main__":
    print(markdown())
