"""Every built-in method and metric against its twin; a new one without a twin fails here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.reference import maps as twin
from tests.reference import metrics
from tests.tiny import ConvNet, as_net, explain, maps
from xai_core.methods import METHODS
from xai_core.methods.cam import coarse_cam
from xai_core.methods.grad_cam import coarse_grad_cam
from xai_core.metrics import METRICS
from xai_core.signals import ACTIVATION, ACTIVATION_GRADIENT, CLASSIFIER_WEIGHTS

BUILT_IN_METHODS = [m for m in METHODS if METHODS.get(m).combine.__module__.startswith("xai_core.")]
BUILT_IN_METRICS = [m for m in METRICS if METRICS.get(m).__module__.startswith("xai_core.")]
SEEDS = range(3)


def case(seed: int, height: int = 8, width: int = 6):
    p = twin.random_parameters(seed)
    image = np.random.default_rng(100 + seed).normal(size=(3, height, width))
    return p, image, as_net(ConvNet(p), "features.4")


def test_every_built_in_method_has_a_twin():
    assert sorted(twin.TWINS) == BUILT_IN_METHODS


def test_every_built_in_metric_has_a_twin():
    assert sorted(metrics.TWINS) == BUILT_IN_METRICS


@pytest.mark.parametrize("method", sorted(twin.TWINS))
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("c", [0, 2])
def test_a_method_is_its_twin(method, seed, c):
    p, image, net = case(seed)
    ours = maps(net, torch.tensor(image)[None], c, method)[method][0].numpy()
    expected = twin.TWINS[method](p, image, c)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


def test_the_cases_tell_the_methods_apart():
    p, image, _ = case(0)
    values = [np.broadcast_to(t(p, image, 0), image.shape) for t in twin.TWINS.values()]
    different = [not np.allclose(a, b) for i, a in enumerate(values) for b in values[:i]]
    # CAM and Grad-CAM are the same here: the net ends in global average pooling and a linear layer.
    assert different.count(False) == 1
    assert all(np.abs(value).max() > 0.1 for value in values)


@pytest.mark.parametrize("seed", SEEDS)
def test_logits_are_the_twins(seed):
    p, image, net = case(seed)
    logits = explain(net, torch.tensor(image)[None], [[0]], "backprop").logits[0]
    np.testing.assert_allclose(logits, twin.forward(p, image).logits, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_coarse_maps_are_the_twins_and_relu_comes_before_upsampling(seed):
    p, image, _ = case(seed)
    seen = twin.forward(p, image)
    signals = {
        ACTIVATION: torch.tensor(seen.f)[None],
        ACTIVATION_GRADIENT: torch.tensor(twin.gradient_at_target(p, seen, 1))[None],
        CLASSIFIER_WEIGHTS: torch.tensor(p.linear[1])[None],
    }
    for ours, expected in (
        (coarse_cam(signals), twin.coarse_cam(p, image, 1)),
        (coarse_grad_cam(signals), twin.coarse_grad_cam(p, image, 1)),
    ):
        np.testing.assert_allclose(ours[0, 0], expected, rtol=1e-12, atol=1e-14)
        assert (ours >= 0).all()


@pytest.mark.parametrize("metric", sorted(metrics.TWINS))
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        *((scale, np.float64) for scale in (1.0, 1e-140, 1e150)),
        *((scale, np.float32) for scale in (1.0, 1e-30, 1e37)),
    ],
)
def test_a_metric_is_its_twin(metric, seed, scale, dtype):
    generator = np.random.default_rng(seed)
    values = (generator.normal(size=(3, 7, 5)) * scale).astype(dtype)
    mask = generator.random((7, 5)) < 0.4
    ours = METRICS.get(metric)(values, mask)
    expected = metrics.TWINS[metric](values, mask)
    assert ours == {
        name: pytest.approx(value, rel=1e-12, abs=0) for name, value in expected.items()
    }
