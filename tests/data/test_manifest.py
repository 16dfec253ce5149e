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
from xai_core.data.notices import notices
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


def test_one_of_equal_size_and_time_that_takes_its_place_is_noticed(choose, file, monkeypatch):
    monkeypatch.setattr(manifest, "RACY", -1)  # all is noted
    choose()
    content = json.loads(file.read_text())
    content["annotations"][1]["image_id"] = 3  # as long as before
    state = file.stat()
    other = file.with_name("other.json")
    other.write_text(json.dumps(content))
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert choose() == ([1, 3, 4], 2)


@pytest.mark.parametrize("note", [b"", b"\xff", b"0" * 63, "é".encode() * 32])
def test_a_damaged_note_of_a_hash_is_made_again(choose, tmp_path, monkeypatch, note):
    monkeypatch.setattr(manifest, "RACY", -1)
    choose()
    (kept,) = (tmp_path / "kept").glob("sha256-*.txt")
    whole = kept.read_bytes()
    kept.write_bytes(note)
    assert choose() == ([1, 2, 3, 4], 1)
    assert kept.read_bytes() == whole


def test_what_is_left_out_is_still_said_when_the_choice_is_kept(file, tmp_path):
    content = json.loads(file.read_text())
    for annotation in content["annotations"][1:]:
        annotation["iscrowd"] = "1"  # as a string
    write(file, content)
    for _ in range(2):
        data = chosen(file, tmp_path, Selection(), coco_to_imagenet(), tmp_path / "kept")
        assert [sample.image_id for sample in data.samples()] == [1]
        (sentence,) = notices(data, data.samples())
        assert sentence.endswith("have iscrowd 1 (crowds): orange: 3 samples")
    other = chosen(file, tmp_path, Selection(), ClassMap({"orange": (3,)}), tmp_path / "kept")
    assert notices(other, other.samples()) == [sentence]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"categories": []}, "it lists no categories"),
        (
            {"categories": [{"id": 55, "name": "Orange"}, {"id": 1, "name": "person"}]},
            r"none of its categories \(Orange, person\) is in the table .* letter by letter",
        ),
        ({"annotations": []}, "no image has an annotation of orange"),
        ("crowds", "all annotations of orange have iscrowd 1: they mark crowds"),
    ],
)
@pytest.mark.parametrize("classes", [(), ("orange",)])
def test_a_file_without_a_sample_says_why(file, tmp_path, change, sentence, classes):
    content = json.loads(file.read_text())
    if change == "crowds":
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1
    else:
        content |= change
    write(file, content)
    selection = Selection(classes=classes)
    with pytest.raises(DataMissing, match=f"instances_some.json has no sample: {sentence}"):
        chosen(file, tmp_path, selection, coco_to_imagenet(), tmp_path / "kept")


def test_a_file_that_was_just_written_is_looked_at_again(choose, file):
    os.utime(file)
    choose()
    content = json.loads(file.read_text())
    content["annotations"][1]["image_id"] = 3  # as long as before
    state = file.stat()
    file.write_text(json.dumps(content))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert choose() == ([1, 3, 4], 2)


def flipped(whole):
    """Another coordinate, of as many digits."""
    assert b"[4,4,40,4" in whole.replace(b" ", b"")
    return whole.replace(b"40", b"41", 1) if b"40" in whole else b""


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda whole, content=c: content for c in (b"", b"{", b"[]", b'{"images": 1}', b"\xff")),
        flipped,
        lambda whole: whole[65:],
        lambda whole: whole.replace(b'"orange"', b'"banana"'),
    ],
    ids=["empty", "cut", "list", "other", "binary", "digit", "no_checksum", "class"],
)
def test_a_damaged_one_is_made_again(choose, tmp_path, damage):
    choose()
    (kept,) = (tmp_path / "kept").glob("*.selection")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert kept.read_bytes() != whole
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


def test_a_file_beyond_the_bound_is_refused_before_it_is_hashed(tmp_path, file, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_BYTES", file.stat().st_size - 1)
    monkeypatch.setattr(manifest.hashlib, "file_digest", None)
    with pytest.raises(DataMissing, match=r"can't be read: it has [\d,]+ bytes, more than"):
        chosen(file, tmp_path, Selection(), coco_to_imagenet(), tmp_path / "kept")
