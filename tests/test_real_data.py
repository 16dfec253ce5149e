"""Real photographs and a really trained net: every P against an independent computation.

Independent are the pixels and masks (PIL, pycocotools, the written-out resizing), the maps (captum)
and the dilation and concentration (scipy, numpy). Shared with the code is torch's forward pass.

The pixels are compared first, and captum then gets ours: in flat parts of a photograph max-pooling
has ties, so that the last bit of a pixel decides where a gradient goes and moves P by up to 2e-4.
"""

from __future__ import annotations

from collections import defaultdict

import captum.attr
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
import torchvision
from pycocotools.coco import COCO

from tests.reference.images import resize
from tests.reference.maps import min_max
from tests.reference.masks import dilate, resize_nearest, squared_distances_edt
from xai_core.data.annotations import find_annotations, load_annotations
from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.select import STUDY_CLASSES, Selection, select
from xai_core.engine import AutogradEngine
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net
from xai_core.nets.preprocess import preprocess
from xai_core.study import Chunk, Scoring, run_chunk

pytestmark = pytest.mark.real_data

IDS = ("backprop", "cam", "deconvolution", "grad_cam", "guided_backprop", "guided_grad_cam")
SIZE = 224


@pytest.fixture(scope="module")
def data(coco_dir) -> CocoDataSet:
    annotations, images = find_annotations(coco_dir)
    return CocoDataSet("coco", load_annotations(annotations), images, coco_to_imagenet())


@pytest.fixture(scope="module")
def net(imagenet_weights):
    return load_net(get_spec("squeezenet1_0"), str(imagenet_weights), dtype=torch.float64)


@pytest.fixture(scope="module")
def records(data, net):
    """Method id to record, by sample."""
    samples = select(data, Selection(STUDY_CLASSES, per_class=2))
    methods = [METHODS.get(id) for id in IDS]
    found = defaultdict(dict)
    for sample in samples:
        chunk = Chunk(str(SIZE), (sample,), IDS)
        for record in run_chunk(chunk, net, data, AutogradEngine(), methods, scoring=Scoring(0.2)):
            found[sample][record.method] = record
    return dict(found)


@pytest.fixture(scope="module")
def peer(imagenet_weights):
    module = torchvision.models.squeezenet1_0()
    module.load_state_dict(torch.load(imagenet_weights, weights_only=True))
    return module.double().eval().requires_grad_(False)


def captum_maps(module, x: torch.Tensor, c: int) -> dict[str, np.ndarray]:
    def upsampled(coarse: torch.Tensor) -> np.ndarray:
        size = {"size": x.shape[-2:], "mode": "bilinear", "align_corners": False}
        return min_max(F.interpolate(coarse, **size)[0].detach().numpy())

    grad_cam = captum.attr.LayerGradCam(module, module.features[12])
    f = captum.attr.LayerActivation(module, module.features[12]).attribute(x)
    guided = captum.attr.GuidedBackprop(module).attribute(x, c)[0].detach().numpy()
    maps = {
        "backprop": captum.attr.Saliency(module).attribute(x, c, abs=False)[0].numpy(),
        "cam": upsampled(F.conv2d(f, module.classifier[1].weight[c : c + 1]).relu()),
        "deconvolution": captum.attr.Deconvolution(module).attribute(x, c)[0].detach().numpy(),
        "grad_cam": upsampled(grad_cam.attribute(x, c, relu_attributions=True)),
        "guided_backprop": guided,
    }
    return maps | {"guided_grad_cam": guided * maps["grad_cam"]}


def coco_mask(coco: COCO, image_id: int, category: str) -> np.ndarray:
    ids = coco.getAnnIds(imgIds=image_id, catIds=coco.getCatIds(catNms=category), iscrowd=None)
    return np.any([coco.annToMask(a) for a in coco.loadAnns(ids)], axis=0)


def p(values: np.ndarray, mask: np.ndarray) -> float:
    energy = (values.astype(np.float64) ** 2).sum(axis=0)
    return float(energy[mask].sum() / energy.sum()) if energy.any() else 0.0


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
def test_every_p_is_that_of_an_independent_computation(records, net, peer, coco_dir):
    annotations, images = find_annotations(coco_dir)
    coco = COCO(annotations)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for sample, by_method in records.items():
        file = images / coco.loadImgs(sample.image_id)[0]["file_name"]
        pixels = np.asarray(PIL.Image.open(file).convert("RGB"))
        x = preprocess(pixels, str(SIZE), net)
        expected = (resize(pixels, SIZE, SIZE) - mean) / std
        np.testing.assert_allclose(x[0].permute(1, 2, 0), expected, rtol=0, atol=1e-13)
        with torch.no_grad():
            logits = peer(x)[0]
        c = max(sample.class_indices, key=lambda c: logits[c])
        mask = resize_nearest(coco_mask(coco, sample.image_id, sample.category), SIZE, SIZE)
        grown = dilate(mask, "0.2", squared_distances_edt(mask))
        for method, values in captum_maps(peer, x.requires_grad_(), c).items():
            record = by_method[method]
            assert record.class_index == c
            assert record.chance == grown.mean()
            assert record.logit == pytest.approx(float(logits[c]), abs=1e-9)
            assert record.metrics["concentration"] == pytest.approx(p(values, grown), abs=1e-6)
            assert record.zero_energy == (not values.any())


def test_there_are_samples_of_each_class_and_records_of_each_method(records):
    assert len(records) >= 10
    assert len({sample.category for sample in records}) >= 5
    assert {len(by_method) for by_method in records.values()} == {len(IDS)}


def test_means_are_where_a_trained_net_has_them(records):
    """Orientation values over 253 samples: backprop 0.27, deconvolution 0.01, Grad-CAM 0.35,
    Guided Backpropagation 0.34, Guided Grad-CAM 0.45, chance 0.15."""
    mean = {m: np.mean([r[m].metrics["concentration"] for r in records.values()]) for m in IDS}
    chance = np.mean([r["cam"].chance for r in records.values()])
    assert mean["deconvolution"] < chance
    assert mean["guided_grad_cam"] > mean["guided_backprop"] > mean["backprop"]
    assert mean["guided_grad_cam"] > mean["grad_cam"] > chance
    assert abs(mean["cam"] - mean["grad_cam"]) < 0.03


def test_the_trained_net_sees_most_of_the_objects(records):
    ranks = [by_method["cam"].rank for by_method in records.values()]
    assert np.median(ranks) < 50
