"""What must hold between the maps of one image, and of a net after it was explained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.conftest import Explain
from xai_core.methods import DEFAULT_METHODS
from xai_core.pytest_plugin.run import Run
from xai_core.types import Net


def state(module: nn.Module) -> list[Any]:
    """All of a net that an engine could have changed."""
    return [
        {name: value.clone() for name, value in module.state_dict().items()},
        [child.training for child in module.modules()],
        [(p.requires_grad, p.grad is None) for p in module.parameters()],
        [len(child._forward_hooks) + len(child._backward_hooks) for child in module.modules()],
        [getattr(child, "inplace", None) for child in module.modules()],
    ]


def test_net_is_left_as_it_was(net: Net, explain: Explain) -> None:
    """Parameters, buffers, modes, flags and hooks are the same, bit for bit, after all methods."""
    before = state(net.module)
    explain(*DEFAULT_METHODS)
    after = state(net.module)
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())


def test_guided_grad_cam_is_the_product(explain: Explain) -> None:
    """Guided Grad-CAM = Guided Backpropagation x Grad-CAM, element by element."""
    result = explain("guided_backprop", "grad_cam", "guided_grad_cam")
    if "guided_grad_cam" in result.refused:
        pytest.skip(result.refused["guided_grad_cam"])
    product = result.maps["guided_backprop"] * result.maps["grad_cam"]
    assert torch.equal(result.maps["guided_grad_cam"], product)


def test_grad_cam_is_cam(run: Run, explain: Explain) -> None:
    """Behind global average pooling and a linear classifier Grad-CAM and CAM are one map.

    Exactly so without a ReLU between classifier and pooling; with one (SqueezeNet) the gradient
    is cut where a position's score is negative, and the channels' common factor stays. A gradient
    that is rounded (``--precision``) weighs channels by its 8 or 11 significant bits.
    """
    result = explain("cam", "grad_cam")
    if "cam" in result.refused:
        pytest.skip(result.refused["cam"])
    cam, grad_cam = result.maps["cam"], result.maps["grad_cam"]
    if not grad_cam.any():
        pytest.skip("Grad-CAM is zero everywhere on this image")
    tolerance = 1e-3 if run.options.precision == "full" else 0.05
    assert torch.allclose(cam, grad_cam, atol=tolerance)
