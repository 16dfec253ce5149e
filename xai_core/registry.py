"""One generic registry for methods, metrics and whatever else is looked up by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from xai_core.errors import BadInput, UnknownChoice

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects: refuses duplicates, lists the known names when asked for an unknown one.

    Third parties add theirs through the entry-point group ``xai_core.<kind>s``
    (``xai_core.methods``, ...): the entry point's name is the id and its object the entry, or the
    object's module registers the id when it is imported. Such a module is imported when its name is
    asked for, and not before: what is installed changes nothing for those who don't name it.

    Args:
        kind: singular noun for messages and the entry-point group, e.g. ``method``.
        of: what each entry is; None where any object may be one.
    """

    def __init__(self, kind: str, of: type[T] | None = None) -> None:
        self.kind = kind
        self._of = of
        self._entries: dict[str, T] = {}
        self._looked_up: set[str] = set()

    def register(self, name: str, entry: T) -> T:
        """Add ``entry`` under ``name`` and return it; a second use of a name raises ValueError."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            UnknownChoice: there is none.
            BadInput: its module can't be loaded, or takes a name that is in use.
        """
        if name not in self._looked_up:
            for point in self._points():
                if point.name == name:
                    self._load(point)
            self._looked_up.add(name)  # a look that failed fails again
        if name not in self._entries:
            raise UnknownChoice(self.kind, name, self)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        """All names, those of plug-ins too, sorted."""
        return iter(sorted({*self._entries, *(point.name for point in self._points())}))

    def registered(self) -> list[T]:
        """The entries that are there, without a look for others."""
        return list(self._entries.values())

    def _points(self) -> Iterable[EntryPoint]:
        return entry_points(group=f"xai_core.{self.kind}s")

    def _load(self, point: EntryPoint) -> None:
        before = self._entries.get(point.name)
        what = f"the {self.kind} {point.name!r} of {point.value}"
        try:
            entry = point.load()
        except Exception as error:
            raise BadInput(f"{what} can't be loaded: {error}") from error
        if before is not None and before is not entry and not _is_made_of(before, entry):
            raise BadInput(f"{what} is registered already")
        if point.name in self._entries:  # its module has registered it on import
            return
        if self._of is not None and not isinstance(entry, self._of):
            raise BadInput(f"{what} is a {type(entry).__name__}, not a {self._of.__name__}")
        self.register(point.name, entry)


def _is_made_of(entry: object, part: object) -> bool:
    """Whether a decorator made the entry of this function."""
    return any(value is part for value in getattr(entry, "__dict__", {}).values())
