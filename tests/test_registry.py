from __future__ import annotations

from dataclasses import dataclass

import pytest

from xai_core import registry
from xai_core.errors import BadInput, UnknownChoice
from xai_core.registry import Registry


@dataclass
class Point:
    """An entry point of an installed package."""

    name: str
    entry: object
    value: str = "other_package:THING"
    loads: int = 0

    def load(self):
        self.loads += 1
        if isinstance(self.entry, Exception):
            raise self.entry
        return self.entry


@pytest.fixture
def install(monkeypatch):
    """Make these the entry points of every installed package."""

    def install(*points, group="xai_core.things"):
        def found(*, group: str):
            return points if group == installed else ()

        installed = group
        monkeypatch.setattr(registry, "entry_points", found)

    install()
    return install


@pytest.fixture
def things(install) -> Registry[object]:
    things: Registry[object] = Registry("thing")
    things.register("b", 2)
    things.register("a", 1)
    return things


def test_names_come_sorted_and_lead_to_their_entries(things):
    assert list(things) == ["a", "b"]
    assert (things.get("a"), things.get("b")) == (1, 2)


def test_registering_returns_the_entry(things):
    entry = object()
    assert things.register("c", entry) is entry


def test_a_second_use_of_a_name_is_refused_and_changes_nothing(things):
    with pytest.raises(ValueError, match="thing 'a' is registered already"):
        things.register("a", 3)
    assert things.get("a") == 1


def test_an_unknown_name_lists_the_known_ones(things):
    with pytest.raises(UnknownChoice, match=r"^unknown thing 'z'; known: a, b$"):
        things.get("z")


def test_entry_points_are_found_by_name_and_in_order(things, install):
    point = Point("aa", "theirs")
    install(point)
    assert things.get("aa") == "theirs"
    assert list(things) == ["a", "aa", "b"]
    assert point.loads == 1


def test_entry_points_are_loaded_when_they_are_named_and_not_before(things, install):
    point, broken = Point("c", 3), Point("d", ImportError("no module named tea"))
    install(point, broken)
    assert list(things) == ["a", "b", "c", "d"]
    assert things.get("a") == 1
    assert things.registered() == [2, 1]
    assert (point.loads, broken.loads) == (0, 0)
    assert things.get("c") == things.get("c") == 3
    assert (point.loads, broken.loads) == (1, 0)


def test_entry_points_of_another_kind_are_left_alone(things, install):
    install(Point("c", 3), group="xai_core.others")
    assert list(things) == ["a", "b"]


def test_an_entry_point_whose_module_registers_itself_is_no_duplicate(things, install):
    class Registers(Point):
        def load(self):
            return things.register("c", super().load())

    install(Registers("c", 3))
    assert things.get("c") == 3


def test_an_entry_point_whose_module_was_imported_before_is_no_duplicate(things, install):
    def function():
        pass

    made = things.register("c", Point("made of it", function))
    install(Point("c", function))
    assert things.get("c") is made


def test_an_entry_that_is_no_such_thing_is_refused(install):
    points: Registry[Point] = Registry("thing", Point)
    install(Point("c", len))
    with pytest.raises(BadInput, match=r"'c' of .* is a builtin_function_or_method, not a Point"):
        points.get("c")


def test_two_packages_under_one_name_are_refused(things, install):
    install(Point("c", 3), Point("c", 4, "another_package:THING"))
    with pytest.raises(BadInput, match="'c' of another_package:THING is registered already"):
        things.get("c")


def test_an_entry_point_never_passes_silently_under_a_name_in_use(things, install):
    install(Point("a", "theirs"))
    with pytest.raises(BadInput, match="thing 'a' of other_package:THING is registered already"):
        things.get("a")


def test_an_entry_point_that_cannot_be_loaded_is_named_at_every_look(things, install):
    install(Point("c", ImportError("no module named tea")))
    for _ in range(2):
        with pytest.raises(BadInput, match=r"thing 'c' of .* can't be loaded: no"):
            things.get("c")
