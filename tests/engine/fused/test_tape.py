"""What is recorded, what is refused, and that a refused net is explained all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.tiny import Act, as_net, images, seeded
from xai_core.engine import AutogradEngine, FallsBack, FusedEngine
from xai_core.methods import METHODS

ALL = [METHODS.get(id) for id in METHODS]


class Blocks(nn.Module):
    """A net from a function of (input, two convolutions, a batch norm)."""

    def __init__(self, body):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        pixel = torch.tensor([123, 117, 104], dtype=torch.uint8).view(3, 1, 1)
        self.norm.register_buffer("pixel", pixel)
        self.norm.register_buffer("divisor", torch.tensor([58], dtype=torch.int64))
        self.fc = nn.Linear(4, 3)
        self.body = body

    def forward(self, x):
        return self.fc(self.body(x, self.conv1, self.conv2, self.norm).mean((2, 3)))


def shuffle(z):
    b, c, h, w = z.shape
    return z.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


def without_gradient(z):
    with torch.no_grad():
        return z.relu()


KNOWN = {
    "plain": lambda x, a, b, n: F.relu(b(F.relu(a(x)))),
    "folded norm": lambda x, a, b, n: F.relu(n(b(F.relu(a(x))))),
    "norm before relu": lambda x, a, b, n: b(F.relu(n(a(x)))),
    "residual": lambda x, a, b, n: F.relu(a(x) + b(F.relu(a(x)))),
    "residual in place": lambda x, a, b, n: F.relu_(b(F.relu(a(x))).add_(a(x))),
    "twice the same": lambda x, a, b, n: F.relu((z := a(x)) + z),
    "dense": lambda x, a, b, n: torch.cat([z := F.relu(a(x)), F.relu(b(z))], 1)[:, 2:6],
    "parallel relus": lambda x, a, b, n: torch.cat([F.relu(a(x)), F.relu(b(a(x)))], 1)[:, ::1][
        :, 2:6
    ],
    "overlapping pool": lambda x, a, b, n: F.max_pool2d(F.relu(b(F.relu(a(x)))), 3, 2, 1),
    "disjoint pool": lambda x, a, b, n: F.relu(b(F.max_pool2d(F.relu(a(x)), 2))),
    "ceil pool": lambda x, a, b, n: b(F.max_pool2d(F.relu(a(x)), 3, 2, ceil_mode=True)),
    "dilated pool": lambda x, a, b, n: b(F.max_pool2d(F.relu(a(x)), 2, 1, dilation=2)),
    "pool before relu": lambda x, a, b, n: F.relu(b(F.max_pool2d(a(x), 2))),
    "pool beside relu": lambda x, a, b, n: b(z := F.relu(a(x))) + F.max_pool2d(z, 3, 1, 1),
    "average pool": lambda x, a, b, n: F.relu(b(F.avg_pool2d(F.relu(a(x)), 3, 2, 1))),
    "adaptive pool": lambda x, a, b, n: b(F.adaptive_avg_pool2d(F.relu(a(x)), (3, 2))),
    "dropout": lambda x, a, b, n: b(F.dropout(F.relu(a(x)), 0.5, training=False)),
    "channel shuffle": lambda x, a, b, n: F.relu(b(shuffle(F.relu(a(x))))),
    "split": lambda x, a, b, n: torch.cat([(p := F.relu(a(x)).split(2, 1))[1], p[0]], 1),
    "chunk": lambda x, a, b, n: torch.cat([(p := F.relu(a(x)).chunk(2, 1))[1], p[0]], 1),
    "other normalisation": lambda x, a, b, n: F.relu(
        a(torch.cat([x[:, i].unsqueeze(1) * (0.5 + i) - i for i in range(3)], 1))
    ),
    "constants": lambda x, a, b, n: F.relu(a(x) * n.weight.view(-1, 1, 1) + 1) / 2,
    "permuted": lambda x, a, b, n: F.relu(a(x)).permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    "aside": lambda x, a, b, n: (b(a(x)), F.relu(a(x)))[1],
    "scaled in place": lambda x, a, b, n: F.relu(a(x).mul_(2)),
    "stop-gradient": lambda x, a, b, n: b(a(x)).relu() + a(x).relu().detach(),
    "no_grad": lambda x, a, b, n: b(z := F.relu(a(x))) + without_gradient(z),
    "detached sum": lambda x, a, b, n: F.relu((z := a(x)) + z.detach()),
    "stop-gradient beside a constant": lambda x, a, b, n: F.relu((z := a(x + 1) * 2) + z.detach()),
    "one kernel in two convolutions": lambda x, a, b, n: F.relu(
        F.conv2d(z := F.relu(a(x)), b.weight, None, 1, 2, 2) + F.conv2d(z, b.weight, None, 1, 1)
    ),
    "8-bit pixel means": lambda x, a, b, n: F.relu(a(x * 255 - n.pixel) / n.divisor),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("target", ["conv1", "conv2", "norm"])
@pytest.mark.parametrize("body", KNOWN.values(), ids=KNOWN)
def test_known_operations_give_the_reference_maps(body, target, batch):
    module, x = seeded(Blocks(body)), images(batch, 3, 9, 8)
    module.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    module.norm.running_var.copy_(torch.tensor([0.5, 2.0, 1.0, 3.0]))
    net = as_net(module, target)
    theirs = AutogradEngine()(net, x, [[1]] * batch, ALL)
    ours = FusedEngine()(net, x, [[1]] * batch, ALL)
    assert ours.engine == "fused"
    assert ours.refused == theirs.refused
    assert ours.failed == theirs.failed
    assert ours.maps.keys() == theirs.maps.keys()
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-12)
    for id, expected in theirs.maps.items():
        torch.testing.assert_close(ours.maps[id], expected, rtol=0, atol=1e-12, msg=id)


class Straight(torch.autograd.Function):
    """Rounds, and passes the gradient as if it had not."""

    @staticmethod
    def forward(ctx, z):
        return z * 2

    @staticmethod
    def backward(ctx, g):
        return g


def hooked(z):
    z.register_hook(lambda g: g * 2)
    return z


def one_part(z):
    z[:, :2].relu_()
    return z


def by_value(z):
    return z.relu() if z.mean((2, 3)).tolist()[0][0] < 99 else -z


REFUSED = {
    "silu": (F.silu, "silu"),
    "own gradient": (Straight.apply, "autograd function of its own"),
    "gradient hook": (hooked, "hooks itself"),
    "part in place": (one_part, "in place"),
    "depends on values": (by_value, "without values"),
    "gate": (lambda z: z * z.relu(), "multiplies"),
    "mixes the batch": (lambda z: z - z.mean(0, keepdim=True), "averages"),
    "flipped batch": (lambda z: z.flip(0).relu(), "flip"),
    "own tensors": (lambda z: z + torch.ones_like(z), "ones_like"),
    "batch constant": (lambda z: z.relu() * torch.full((1,), 2.0), ""),
}


@pytest.mark.parametrize(("act", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_the_walk_does_not_know_goes_to_the_reference_engine_and_is_named_once(act, reason):
    net, x = as_net(seeded(Act(lambda z, f: act(z))), "conv1"), images(2, 3, 6, 4)
    engine, methods = FusedEngine(), [METHODS.get("backprop"), METHODS.get("grad_cam")]
    with pytest.warns(FallsBack, match=rf"tiny is explained by .*autograd.*{reason}") as seen:
        ours = [engine(net, x, [[0]] * 2, methods) for _ in range(3)]
    assert sum(w.category is FallsBack for w in seen) == 1
    theirs = AutogradEngine()(net, x, [[0]] * 2, methods)
    for result in ours:
        assert result.engine == "autograd"
        for id, expected in theirs.maps.items():
            torch.testing.assert_close(result.maps[id], expected, rtol=0, atol=0)


def test_a_net_with_hooks_is_explained_with_them():
    module, x = seeded(Act(lambda z, f: F.relu(z))), images(1, 3, 6, 4)
    module.conv1.register_forward_hook(lambda module, args, output: output * 3)
    with pytest.warns(FallsBack, match="hooks"):
        ours = FusedEngine()(as_net(module, "conv1"), x, [[0]], [METHODS.get("backprop")])
    theirs = AutogradEngine()(as_net(module, "conv1"), x, [[0]], [METHODS.get("backprop")])
    assert torch.equal(ours.maps["backprop"], theirs.maps["backprop"])


CHANGES = {
    "parameter in place": lambda m: m.conv1.weight.mul_(2),
    "parameter replaced": lambda m: setattr(m.conv1, "weight", nn.Parameter(-m.conv1.weight)),
    "data replaced": lambda m: setattr(m.conv1.weight, "data", -m.conv1.weight.data),
    "module replaced": lambda m: setattr(m, "conv1", seeded(nn.Conv2d(3, 4, 5, padding=2), 9)),
    "state loaded": lambda m: m.load_state_dict(
        {name: value * 1.5 for name, value in m.state_dict().items()}
    ),
    "hook added": lambda m: m.conv1.register_forward_hook(lambda *seen: seen[2] * 3),
    "statistics": lambda m: m.norm.running_var.mul_(4),
    "through .data": lambda m: m.conv1.weight.data.mul_(2),
    "one value through .data": lambda m: m.conv2.weight.data[0, 0, 1, 1].add_(3),
    "through numpy": lambda m: np.negative(w := m.conv1.weight.numpy(), out=w),
    "full backward hook": lambda m: m.conv1.register_full_backward_hook(
        lambda module, inner, outer: (inner[0] * 3,)
    ),
    "attribute": lambda m: setattr(m.conv2, "padding", (2, 2)),
    "plain attribute": lambda m: setattr(m.norm, "eps", 0.5),
}


@pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_net_that_has_changed_is_recorded_again(change):
    module, x = seeded(Blocks(KNOWN["folded norm"])), images(1, 3, 6, 4)
    net, engine, methods = as_net(module, "conv2"), FusedEngine(), [METHODS.get("backprop")]
    before = engine(net, x, [[0]], methods).maps["backprop"]
    with torch.no_grad():
        change(module)
    after = engine(net, x, [[0]], methods).maps["backprop"]
    expected = AutogradEngine()(net, x, [[0]], methods).maps["backprop"]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)


def test_the_net_can_be_freed():
    import gc
    import weakref

    module, engine = seeded(Act(lambda z, f: F.relu(z))), FusedEngine()
    engine(as_net(module, "conv1"), images(1, 3, 6, 4), [[0]], ALL)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
