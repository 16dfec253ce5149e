"""captum and pytorch-grad-cam on the study's nets, on which both are right.

Weights are random and seeded; the explained class is the one with the highest logit. In float64 the
maps agree to 1e-9 of their maximum. In float32 single pixels flip where a ReLU or a pooling window
is nearly tied, in every library: there the relative L2 norm is held to 1e-3.
"""

from __future__ import annotations

from functools import cache

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from tests.reference.maps import min_max
from tests.tiny import explain, images
from xai_core.nets import STUDY_NETS, get_spec, load_net
from xai_core.types import Net

METHODS = ("backprop", "deconvolution", "guided_backprop", "grad_cam", "guided_grad_cam")
SHAPES = {"224": (224, 224), "240x180": (180, 240), "128x96": (96, 128)}
SMALL = ("alexnet", "squeezenet1_0")
CASES = [
    # The two large nets take many seconds in float64: a small picture has to do.
    *((net, size, torch.float64) for net in SMALL for size in ("224", "240x180")),
    *((net, "128x96", torch.float64) for net in STUDY_NETS if net not in SMALL),
    *((net, "224", torch.float32) for net in STUDY_NETS),
]


@cache
def net_of(name: str) -> Net:
    # Seeds under which the highest logit of squeezenet1_0, which ends in a ReLU, is not 0.
    return load_net(get_spec(name), "random:1")


@pytest.fixture(scope="module", autouse=True)
def forget_the_nets():
    yield
    net_of.cache_clear()


def captum_maps(net: Net, x: torch.Tensor, c: int) -> dict[str, np.ndarray]:
    layer = net.module.get_submodule(net.target_layer)
    guided = captum.attr.GuidedBackprop(net.module).attribute(x, c)
    coarse = captum.attr.LayerGradCam(net.module, layer).attribute(x, c, relu_attributions=True)
    upsampled = F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
    grad_cam = min_max(upsampled.detach().numpy())
    return {
        "backprop": captum.attr.Saliency(net.module).attribute(x, c, abs=False).numpy(),
        "deconvolution": captum.attr.Deconvolution(net.module).attribute(x, c).detach().numpy(),
        "guided_backprop": guided.detach().numpy(),
        "grad_cam": grad_cam,
        "guided_grad_cam": guided.detach().numpy() * grad_cam,
    }


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize(
    ("name", "size", "dtype"), CASES, ids=lambda value: str(value).removeprefix("torch.")
)
def test_the_maps_are_captums(name, size, dtype, each_engine):
    if each_engine.id == "fused" and dtype == torch.float32 and name != "alexnet":
        pytest.skip("one flipped ReLU decides; `python -m bench.exactness` counts them")
    net = net_of(name)
    net.module.to(dtype)
    x = images(1, 3, *SHAPES[size], seed=2).to(dtype)
    ours = explain(net, x, [range(1000)], *METHODS)
    target = int(ours.targets[0])
    assert float(ours.logits[0, target]) != 0
    theirs = captum_maps(net, x.clone().requires_grad_(), target)
    for method in METHODS:
        a, b = ours.maps[method].numpy(), theirs[method]
        assert a.shape == b.shape
        assert np.abs(b).max() > 0, method
        if dtype == torch.float64:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max(), err_msg=method)
        else:
            difference = np.linalg.norm(a.astype(np.float64) - b)
            assert difference < 1e-3 * np.linalg.norm(b.astype(np.float64)), method


@pytest.mark.parametrize("name", STUDY_NETS)
def test_grad_cam_is_pytorch_grad_cams(name, each_engine):
    net = net_of(name)
    net.module.float()
    x = images(1, 3, 128, 160, seed=2, dtype=torch.float32)
    ours = explain(net, x, [range(1000)], "grad_cam")
    peer = GradCAM(net.module, [net.module.get_submodule(net.target_layer)])
    try:
        theirs = peer(x.clone().requires_grad_(), [ClassifierOutputTarget(int(ours.targets[0]))])
    finally:
        peer.activations_and_grads.release()
    assert theirs.max() > 0.9
    # The peer adds 1e-7 to the span of the map before it upsamples.
    np.testing.assert_allclose(ours.maps["grad_cam"][0], theirs, rtol=0, atol=1e-4)
