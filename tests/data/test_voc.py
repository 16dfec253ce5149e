"""A Pascal VOC folder: masks of palette indices, ids, lists, classes, and what is damaged."""

from __future__ import annotations

import os

import numpy as np
import PIL.Image
import pytest

from tests.data.pascal_voc import BOXES, HEIGHT, WIDTH, labels, save_labels, write_voc
from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.images import decode
from xai_core.data.select import Selection, select
from xai_core.data.sources import get_data_set
from xai_core.data.voc import CATEGORIES, VOID, VocDataSet, voc_to_imagenet
from xai_core.errors import BadInput, DataMissing, UnknownChoice, Unsupported

AEROPLANE, DOG = 2007000032, 5


@pytest.fixture
def folder(tmp_path):
    return write_voc(tmp_path / "VOCdevkit" / "VOC2012")


def sample_of(data, image_id):
    (found,) = [sample for sample in data.samples() if sample.image_id == image_id]
    return found


def test_a_pipe_is_not_opened(folder):
    data = VocDataSet(folder)
    sample = data.samples()[0]
    for name in (data._image_name(sample.image_id), data._mask_name(sample.image_id)):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(BadInput, match="can't be read: it is a device, pipe or socket"):
            data.fingerprint(sample)


def test_the_classes_are_those_of_voc_in_its_order():
    assert len(CATEGORIES) == 20
    assert (CATEGORIES[0], CATEGORIES[7], CATEGORIES[14]) == ("aeroplane", "cat", "person")
    assert list(CATEGORIES) == sorted(CATEGORIES)


@pytest.mark.parametrize(
    ("voc", "coco"),
    [
        ("aeroplane", "airplane"),
        ("motorbike", "motorcycle"),
        ("diningtable", "dining table"),
        ("pottedplant", "potted plant"),
        ("sofa", "couch"),
        ("tvmonitor", "tv"),
        ("dog", "dog"),
    ],
)
def test_a_class_means_what_its_coco_category_means(voc, coco):
    assert voc_to_imagenet().indices(voc) == coco_to_imagenet().indices(coco)


def test_only_person_has_no_counterpart_and_says_why():
    assert set(CATEGORIES) - set(voc_to_imagenet().mapped) == {"person"}
    with pytest.raises(Unsupported, match="category 'person' has no ImageNet-1k class: "):
        voc_to_imagenet().indices("person")


def test_samples_are_the_classes_of_the_masks_under_the_digits_of_their_ids(folder):
    data = VocDataSet(folder)
    found = [(s.image_id, s.category, s.class_indices) for s in data.samples()]
    table = coco_to_imagenet()
    assert found == [
        (DOG, "dog", table.indices("dog")),
        (AEROPLANE, "aeroplane", table.indices("airplane")),
    ]
    assert data.name == "VOC2012"


@pytest.mark.parametrize(("image_id", "voc_id"), [(AEROPLANE, "2007_000032"), (DOG, "000005")])
def test_a_mask_is_the_pixels_of_the_class_without_void(folder, image_id, voc_id):
    data = VocDataSet(folder)
    sample = sample_of(data, image_id)
    top, bottom, left, right = BOXES[voc_id][sample.category]
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(data.mask(sample), expected)
    content = (folder / "JPEGImages" / f"{voc_id}.jpg").read_bytes()
    np.testing.assert_array_equal(data.image(sample), decode(content, voc_id))


def test_a_mask_is_the_union_of_all_pixels_of_the_class(folder):
    indices = labels({"dog": (2, 6, 2, 6)}) + labels({"dog": (20, 30, 20, 30)})
    save_labels(folder / "SegmentationClass" / "000005.png", indices)
    data = VocDataSet(folder)
    mask = data.mask(sample_of(data, DOG))
    assert mask.sum() == 4 * 4 + 10 * 10
    assert mask[3, 3]
    assert mask[25, 25]


def test_a_mask_of_void_alone_is_no_sample(folder):
    path = folder / "SegmentationClass" / "000005.png"
    save_labels(path, np.full((HEIGHT, WIDTH), VOID, np.uint8))
    assert {s.image_id for s in VocDataSet(folder).samples()} == {AEROPLANE}


def test_the_fingerprint_follows_image_mask_and_class_indices(folder):
    def fingerprint(class_map=None):
        data = VocDataSet(folder, class_map)
        return data.fingerprint(sample_of(data, DOG))

    first = fingerprint()
    assert fingerprint() == first
    other_indices = fingerprint(ClassMap({"dog": (3,)}, source="map.json"))
    save_labels(folder / "SegmentationClass" / "000005.png", labels({"dog": (9, 28, 10, 40)}))
    other_mask = fingerprint()
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "JPEGImages" / "000005.jpg")
    assert len({first, other_indices, other_mask, fingerprint()}) == 4


def test_without_trainval_all_lists_count_once(tmp_path):
    folder = write_voc(tmp_path / "a", lists=("train", "val"))
    assert len(VocDataSet(folder).samples()) == 2
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n000005 \n")
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000032\n")
    assert len(VocDataSet(folder).samples()) == 2
    (folder / "ImageSets" / "Segmentation" / "trainval.txt").write_text("000005\n")
    assert [s.image_id for s in VocDataSet(folder).samples()] == [DOG]


def test_a_folder_with_one_year_is_that_year_and_with_two_a_question(folder):
    assert len(get_data_set(f"voc:{folder.parent}").samples()) == 2
    write_voc(folder.parent / "VOC2007")
    with pytest.raises(DataMissing, match=r"several years of Pascal VOC \(VOC2007, VOC2012\)"):
        get_data_set(f"voc:{folder.parent}")


@pytest.mark.parametrize("part", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_a_folder_without_one_of_its_parts_says_what_it_needs(folder, part):
    (folder / part).rename(folder / "elsewhere")
    sentence = "no Pascal VOC folder: it needs the folders JPEGImages, SegmentationClass and Image"
    for path in (folder, folder.parent, folder / "nowhere"):
        with pytest.raises(DataMissing, match=sentence):
            VocDataSet(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("000005\n../../secret\n", "lists '../../secret', which is no id like 2007_000032"),
        ("/etc/passwd\n", "lists '/etc/passwd', which is no id"),
        ("dog\n", "lists 'dog', which is no id"),
        ("9" * 5000, "lists '9999999999999999999999999999999999999999', which is no id"),
        ("000005\n5\n", "lists 000005 and 5, which are the same number"),
        ("é\n", "can't be read"),
        ("\n", "has no list .* that names an image"),
    ],
)
def test_a_list_of_anything_but_ids_is_refused_by_name(folder, text, sentence):
    (folder / "ImageSets" / "Segmentation" / "trainval.txt").write_text(text)
    with pytest.raises(DataMissing, match=sentence):
        VocDataSet(folder)


def damaged(folder, how):
    path = folder / "SegmentationClass" / "000005.png"
    whole = PIL.Image.open(path).copy()
    if how == "missing":
        path.unlink()
    elif how == "no PNG":
        path.write_bytes(b"no picture")
    elif how == "JPEG":
        whole.convert("L").save(path, format="JPEG")
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:-40])
    elif how in {"RGB", "L"}:
        whole.convert(how).save(path)
    else:
        save_labels(path, np.full((HEIGHT, WIDTH), 21, np.uint8))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing", r"000005\.png can't be read: No such file"),
        ("no PNG", r"000005\.png can't be read: it is no PNG"),
        ("JPEG", r"000005\.png can't be read: it is no PNG"),
        ("cut short", r"000005\.png can't be read: "),
        ("RGB", r"000005\.png can't be read: it is no palette image, but of Pillow's mode RGB"),
        ("L", r"000005\.png can't be read: it is no palette image, but of Pillow's mode L"),
        ("unknown class", r"000005\.png has the index 21, which is no class of VOC"),
    ],
)
def test_a_damaged_mask_may_be_of_any_class_and_fails_by_name(folder, how, sentence):
    damaged(folder, how)
    data = VocDataSet(folder)
    bad = [s for s in data.samples() if s.image_id == DOG]
    assert {s.category for s in bad} == set(voc_to_imagenet().mapped)
    for call in (data.image, data.mask):
        with pytest.raises(BadInput, match=sentence):
            call(bad[0])
    # it is chosen, so that it fails by name instead of vanishing; and it costs no other sample
    chosen = select(data, Selection(["aeroplane"], max_area=1.0))
    assert [s.image_id for s in chosen] == [DOG, AEROPLANE]
    assert data.mask(chosen[1]).any()


def test_an_image_of_another_size_than_its_mask_or_none_fails_by_name(folder):
    data = VocDataSet(folder)
    path = folder / "JPEGImages" / "000005.jpg"
    PIL.Image.new("RGB", (WIDTH, HEIGHT + 1)).save(path)
    with pytest.raises(BadInput, match=r"000005\.jpg is 48x41, but its annotation says 48x40"):
        data.image(sample_of(data, DOG))
    path.unlink()
    for call in (data.image, data.fingerprint):
        with pytest.raises(BadInput, match=r"JPEGImages/000005\.jpg can't be read: No such file"):
            call(sample_of(data, DOG))


def test_a_users_class_map_may_know_person_and_nothing_that_voc_does_not(folder):
    own = ClassMap({"person": (1, 2)}, source="map.json")
    data = get_data_set(f"voc:{folder}", own)
    assert [(s.image_id, s.class_indices) for s in data.samples()] == [(AEROPLANE, (1, 2))]
    with pytest.raises(UnknownChoice, match=r"map\.json 'airplane'; known: aeroplane, bicycle"):
        VocDataSet(folder, ClassMap({"airplane": (1,)}, source="map.json"))
