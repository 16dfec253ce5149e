"""One generic registry for methods, metrics and whatever else is looked up by name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from xai_core.errors import BadInput, UnknownChoice

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects: refuses duplicates, lists the known names when asked for an unknown one.

    Third parties add theirs through the entry-point group ``xai_core.<kind>s``
    (``xai_core.methods``, ...): the entry point's name is the id and its object the entry.

    Args:
        kind: singular noun for messages and the entry-point group, e.g. ``method``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._plugins_loaded = False

    def register(self, name: str, entry: T) -> T:
        """Add ``entry`` under ``name`` and return it; a second use of a name raises ValueError."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry called ``name``, or raise `UnknownChoice`."""
        self._load_plugins()
        if name not in self._entries:
            raise UnknownChoice(self.kind, name, self)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """All names, sorted: pytest-xdist demands the same order in every process."""
        self._load_plugins()
        return iter(sorted(self._entries))

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True  # before, because a plug-in may look around while it loads
        try:
            for point in entry_points(group=f"xai_core.{self.kind}s"):
                self._load(point)
        except BadInput:
            self._plugins_loaded = False  # the next look fails too, instead of missing a plug-in
            raise

    def _load(self, point: EntryPoint) -> None:
        before = self._entries.get(point.name)
        try:
            entry = point.load()
        except Exception as error:
            raise BadInput(
                f"the {self.kind} {point.name!r} of {point.value} can't be loaded: {error}"
            ) from error
        if before is not None and before is not entry:
            raise BadInput(f"the {self.kind} {point.name!r} of {point.value} is registered already")
        if point.name not in self._entries:  # its module may have registered it on import
            self.register(point.name, entry)
