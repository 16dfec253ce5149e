from __future__ import annotations

import json
import time

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as rle

from xai_core.data.annotations import find_annotations, load_annotations, parse
from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.notices import notices
from xai_core.data.segmentation import _decompress
from xai_core.errors import BadInput, DataMissing

MASKS = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=40))


def annotated(mask, *segmentations, **changes):
    """An annotation file of one image with these objects; `changes` are made to all of them."""
    return {
        "images": [
            {"id": 1, "file_name": "1.jpg", "height": mask.shape[0], "width": mask.shape[1]}
        ],
        "categories": [{"id": 55, "name": "orange"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 55, "iscrowd": int(i > 0), "segmentation": s}
            | changes
            for i, s in enumerate(segmentations)
        ],
    }


def data_set(*args, **changes):
    content = json.dumps(annotated(*args, **changes)).encode()
    return CocoDataSet("test", parse(content), None, coco_to_imagenet())


@given(MASKS)
def test_compressed_runs_are_those_that_pycocotools_wrote(mask):
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    flat = mask.ravel(order="F").astype(int)
    expected, value = [], 0
    while len(flat):  # runs of background and object in turn, background first
        length = len(flat) if (flat == value).all() else int((flat != value).argmax())
        expected.append(length)
        flat, value = flat[length:], 1 - value
    assert _decompress(encoded["counts"].decode(), mask.size) == expected


@given(MASKS.filter(lambda mask: mask.any()), st.booleans())
def test_masks_come_back_from_run_lengths_of_both_kinds(mask, compressed):
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = encoded["counts"].decode()
    segmentation = {
        "size": list(mask.shape),
        "counts": counts if compressed else _decompress(counts, mask.size),
    }
    data = data_set(mask, segmentation)
    np.testing.assert_array_equal(data.mask(data.samples()[0]), mask)


def test_the_mask_is_the_union_of_all_instances_crowds_included():
    left = [[0, 0, 3, 0, 3, 4, 0, 4]]
    crowd = {"size": [6, 8], "counts": [42, 6]}  # the last column
    data = data_set(np.zeros((6, 8)), left, crowd)
    expected = np.zeros((6, 8), bool)
    expected[:4, :3] = expected[:, 7] = True
    np.testing.assert_array_equal(data.mask(data.samples()[0]), expected)


def test_only_a_crowd_is_no_sample():
    data = data_set(np.zeros((6, 8)), {"size": [6, 8], "counts": [42, 6]}, iscrowd=1)
    assert not data.samples()


def test_categories_without_imagenet_class_are_no_samples():
    data = data_set(np.zeros((6, 8)), [[0, 0, 3, 0, 3, 4]], category_id=1)
    assert not data.samples()


def test_a_folder_with_one_annotation_file_or_the_studys_is_found(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name in ("val2017", "train2017"):
        (tmp_path / name).mkdir()
        (tmp_path / "annotations" / f"instances_{name}.json").write_text("{}")
    assert find_annotations(tmp_path)[0].name == "instances_train2017.json"
    val = tmp_path / "annotations" / "instances_val2017.json"
    assert find_annotations(val) == (val, tmp_path / "val2017")
    (tmp_path / "annotations" / "instances_train2017.json").rename(tmp_path / "x.json")
    (tmp_path / "annotations" / "instances_other.json").write_text("{}")
    with pytest.raises(DataMissing, match="several files"):
        find_annotations(tmp_path)


@pytest.mark.real_data
def test_real_masks_are_pycocotools_own(coco_dir):
    from pycocotools.coco import COCO

    annotations, images = find_annotations(coco_dir)
    data = CocoDataSet("coco", load_annotations(annotations), images, coco_to_imagenet())
    reference = COCO(str(annotations))
    samples = data.samples()
    assert len(samples) > 300
    for sample in samples:
        category = reference.getCatIds(catNms=[sample.category])
        ids = reference.getAnnIds(imgIds=[sample.image_id], catIds=category)
        masks = [reference.annToMask(annotation) for annotation in reference.loadAnns(ids)]
        np.testing.assert_array_equal(data.mask(sample), np.logical_or.reduce(masks))


def content(**changes):
    """A file with one sample; `changes` replace fields of its image, category or annotation."""
    entries = {
        "images": {"id": 1, "file_name": "1.png", "height": 6, "width": 8},
        "categories": {"id": 55, "name": "orange"},
        "annotations": {
            **{"id": 1, "image_id": 1, "category_id": 55},
            "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]],
        },
    }
    return {part: [entry | changes.get(part, {})] for part, entry in entries.items()}


def load(tmp_path, annotations):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(annotations))
    return CocoDataSet("test", load_annotations(file), tmp_path, coco_to_imagenet())


@pytest.mark.parametrize("part", ["images", "categories"])
def test_two_entries_of_one_id_are_refused_for_they_can_t_be_told_apart(tmp_path, part):
    annotations = content()
    annotations[part] *= 2
    with pytest.raises(DataMissing, match=f"it has 2 {part} with the id"):
        load(tmp_path, annotations)


@pytest.mark.parametrize("strange", ["1", 1.0, True, None, [], {}])
@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("images", "id"),
        ("categories", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
    ],
)
def test_ids_that_are_no_whole_numbers_are_refused(tmp_path, part, key, strange):
    with pytest.raises(DataMissing, match=rf"{part} whose {key} .* is no whole number"):
        load(tmp_path, content(**{part: {key: strange}}))


@pytest.mark.parametrize("name", [5, None, []])
def test_a_category_needs_a_name(tmp_path, name):
    with pytest.raises(DataMissing, match="categories without 'name'"):
        load(tmp_path, content(categories={"name": name}))


@pytest.mark.parametrize("start", ["", '{"images": ', '{"images": [{"id": 1, "x": '])
def test_deep_nesting_is_no_coco_file(tmp_path, start):
    (tmp_path / "deep.json").write_text(start + "[" * 200_000)
    with pytest.raises(DataMissing, match=r"can't be read as COCO annotations|not in COCO's"):
        load_annotations(tmp_path / "deep.json")


# pycocotools takes memory for each pixel of an outline and crashes where it gets none.
@pytest.mark.parametrize("far", [1e3, 1e8, 3e9, 1e12, 1e300, -1e9])
def test_a_polygon_far_beyond_the_image_is_refused(far):
    data = data_set(np.zeros((6, 8)), [[0, 0, far, 0, far, far]])
    with pytest.raises(BadInput, match="reaches far beyond the image"):
        data.mask(data.samples()[0])


def test_a_polygon_of_endless_length_is_refused():
    data = data_set(np.zeros((6, 8)), [[0, 0, 8, 6] * 2000])
    with pytest.raises(BadInput, match="reaches far beyond the image"):
        data.mask(data.samples()[0])


def test_a_polygon_may_leave_the_image():
    data = data_set(np.zeros((6, 8)), [[-5, -5, 4, -5, 4, 20, -5, 20]])
    expected = np.zeros((6, 8), bool)
    expected[:, :4] = True
    np.testing.assert_array_equal(data.mask(data.samples()[0]), expected)


@pytest.mark.parametrize("counts", [[10.5, 37.5], [48.0], [True, 47], ["48"], 48, {}, None])
def test_run_lengths_are_whole_numbers(counts):
    data = data_set(np.zeros((6, 8)), {"size": [6, 8], "counts": counts})
    with pytest.raises(BadInput, match="its run lengths are no whole numbers"):
        data.mask(data.samples()[0])


SQUARE = [0, 0, 3, 0, 3, 4, 0, 4]


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        (SQUARE, "it is a flat list, one level of brackets too few"),
        ([[SQUARE]], "its numbers are nested too deeply"),
        ([[[0, 0], [3, 0], [3, 4]]], "its numbers are nested too deeply"),
        ([{"size": [6, 8], "counts": [48]}], "a list holds an object, such as run lengths"),
        ([[str(x) for x in SQUARE]], "a polygon has a coordinate that is no number"),
        ({"counts": [0, 48]}, "its run lengths come without their size"),
        ({"size": [8, 6], "counts": [0, 48]}, r"its size is \[8, 6\], the image's \[6, 8\]"),
        ({"size": "68", "counts": [0, 48]}, "its size is 68"),
        ({"size": [6, 8], "counts": [-1, 49]}, "its run lengths hold a negative number"),
        ({"size": [6, 8], "counts": [0, 47]}, "don't add up to the image's 8x6 pixels"),
        ({"points": SQUARE}, "it is neither polygons nor run lengths"),
        ("0 0 3 0 3 4", "it is neither polygons nor run lengths"),
        ([[0, 0, 10**400, 0, 3, 4]], "a coordinate that is no finite number"),
        ([[0, 0, None, 0, 3, 4]], "a coordinate that is no finite number"),
    ],
)
def test_a_segmentation_of_another_form_is_named_in_the_users_words(segmentation, sentence):
    data = data_set(np.zeros((6, 8)), segmentation)
    with pytest.raises(BadInput, match=f"annotation 0 of image 1 has a segm.*{sentence}"):
        data.mask(data.samples()[0])


@pytest.mark.parametrize(
    "text", ["o" * 1_000_000, "P" * 500_000 + "@" + "0" * 500_000, "0" * 1_000_000]
)
def test_a_long_run_length_encoding_takes_no_long_time(text):
    started = time.process_time()
    data = data_set(np.zeros((6, 8)), {"size": [6, 8], "counts": text})
    with pytest.raises(BadInput, match="its run lengths"):
        data.mask(data.samples()[0])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("side", [10**5, 10**9, 10**30])
def test_a_declared_size_takes_no_memory_before_it_is_checked(tmp_path, side):
    data = load(tmp_path, content(images={"height": side, "width": side}))
    with pytest.raises(BadInput, match="more than 80 megapixels"):
        data.mask(data.samples()[0])


def picture(tmp_path, image, name="1.png"):
    image.save(tmp_path / name)
    data = load(tmp_path, content(images={"file_name": name}))
    return data.image(data.samples()[0])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_keep_their_brightness(tmp_path, suffix):
    values = (np.arange(48).reshape(6, 8) * 1365).astype(np.uint16)
    pixels = picture(tmp_path, PIL.Image.fromarray(values), f"1.{suffix}")
    assert (pixels.dtype, pixels.shape) == (np.uint8, (6, 8, 3))
    np.testing.assert_array_equal(pixels, np.stack([values >> 8] * 3, axis=2))


def test_floating_point_pixels_are_refused(tmp_path):
    values = np.full((6, 8), 0.5, np.float32)
    with pytest.raises(BadInput, match="its pixels are floating-point numbers"):
        picture(tmp_path, PIL.Image.fromarray(values), "1.tif")


def test_formats_that_need_an_outside_program_are_not_opened(tmp_path):
    with pytest.raises(BadInput, match="can't be decoded: it is none of"):
        picture(tmp_path, PIL.Image.new("RGB", (8, 6)), "1.eps")


@pytest.mark.filterwarnings("error")
def test_a_decompression_bomb_is_not_decoded(tmp_path):
    PIL.Image.new("1", (12_000, 9_000)).save(tmp_path / "1.png")
    data = load(tmp_path, content())
    with pytest.raises(BadInput, match="decompression bomb"):
        data.image(data.samples()[0])


@pytest.mark.parametrize("name", ["a\0b", "\u200b.png", "a\n.png"])
def test_a_name_that_can_t_be_printed_is_no_name(tmp_path, name):
    data = load(tmp_path, content(images={"file_name": name}))
    sample = data.samples()[0]
    for read in (data.image, data.fingerprint):
        with pytest.raises(BadInput, match="is no name of a file") as caught:
            read(sample)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "damage",
    [
        ('"iscrowd": 0', '"area": 1e400'),
        ('"iscrowd": 0', '"note": "\xff"'),
        ('"iscrowd": 0', '"iscrowd": 1e400'),
        ('"iscrowd": 0', '"iscrowd": "yes"'),
        ("[[0, 0, 3", "[[1" + "0" * 400 + ", 0, 3"),
        ("[[0, 0, 3", "[[1" + "0" * 5000 + ", 0, 3"),
        ('"file_name": "1.png"', '"file_name": "1.png", "note": 1e400'),
        ('"file_name": "1.png"', '"file_name": "\xff.png"'),
        ('"height": 6', '"height": 6e400'),
    ],
    ids=range(9),
)
def test_an_entry_that_can_t_be_read_costs_its_own_sample(tmp_path, damage):
    entries = content(annotations={"iscrowd": 0})
    for part, other in (("images", {"file_name": "2.png"}), ("annotations", {"image_id": 2})):
        entries[part].append(entries[part][0] | {"id": 2} | other)
    text = json.dumps(entries)
    assert damage[0] in text
    file = tmp_path / "instances.json"
    file.write_bytes(text.replace(*damage, 1).encode("latin-1"))
    data = CocoDataSet("test", load_annotations(file), tmp_path, coco_to_imagenet())
    for name in ("1.png", "2.png"):
        PIL.Image.new("RGB", (8, 6)).save(tmp_path / name)
    bad, good = data.samples()
    with pytest.raises(BadInput) as caught:
        data.fingerprint(bad), data.image(bad), data.mask(bad)
    assert len(str(caught.value)) < 300
    assert data.fingerprint(good)
    assert data.image(good).shape == (6, 8, 3)
    assert data.mask(good).any()


@pytest.mark.parametrize(("size", "how"), [((8, 6), "as stored"), ((6, 8), "upright")])
def test_images_with_an_orientation_are_named_with_the_shape_in_which_they_are_taken(
    tmp_path, size, how
):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "1.jpg", exif=exif)
    width, height = size
    entry = {"file_name": "1.jpg", "width": width, "height": height}
    data = load(tmp_path, content(images=entry))
    (sentence,) = notices(data, data.samples())
    assert sentence.startswith(f"1 image with an EXIF orientation taken {how}")
    assert sentence.endswith(": 1.jpg")
    assert data.image(data.samples()[0]).shape[:2] == (height, width)
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "1.jpg")
    assert not notices(data, data.samples())


@pytest.mark.parametrize(
    ("iscrowd", "is_sample"),
    [*((n, True) for n in (0, "0", False, None)), *((n, False) for n in (1, "1", True))],
    ids=repr,
)
def test_a_crowd_is_one_however_it_is_written(iscrowd, is_sample):
    data = data_set(np.zeros((6, 8)), [SQUARE], iscrowd=iscrowd)
    assert len(data.samples()) == is_sample
    assert data.crowds() == ({} if is_sample else {"orange": 1})


def test_half_a_character_costs_its_own_image(tmp_path):
    data = load(tmp_path, content(images={"file_name": "\ud800.png"}))
    with pytest.raises(BadInput, match=r"image \?.png can't be read: No such file"):
        data.image(data.samples()[0])


@pytest.mark.parametrize(
    "strange", [b'"\xff"', b'"\\ud800"', b"NaN", b"1e400", b"1" + b"0" * 400, b"1" + b"0" * 5000]
)
def test_strange_entries_of_other_samples_cost_nothing(strange):
    """Also in a file that Python's NaN makes no JSON."""
    whole = content()
    whole["images"].append(whole["images"][0] | {"id": 2})
    whole["annotations"].append(whole["annotations"][0] | {"id": 2, "image_id": 2, "area": "HERE"})
    whole["categories"].append({"id": 9, "name": "HERE", "supercategory": float("nan")})
    text = json.dumps(whole).encode()
    name = strange if strange.startswith(b'"') else b'"cafe"'
    text = text.replace(b'"area": "HERE"', b'"area": ' + strange).replace(b'"HERE"', name)
    data = CocoDataSet("test", parse(text), None, coco_to_imagenet())
    first, second = data.samples()
    assert data.mask(first).sum() == 12
    np.testing.assert_array_equal(data.mask(second), data.mask(first))


def test_many_annotations_of_a_large_image_become_pixels_once(monkeypatch):
    decoded = []
    decode = rle.decode
    monkeypatch.setattr(rle, "decode", lambda x: decoded.append(x) or decode(x))
    data = data_set(np.zeros((6, 8)), *[[[0, 0, 3, 0, 3, 4, 0, 4]]] * 30)
    assert data.mask(data.samples()[0]).sum() == 12
    assert len(decoded) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_refused_or_read_and_never_anything_else(tmp_path, suffix):
    rng = np.random.default_rng(0)
    image = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = tmp_path / f"1.{suffix}"
    image.save(file)
    good, refused = file.read_bytes(), 0
    data = load(tmp_path, content(images={"file_name": file.name}))
    for position in range(0, len(good), max(1, len(good) // 80)):
        flipped = bytes([good[position] ^ 0xFF])
        for damaged in (good[:position], good[:position] + flipped + good[position + 1 :]):
            file.write_bytes(damaged)
            try:
                assert data.image(data.samples()[0]).shape == (6, 8, 3)
            except BadInput:
                refused += 1
    assert refused > 20
