"""A user's class map: its form, what is wrong with it, and what it replaces."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.data.test_coco import annotated, data_set
from tests.tiny import DataOf
from xai_core.data.annotations import parse
from xai_core.data.class_map import load_class_map
from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.sources import DATA_SETS, get_data_set
from xai_core.errors import BadInput, DataMissing, UnknownChoice
from xai_core.types import Sample

TRIANGLE = [[0, 0, 3, 0, 3, 4]]


def written(tmp_path, text):
    (tmp_path / "map.json").write_text(text)
    return tmp_path / "map.json"


def test_one_index_or_a_list_of_them_stands_for_a_category(tmp_path):
    found = load_class_map(written(tmp_path, '{"giraffe": 3, "traffic light": [5, 0]}'))
    assert found.classes == {"giraffe": (3,), "traffic light": (0, 5)}
    assert found.mapped == ("giraffe", "traffic light")
    assert found.source == "map.json"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "can't be read: Expecting value"),
        ("\udc00", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ("[]", "is not of the form {"),
        ("3", "is not of the form {"),
        ("{}", "is not of the form {"),
        ('{"a": 1, "b": 2, "a": 3}', "has the category 'a' twice"),
        ('{"a": "3"}', "the value of 'a' must be a class index"),
        ('{"a": 3.0}', "the value of 'a' must be a class index"),
        ('{"a": -1}', "the value of 'a' must be a class index"),
        ('{"a": true}', "the value of 'a' must be a class index"),
        ('{"a": null}', "the value of 'a' must be a class index"),
        ('{"a": []}', "the value of 'a' must be a class index"),
        ('{"a": {}}', "the value of 'a' must be a class index"),
        ('{"a": {"b": 1}}', "the value of 'a' must be a class index"),
        ('{"a": [1, [2]]}', "the value of 'a' must be a class index"),
        ('{"a": [1, 2, 1]}', "the value of 'a' has a class index twice"),
    ],
)
def test_a_file_of_another_form_is_named_with_what_is_wrong(tmp_path, text, sentence):
    (tmp_path / "map.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadInput, match=f"the class map .*map.json.*{re.escape(sentence)}"):
        load_class_map(tmp_path / "map.json")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataMissing, match=r"no class map at .*map\.json"):
        load_class_map(tmp_path / "map.json")
    with pytest.raises(BadInput, match=r"can't be read: it is a folder"):
        load_class_map(tmp_path)


def test_samples_carry_its_indices_and_its_categories_alone():
    content = annotated(np.zeros((6, 8)), TRIANGLE)
    content["annotations"].append(content["annotations"][0] | {"category_id": 1})
    own = ClassMap({"person": (4, 7)}, source="map.json")  # which ImageNet does not have
    annotations = parse(json.dumps(content).encode())
    assert CocoDataSet("x", annotations, None, own).samples() == [Sample(1, "person", (4, 7))]


def test_another_class_map_is_another_fingerprint(tmp_path):
    annotations = data_set(np.zeros((6, 8)), TRIANGLE).annotations
    (tmp_path / "1.jpg").write_bytes(b"any picture")
    seen = set()
    for indices in [(3,), (4,), (3, 4)]:
        data = CocoDataSet("x", annotations, tmp_path, ClassMap({"orange": indices}, source="m"))
        seen.add(data.fingerprint(data.samples()[0]))
    assert len(seen) == 3


def test_a_category_that_the_annotations_do_not_have_is_named():
    annotations = data_set(np.zeros((6, 8)), TRIANGLE).annotations
    sentence = "category in the class map map.json 'oragne'; known: orange, person"
    with pytest.raises(UnknownChoice, match=sentence):
        CocoDataSet("x", annotations, None, ClassMap({"oragne": (3,)}, source="map.json"))
    # the table that ships knows 80, and this file two
    assert CocoDataSet("x", annotations, None, coco_to_imagenet()).samples()


class Mapped(DataOf):
    def __init__(self, path, class_map=None):
        pixels = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), bool)
        indices = class_map.indices("orange") if class_map else (950,)
        super().__init__({Sample(1, "orange", indices): pixels})
        self.path = path


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(DATA_SETS, "_entries", {**DATA_SETS._entries, "mapped": Mapped})


def test_a_data_set_gets_what_its_parameters_ask_for(registered):
    own = ClassMap({"orange": (3,)}, source="map.json")
    data = get_data_set("mapped:some/folder", own)
    assert str(data.path) == "some/folder"
    assert data.samples() == [Sample(1, "orange", (3,))]
    assert get_data_set("mapped:a:b").samples() == [Sample(1, "orange", (950,))]
    assert str(get_data_set("mapped:a:b").path) == "a:b"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("mapped", "the data set mapped needs a path: mapped:PATH"),
        ("mapped:", "the data set mapped needs a path: mapped:PATH"),
        ("scenes:path", "the data set scenes:path can't be imported: No module named 'scenes'"),
        ("tests.tiny:DataOf", "tests.tiny:DataOf can't be made: .*missing 1 required"),
        ("tests.tiny:ALL", "tests.tiny:ALL can't be imported: .*has no attribute"),
        ("tests.tiny:RULE_METHODS", "tests.tiny:RULE_METHODS is no data set: it has no samples"),
    ],
)
def test_a_name_that_gives_no_data_set_says_why(registered, name, sentence):
    with pytest.raises(BadInput, match=sentence):
        get_data_set(name)


def test_a_data_set_with_classes_of_its_own_takes_no_class_map():
    own = replace(coco_to_imagenet(), source="map.json")
    with pytest.raises(BadInput, match="--class-map is not for the data set scenes"):
        get_data_set("scenes", own)


def test_unknown_names_are_told_which_take_a_path(registered):
    with pytest.raises(UnknownChoice, match=r"known: mapped:PATH, scenes, .*module:DATASET"):
        get_data_set("nothing")
