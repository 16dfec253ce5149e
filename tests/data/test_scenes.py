from __future__ import annotations

import json
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torchvision
from pycocotools.coco import COCO

from bench import train_scenes_net
from xai_core.data.scenes import SCENES_DIR
from xai_core.data.scenes.compose import scene
from xai_core.data.scenes.generate import CATEGORIES, COUNT, SHIPPED_SEED, shipped_scene, write
from xai_core.data.scenes.polygons import polygons_of, rasterise
from xai_core.nets.weights import BUNDLED

ANNOTATIONS = SCENES_DIR / "annotations" / "instances_scenes.json"
WEIGHTS = BUNDLED / "squeezenet1_0-scenes.pth"


@pytest.fixture(scope="module")
def coco():
    return COCO(str(ANNOTATIONS))


def test_generating_again_gives_the_shipped_files_byte_for_byte(tmp_path):
    write(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert len(made) == COUNT + 1
    for path in made:
        assert (tmp_path / path).read_bytes() == (SCENES_DIR / path).read_bytes(), path


def test_annotations_decode_to_what_is_seen_pixel_for_pixel(coco):
    for index in range(COUNT):
        instances = shipped_scene(index).instances
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[index + 1]))
        assert len(annotations) == len(instances) > 0
        for annotation, instance in zip(annotations, instances, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), instance.mask)
            assert annotation["area"] == instance.mask.sum()
            assert annotation["iscrowd"] == instance.crowd
            assert annotation["category_id"] == CATEGORIES[instance.category][0]
            x, y, w, h = annotation["bbox"]
            assert instance.mask[y : y + h, x : x + w].sum() == instance.mask.sum()
            assert instance.mask[y].any()
            assert instance.mask[y + h - 1].any()


def test_the_set_has_what_the_study_needs(coco):
    images = coco.loadImgs(coco.getImgIds())
    classes = defaultdict(set)
    instances = Counter()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        classes[coco.loadCats(annotation["category_id"])[0]["name"]].add(annotation["image_id"])
        instances[annotation["image_id"]] += 1
    assert set(classes) == set(CATEGORIES)
    assert min(map(len, classes.values())) >= 5
    shapes = {(i["height"], i["width"]) for i in images}
    assert len({h / w for h, w in shapes}) >= 5
    assert {h > w for h, w in shapes} == {True, False}
    assert sum(count > 1 for count in instances.values()) >= 5
    assert sum(sum(i in ids for ids in classes.values()) > 1 for i in range(1, COUNT + 1)) >= 4


def test_crowds_stand_beside_an_instance_of_their_class(coco):
    crowds = coco.loadAnns(coco.getAnnIds(iscrowd=True))
    assert crowds
    for crowd in crowds:
        assert set(crowd["segmentation"]) == {"size", "counts"}
        beside = coco.getAnnIds(crowd["image_id"], crowd["category_id"], iscrowd=False)
        assert beside


def test_objects_are_occluded_and_stand_anywhere(coco):
    centres, holes = [], 0
    for annotation in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        image = coco.loadImgs(annotation["image_id"])[0]
        x, y, w, h = annotation["bbox"]
        centres.append(((x + w / 2) / image["width"], (y + h / 2) / image["height"]))
        holes += len(annotation["segmentation"]) > 1
    assert holes >= 3  # cut into pieces by what stands before them
    assert np.std(centres, axis=0).min() > 0.15


def test_the_set_is_small():
    files = [ANNOTATIONS, *(SCENES_DIR / "scenes").iterdir()]
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert WEIGHTS.stat().st_size <= 2_000_000


def test_a_scene_depends_on_its_seed_and_index_alone():
    first = scene(5, 3)
    scene(5, 4)
    assert np.array_equal(first.image, scene(5, 3).image)
    assert not np.array_equal(first.image[:90, :90], scene(6, 3).image[:90, :90])


@pytest.mark.parametrize("seed", range(20))
def test_any_mask_comes_back_from_its_polygons(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((15, 17)) < rng.uniform(0.1, 0.95)
    assert np.array_equal(rasterise(polygons_of(mask), *mask.shape), mask)


def test_the_shipped_scenes_were_not_trained_on():
    seeds = {train_scenes_net.TRAINING_SEED, train_scenes_net.EVALUATION_SEED}
    assert SHIPPED_SEED not in seeds
    assert json.loads(ANNOTATIONS.read_text())["info"]["seed"] == SHIPPED_SEED
    card = WEIGHTS.with_suffix(".md").read_text()
    assert f"scenes of seed {train_scenes_net.TRAINING_SEED}" in card


def test_the_weights_fit_and_their_card_holds(coco):
    """The card's claim of above 90 % on unseen scenes, on a few that its script didn't use."""
    state = torch.load(WEIGHTS, weights_only=True)
    net = torchvision.models.squeezenet1_0().eval()
    net.load_state_dict(state)
    assert {value.dtype for value in state.values()} == {torch.float16}
    unseen = [train_scenes_net.evaluation_example(1000 + i) for i in range(30)]
    assert train_scenes_net.evaluate(net, unseen, 224)["top-1"] > 0.9
    card = WEIGHTS.with_suffix(".md").read_text()
    claimed = [float(share) for share in re.findall(r"\| ([\d.]+)% \| [\d.]+% \| banana", card)]
    assert len(claimed) == 2
    assert min(claimed) > 90
