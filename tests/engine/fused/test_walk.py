"""The walk on whole nets: exact in float64, with and without oneDNN, one pass per question."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.tiny import Act, as_net, images, seeded
from xai_core.engine import AutogradEngine, FusedEngine
from xai_core.engine.fused import onednn
from xai_core.engine.fused.operators import Convolution, Linear, Relu, pass_relu
from xai_core.errors import BadInput
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net
from xai_core.relu_rules import ReluRule, relu_backward

ALL = [METHODS.get(id) for id in METHODS]
ORDER = (ReluRule.DECONVOLUTION, ReluRule.GUIDED, ReluRule.PLAIN)
NETS = (
    *("alexnet", "squeezenet1_0", "vgg19", "resnet152", "densenet121", "googlenet"),
    *("resnet18", "vgg16_bn", "squeezenet1_1", "mnasnet0_5", "shufflenet_v2_x0_5"),
)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm()) if b.any() else float(a.norm())


@pytest.mark.parametrize("name", NETS)
def test_maps_are_the_reference_engines(name):
    net = load_net(get_spec(name), "random:1", dtype=torch.float64)
    small = name in {"vgg19", "vgg16_bn", "resnet152"}
    x = images(1 if small else 2, 3, *((64, 75) if small else (97, 131)), seed=3)
    # The class with the highest logit: that of squeezenet may else be dead.
    targets = [[int(row.argmax())] for row in net.module(x)]
    ours, theirs = (engine(net, x, targets, ALL) for engine in (FusedEngine(), AutogradEngine()))
    assert ours.engine == "fused"
    assert ours.refused == theirs.refused
    assert ours.maps.keys() == theirs.maps.keys()
    for id, expected in theirs.maps.items():
        assert expected.any() or "cam" in id, id
        difference = float((ours.maps[id] - expected).abs().max())
        assert difference <= 1e-10 * float(expected.abs().max()), id


@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "public"])
@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0", "resnet18"])
def test_both_paths_are_near_float64_in_float32(name, onednn):
    """On most images: a ReLU that rounding flips in a late layer moves a whole map."""
    net = load_net(get_spec(name), "random:1")
    exact = load_net(get_spec(name), "random:1", dtype=torch.float64)
    differences = []
    for seed in range(5):
        x = images(1, 3, 128, 128, seed=seed, dtype=torch.float32)
        targets = [[int(net.module(x)[0].argmax())]]
        ours = FusedEngine(onednn=onednn)(net, x, targets, ALL)
        theirs = AutogradEngine()(exact, x.double(), targets, ALL)
        differences.append(
            max(relative(ours.maps[id].double(), theirs.maps[id]) for id in theirs.maps)
        )
    assert sorted(differences)[2] < 1e-3
    assert max(differences) < 0.05


@pytest.mark.skipif(onednn.find() is None, reason="torch has no private oneDNN operators here")
def test_onednn_gives_what_public_operators_give():
    kernels = onednn.find()
    assert kernels is not None
    for kernel, stride, padding in ((1, 1, 0), (3, 1, 1), (5, 1, 2), (3, 2, 1), (1, 2, 0)):
        weight = images(6, 4, kernel, kernel, dtype=torch.float32)
        conv = Convolution(weight, weight[:, 0, 0, 0], (stride,) * 2, (padding,) * 2, (1, 1), 1)
        x = images(2, 4, 11, 9, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
        fast = kernels.convolution(conv, True, True, x.shape, 4)
        assert fast is not None
        y, kept = fast.forward([x], False)
        expected = conv.forward([x], False)[0].relu()
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
        g = images(4, *y.shape[1:], seed=1, dtype=torch.float32)
        rules = (ReluRule.GUIDED, ReluRule.PLAIN)
        for above in (g, g[:2]):  # told apart by rule, or one for both
            slow = Relu().backward(above, expected, [], rules, False)[0]
            slow = conv.backward(slow, None, [x.shape[1:]], rules, False)[0]
            (ours,) = fast.backward(above, kept, [x.shape[1:]], rules, False)
            torch.testing.assert_close(ours, slow, rtol=0, atol=1e-5)
    linear = Linear(images(7, 5, dtype=torch.float32), None)
    for rows in (1, 3, 9):
        g = images(rows, 7, dtype=torch.float32)
        (ours,) = kernels.linear(linear).backward(g, None, [(5,)], ORDER, False)
        torch.testing.assert_close(ours, g @ linear.weight, rtol=0, atol=1e-5)


def test_a_torch_without_the_private_operators_does_without(monkeypatch):
    monkeypatch.setattr(onednn, "_right", onednn._right.__wrapped__)
    monkeypatch.setattr(onednn, "_linear", lambda x, weight, bias: F.linear(x, weight, bias) + 1)
    assert onednn.find() is None
    monkeypatch.setattr(onednn, "_linear", lambda x, weight, bias: torch.ops.mkldnn.absent(x))
    assert onednn.find() is None
    net = load_net(get_spec("squeezenet1_1"), "random:1")
    x = images(1, 3, 64, 64, dtype=torch.float32)
    assert FusedEngine()(net, x, [[1]], ALL).engine == "fused"


@pytest.mark.parametrize("kernel", [3, 5, 7, 11])
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("size", [(23, 30), (24, 17)], ids=str)
def test_phases_are_the_transposed_convolution(kernel, stride, padding, size):
    conv = Convolution(images(5, 3, kernel, kernel), None, (stride,) * 2, (padding,) * 2, (1, 1), 1)
    g = images(2, 5, *conv.output_size(size))
    phased = conv.in_phases()
    assert phased is not conv
    shapes = [(3, *size)]
    (ours,) = phased.backward(g, None, shapes, ORDER, False)
    (expected,) = conv.backward(g, None, shapes, ORDER, False)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    x = images(2, 3, *size).requires_grad_()
    (autograd,) = torch.autograd.grad(phased.forward([x], False)[0], x, g)
    torch.testing.assert_close(ours, autograd, rtol=0, atol=1e-12)


@given(
    st.sets(st.sampled_from(ORDER), min_size=1),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_all_rules_at_once_are_the_rules_one_by_one(chosen, batch, together, owned, seed):
    rules = tuple(rule for rule in ORDER if rule in chosen)
    output = images(batch, 2, 3, 2, seed=seed).relu()
    rows = batch if together else batch * len(rules)
    g = images(rows, 2, 3, 2, seed=seed + 100)
    before = g.clone()
    ours = pass_relu(g, output, rules, owned)
    for i, rule in enumerate(rules):
        part = before if together else before[i * batch : (i + 1) * batch]
        expected = relu_backward(rule, part, output > 0)
        assert torch.equal(ours[i * batch : (i + 1) * batch], expected)
    if not owned:
        assert torch.equal(g, before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_choice_of_methods_gives_the_same_maps(count):
    module = seeded(Act(lambda z, f: F.max_pool2d(F.relu(f(F.relu(z))), 3, 1, 1)))
    net, x = as_net(module, "conv2"), images(2, 3, 7, 6)
    engine = FusedEngine()
    together = engine(net, x, [[0], [2]], ALL)
    for some in combinations(ALL, count):
        alone = engine(net, x, [[0], [2]], list(some))
        for method in some:
            if method.id in together.refused:
                assert method.id in alone.refused
                continue
            torch.testing.assert_close(
                alone.maps[method.id], together.maps[method.id], rtol=0, atol=1e-13
            )


def test_only_what_is_asked_for_is_walked(monkeypatch):
    """Grad-CAM alone never goes below the target layer; CAM alone walks no step back."""
    net = load_net(get_spec("resnet18"), "random:1", dtype=torch.float64)
    x, walked = images(1, 3, 64, 64), []
    original = Convolution.backward
    monkeypatch.setattr(
        Convolution,
        "backward",
        lambda self, g, *rest: walked.append(len(g)) or original(self, g, *rest),
    )

    def rows(*ids: str) -> list[int]:
        walked.clear()
        FusedEngine()(net, x, [[1]], [METHODS.get(id) for id in ids])
        return list(walked)

    assert rows("grad_cam") == rows("cam") == rows("cam", "grad_cam") == []
    assert set(rows("backprop")) == set(rows("guided_backprop", "grad_cam")) == {1}
    assert set(rows("guided_backprop", "backprop", "grad_cam")) == {2}
    assert set(rows(*METHODS)) == {3}
    assert len(rows(*METHODS)) == len(rows("backprop")) == 19  # and one in phases


class Users(nn.Module):
    def __init__(self, fail: bool = False):
        super().__init__()
        self.inner = load_net(get_spec("resnet18"), "random:0").module
        self.fail = fail

    def forward(self, x):
        if self.fail:
            raise RuntimeError("out of tea")
        return self.inner(x)


@pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack")
@pytest.mark.parametrize("fail", [False, True])
def test_the_net_is_left_bit_for_bit_as_it_was(fail):
    module = Users(fail).train().requires_grad_(True)
    module.inner.bn1.eval()
    values = {name: value.clone() for name, value in module.state_dict().items()}
    versions = [t._version for t in (*module.parameters(), *module.buffers())]
    modes = [child.training for child in module.modules()]
    x, failed = images(1, 3, 64, 64, dtype=torch.float32), False
    try:
        FusedEngine()(as_net(module, "inner.layer4"), x, [[1]], ALL)
    except BadInput:
        failed = True
    assert failed == fail
    assert modes == [child.training for child in module.modules()]
    assert versions == [t._version for t in (*module.parameters(), *module.buffers())]
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc/self/statm")
def test_memory_stays_flat_over_500_images_of_many_sizes():
    net, engine = load_net(get_spec("squeezenet1_1"), "random:1"), FusedEngine()
    for i in range(500):
        size = (40 + i % 23, 48 + i % 17)  # 391 different sizes
        engine(net, images(1, 3, *size, seed=i, dtype=torch.float32), [[1]], ALL)
        if i == 150:
            before = resident()
    assert resident() - before < 30
