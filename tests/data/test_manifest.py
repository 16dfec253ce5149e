"""The choice is made once, and made again when anything that it depends on is another."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from tests.data import synthetic_coco
from tests.data.test_coco import annotated
from xai_core.data import manifest
from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.manifest import chosen
from xai_core.data.select import Selection, select
from xai_core.errors import DataMissing

LONG_AGO = 1_000_000_000
SQUARE = [[4, 4, 40, 4, 40, 30, 4, 30]]


@pytest.fixture
def file(tmp_path):
    """Annotations of four images, last changed long ago."""
    content = annotated(np.zeros((40, 48)), SQUARE)
    image, annotation = content["images"][0], content["annotations"][0]
    content["images"] = [image | {"id": i, "file_name": f"{i}.jpg"} for i in range(1, 5)]
    content["annotations"] = [annotation | {"id": i, "image_id": i} for i in range(1, 5)]
    path = tmp_path / "annotations" / "instances_some.json"
    path.parent.mkdir()
    write(path, content)
    return path


def write(path, content, time=LONG_AGO) -> None:
    path.write_text(json.dumps(content))
    os.utime(path, (time, time))


@pytest.fixture
def choose(file, tmp_path, monkeypatch):
    """Chooses; ``choose.parsed`` counts how often the whole file was read."""

    def count(path):
        count.parsed += 1
        return load(path)

    load, count.parsed = manifest.load_annotations, 0
    monkeypatch.setattr(manifest, "load_annotations", count)

    def choose(selection=Selection(), class_map=None, kept=tmp_path / "kept"):  # noqa: B008
        data = chosen(file, tmp_path, selection, class_map or coco_to_imagenet(), kept)
        return [sample.image_id for sample in data.samples()], count.parsed

    return choose


def test_it_is_made_once(choose):
    assert choose() == ([1, 2, 3, 4], 1)
    assert choose() == ([1, 2, 3, 4], 1)


@pytest.mark.parametrize(
    "other",
    [
        {"per_class": 2},
        {"seed": 1},
        {"image_ids": (1, 3)},
        {"min_area": 0.02},
        {"max_area": 0.69},
        {"classes": ("orange",)},
    ],
)
def test_another_selection_is_another_choice(choose, other):
    choose()
    selection = replace(Selection(), **other)
    found, parsed = choose(selection)
    assert parsed == 2
    assert choose(selection) == (found, 2)
    assert choose()[1] == 2
    assert len(found) == len(other.get("image_ids", [0] * other.get("per_class", 4)))


def test_another_class_map_is_another_choice(choose):
    choose()
    assert choose(class_map=ClassMap({"orange": (3,)}))[1] == 2
    assert choose(class_map=ClassMap({"orange": (4,)}))[1] == 3


def test_another_content_is_another_choice_and_the_same_content_is_not(choose, file):
    choose()
    content = json.loads(file.read_text())
    write(file, content, LONG_AGO + 1)
    assert choose() == ([1, 2, 3, 4], 1)
    del content["annotations"][1]
    write(file, content, LONG_AGO + 2)
    assert choose() == ([1, 3, 4], 2)


def test_a_file_that_was_just_written_is_looked_at_again(choose, file):
    os.utime(file)
    choose()
    content = json.loads(file.read_text())
    content["annotations"][1]["image_id"] = 3  # as long as before
    state = file.stat()
    file.write_text(json.dumps(content))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert choose() == ([1, 3, 4], 2)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"images": 1}', b"\xff"])
def test_a_damaged_one_is_made_again(choose, tmp_path, content):
    choose()
    (kept,) = (tmp_path / "kept").glob("*.json")
    whole = kept.read_bytes()
    kept.write_bytes(content)
    assert choose() == ([1, 2, 3, 4], 2)
    assert kept.read_bytes() == whole


def test_where_nothing_can_be_kept_it_is_made_each_time(choose, tmp_path):
    (tmp_path / "no_folder").write_text("")
    assert choose(kept=tmp_path / "no_folder") == ([1, 2, 3, 4], 1)
    assert choose(kept=tmp_path / "no_folder") == ([1, 2, 3, 4], 2)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataMissing, match="can't be read: No such file"):
        chosen(tmp_path / "a.json", tmp_path, Selection(), coco_to_imagenet(), tmp_path)


def test_the_choice_from_a_large_file_is_that_of_the_whole_file(tmp_path):
    categories = {1: "person", 52: "banana", 55: "orange"}
    file = tmp_path / "instances_large.json"
    synthetic_coco.write(file, categories, images=1180, annotations=8600)
    selection = Selection(classes=("banana", "orange"), per_class=30)
    data = chosen(file, tmp_path, selection, coco_to_imagenet(), tmp_path / "kept")
    again = chosen(file, tmp_path, selection, coco_to_imagenet(), tmp_path / "kept")
    whole = manifest.CocoDataSet(
        data.name, manifest.load_annotations(file), tmp_path, coco_to_imagenet()
    )
    expected = select(whole, selection)
    assert data.samples() == again.samples() == sorted(expected, key=lambda s: s.image_id)
    assert len(expected) == 60
    for sample in expected[::10]:
        np.testing.assert_array_equal(data.mask(sample), whole.mask(sample))
