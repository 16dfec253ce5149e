"""bfloat16 gradients behind exact masks; TF32 never without being asked for."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import images
from xai_core.engine import FusedEngine, Precision
from xai_core.engine.fused import engine as module
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net

ALL = [METHODS.get(id) for id in METHODS if not METHODS.get(id).baseline]


@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "public"])
@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "resnet18", "densenet121"])
def test_bf16_gradients_are_near_the_exact_ones_and_the_forward_pass_is_the_same(name, onednn):
    net = load_net(get_spec(name), "random:1")
    x = images(2, 3, 96, 80, dtype=torch.float32)
    targets = [[int(row.argmax())] for row in net.module(x)]
    exact = FusedEngine(onednn)(net, x, targets, ALL)
    rounded = FusedEngine(onednn, Precision.BF16)(net, x, targets, ALL)
    assert rounded.engine == "fused-bf16"
    assert torch.equal(rounded.logits, exact.logits)
    for id, expected in exact.maps.items():
        ours = rounded.maps[id]
        assert ours.dtype == torch.float32
        difference = float((ours - expected).norm() / expected.norm())
        assert difference < 0.05, id
        if id not in {"cam", "grad_cam"}:
            assert difference > 1e-5, id  # else nothing was rounded


class Backend:
    allow_tf32 = True


def test_full_precision_forbids_tf32_and_gives_the_setting_back(monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.backends.cuda, "matmul", Backend())
    monkeypatch.setattr(module.torch.backends, "cudnn", Backend())
    backends = module.torch.backends
    for allowed in (False, True):
        with module._tf32(allowed):
            assert backends.cuda.matmul.allow_tf32 is backends.cudnn.allow_tf32 is allowed
        assert backends.cuda.matmul.allow_tf32 is backends.cudnn.allow_tf32 is True
    with pytest.raises(ValueError), module._tf32(False):  # noqa: PT011
        raise ValueError
    assert backends.cudnn.allow_tf32 is True
