from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as rle

from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet, _decompress, find_annotations, load_annotations
from xai_core.errors import DataMissing

MASKS = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=40))


def data_set(mask, *segmentations):
    content = {
        "images": [
            {"id": 1, "file_name": "1.jpg", "height": mask.shape[0], "width": mask.shape[1]}
        ],
        "categories": [{"id": 55, "name": "orange"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 55, "iscrowd": int(i > 0), "segmentation": s}
            for i, s in enumerate(segmentations)
        ],
    }
    return CocoDataSet("test", content, None, coco_to_imagenet())


@given(MASKS)
def test_compressed_runs_are_those_that_pycocotools_wrote(mask):
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    flat = mask.ravel(order="F").astype(int)
    expected, value = [], 0
    while len(flat):  # runs of background and object in turn, background first
        length = len(flat) if (flat == value).all() else int((flat != value).argmax())
        expected.append(length)
        flat, value = flat[length:], 1 - value
    assert _decompress(encoded["counts"].decode()) == expected


@given(MASKS.filter(lambda mask: mask.any()), st.booleans())
def test_masks_come_back_from_run_lengths_of_both_kinds(mask, compressed):
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    counts = encoded["counts"].decode()
    segmentation = {
        "size": list(mask.shape),
        "counts": counts if compressed else _decompress(counts),
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
    data = data_set(np.zeros((6, 8)), {"size": [6, 8], "counts": [42, 6]})
    data.content["annotations"][0]["iscrowd"] = 1
    assert not data.samples()


def test_categories_without_imagenet_class_are_no_samples():
    data = data_set(np.zeros((6, 8)), [[0, 0, 3, 0, 3, 4]])
    data.content["annotations"][0]["category_id"] = 1
    again = CocoDataSet("test", data.content, None, coco_to_imagenet())
    assert not again.samples()


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
