import json
from collections import Counter
from dataclasses import FrozenInstanceError
from importlib import resources
from pathlib import Path

import pytest
from torchvision.models import SqueezeNet1_0_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from xai_core.data.classes import ClassMap, coco_to_imagenet, markdown
from xai_core.errors import UnknownChoice, Unsupported

IMAGENET = SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
COCO_BY_ID = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
FILE = resources.files("xai_core.data").joinpath("coco_to_imagenet.json")
DOCUMENT = json.loads(FILE.read_text("utf-8"))
TABLE = DOCUMENT["categories"]
UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
WITHOUT = {
    "person",
    "fire hydrant",
    "giraffe",
    "suitcase",
    "frisbee",
    "snowboard",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "fork",
    "carrot",
    "donut",
    "cake",
    "scissors",
    "toothbrush",
}


def test_has_the_80_categories_of_coco_in_its_order_with_its_ids():
    ids = [entry["coco_id"] for entry in TABLE.values()]
    assert len(TABLE) == 80
    assert ids == [number for number in range(1, 91) if number not in UNUSED_IDS]
    assert list(TABLE) == [COCO_BY_ID[number] for number in ids]


def test_says_where_it_comes_from():
    assert "by hand" in DOCUMENT["source"]


@pytest.mark.parametrize("category", TABLE)
def test_an_entry_is_well_formed(category):
    entry = TABLE[category]
    assert set(entry) == {"coco_id", "indices", "classes", "why"}
    assert entry["indices"] == sorted(set(entry["indices"]))
    assert all(type(index) is int and 0 <= index < 1000 for index in entry["indices"])
    assert entry["why"].strip()
    assert "|" not in entry["why"]


@pytest.mark.parametrize("category", TABLE)
def test_the_classes_are_torchvisions_names(category):
    entry = TABLE[category]
    assert entry["classes"] == [IMAGENET[index] for index in entry["indices"]]


def test_no_index_stands_under_two_categories():
    counts = Counter(index for entry in TABLE.values() for index in entry["indices"])
    assert [index for index, times in counts.items() if times > 1] == []


def test_mapped_and_unmapped_categories():
    mapped = coco_to_imagenet().mapped
    assert mapped == tuple(sorted(set(TABLE) - WITHOUT))
    assert len(mapped) == 63


@pytest.mark.parametrize(
    ("category", "indices"),
    [
        ("traffic light", (920,)),
        ("stop sign", (919,)),
        ("mouse", (673,)),
        ("elephant", (101, 385, 386)),
        ("bear", (294, 295, 296, 297)),
        ("cat", (281, 282, 283, 284, 285)),
        ("dog", tuple(range(151, 269))),
        ("clock", (409, 530, 892)),
        ("bus", (654, 779, 874)),
        ("laptop", (620, 681)),
        ("hot dog", (934,)),
        ("orange", (950,)),
        ("hair drier", (589,)),
    ],
)
def test_spot_checks(category, indices):
    assert coco_to_imagenet().indices(category) == indices


def test_bird_is_all_59_birds_the_kite_and_the_crane_included():
    birds = coco_to_imagenet().indices("bird")
    assert len(birds) == 59
    assert {21, 134} < set(birds)
    assert IMAGENET[21] == "kite"


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (517, "crane"),
        (726, "plane"),
        (456, "bow"),
        (531, "digital watch"),
        (383, "Madagascar cat"),
        (544, "Dutch oven"),
        (542, "drumstick"),
        (273, "dingo"),
        (981, "ballplayer"),
        (982, "groom"),
        (983, "scuba diver"),
    ],
)
def test_a_class_that_only_sounds_like_a_category_is_nowhere(index, name):
    assert IMAGENET[index] == name
    assert all(index not in entry["indices"] for entry in TABLE.values())


def test_an_unknown_category_lists_the_known_ones():
    with pytest.raises(UnknownChoice, match=r"'sofa'.*person.*couch.*toothbrush"):
        coco_to_imagenet().indices("sofa")


@pytest.mark.parametrize("category", sorted(WITHOUT))
def test_a_category_without_counterpart_gives_its_reason(category):
    with pytest.raises(Unsupported) as caught:
        coco_to_imagenet().indices(category)
    assert repr(category) in str(caught.value)
    assert TABLE[category]["why"] in str(caught.value)


def test_a_map_of_ones_own():
    own = ClassMap({"b": (2, 1), "a": (3,), "c": ()})
    assert own.mapped == ("a", "b")
    assert own.indices("b") == (2, 1)
    with pytest.raises(Unsupported, match="'c'"):
        own.indices("c")


def test_the_shipped_map_is_read_once_and_cannot_be_changed():
    shipped = coco_to_imagenet()
    assert coco_to_imagenet() is shipped
    with pytest.raises(TypeError):
        shipped.classes["dog"] = ()
    with pytest.raises(FrozenInstanceError):
        shipped.classes = {}


def test_the_page_holds_the_table_as_it_is_now():
    page = Path(__file__).parents[2] / "docs" / "classes.md"
    assert markdown() in page.read_text(encoding="utf-8")
