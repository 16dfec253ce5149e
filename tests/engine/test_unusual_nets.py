"""Nets that keep things outside themselves, change themselves, mix images, or can't be run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.tiny import Act, as_net, explain, images, maps, seeded
from xai_core.engine import DependsOnBatch, FallsBack, FusedEngine
from xai_core.engine.fused.operators import Convolution
from xai_core.errors import BadInput
from xai_core.methods import METHODS

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack"),
]

KEPT: dict[object, torch.Tensor] = {}


def gradient(module: nn.Module, x: torch.Tensor, c: int) -> torch.Tensor:
    """Torch's own, of logit c of each image."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(module(x)[:, c].sum(), x)[0]


def kept_grid(z: torch.Tensor) -> torch.Tensor:
    """Of a cache that does not ask for the device."""
    key = z.shape[2:]
    if key not in KEPT:
        KEPT[key] = torch.arange(z.shape[3], dtype=z.dtype, device=z.device).expand(z.shape[2:])
    return z + KEPT[key] / 10


def test_a_cache_outside_the_net_holds_values_afterwards():
    KEPT.clear()
    module, x = seeded(Act(lambda z, f: F.relu(f(kept_grid(z))))), images(1, 3, 6, 5)
    ours = maps(as_net(module), x, 1, "backprop")["backprop"]
    torch.testing.assert_close(ours, gradient(module, x, 1), rtol=0, atol=1e-12)
    assert {t.device.type for t in KEPT.values()} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("act", [F.relu, lambda z: z + torch.rand_like(z)], ids=["plain", "random"])
def test_the_random_state_is_given_back(act, dtype):
    module = seeded(Act(lambda z, f: act(z))).to(dtype)
    before = torch.get_rng_state()
    maps(as_net(module), images(1, 3, 6, 5, dtype=dtype), 1, "backprop")
    assert torch.equal(before, torch.get_rng_state())


class MergesInEvaluation(nn.Conv2d):
    """As low-rank adapters do: their product is part of the weight in evaluation mode."""

    def __init__(self):
        super().__init__(4, 4, 1)
        self.update = nn.Parameter(torch.ones(4, 4, 1, 1))
        self.merged = False

    def train(self, mode: bool = True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += -self.update if mode else self.update
            self.merged = not mode
        return self

    def forward(self, z):
        extra = 0 if self.merged else F.conv2d(z, self.update)
        return super().forward(z) + extra


@pytest.mark.parametrize("root_trains", [True, False])
def test_a_net_that_merges_weights_in_evaluation_mode_is_taken_apart_again(root_trains):
    module = Act(lambda z, f: module.adapter(F.relu(z)))
    module.adapter = MergesInEvaluation()
    seeded(module)
    module.adapter.weight.copy_(torch.arange(16.0).view(4, 4, 1, 1))  # sums without rounding
    module.adapter.update.fill_(0.5)
    module.adapter.merged = False
    module.train() if root_trains else module.adapter.train()
    weight = module.adapter.weight.clone()
    x = images(1, 3, 6, 5)
    expected = module(x).detach()
    for _ in range(2):
        result = explain(as_net(module), x, [[1]], "backprop")
        torch.testing.assert_close(result.logits, expected, rtol=0, atol=1e-12)
        assert module.adapter.training
        assert not module.adapter.merged
        assert module.training == root_trains
        assert torch.equal(module.adapter.weight, weight)


def test_a_function_that_holds_the_net_counts_no_batches():
    module = Act(lambda z, f: F.relu(module.norm(z)))
    module.norm = nn.BatchNorm2d(4)
    seeded(module).train()
    assert maps(as_net(module), images(1, 3, 6, 5), 1, "backprop")
    assert int(module.norm.num_batches_tracked) == 0


class Renormalised(nn.Conv2d):
    def forward(self, z):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.3)
        return super().forward(z)


class Shrinks(nn.Conv2d):
    def forward(self, z):
        self.weight.data = self.weight.data * 0.9
        return super().forward(z)


class Layered(Act):
    def __init__(self, layer: nn.Module):
        super().__init__(lambda z, f: z)
        self.layer = layer

    def forward(self, x):
        return self.fc(F.relu(self.layer(F.relu(self.conv1(x)))).mean((2, 3)))


def with_layer(layer: nn.Module) -> nn.Module:
    return seeded(Layered(layer))


def test_a_weight_that_is_set_in_the_forward_pass_is_the_one_explained(each_engine):
    module, twin = (with_layer(Renormalised(4, 4, 3)) for _ in range(2))
    x = images(1, 3, 6, 5)
    result = explain(as_net(module), x, [[1]], "backprop", "guided_backprop")
    expected = gradient(twin, x, 1)
    assert not torch.equal(twin.layer.weight, with_layer(Renormalised(4, 4, 3)).layer.weight)
    torch.testing.assert_close(result.logits, twin(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(result.maps["backprop"], expected, rtol=0, atol=1e-12)
    assert result.engine == each_engine.id


def test_a_net_that_changes_at_every_pass_is_left_to_the_reference_engine():
    module = with_layer(Shrinks(4, 4, 3))
    assert explain(as_net(module), images(1, 3, 6, 5), [[1]], "backprop").engine == "autograd"


def autocast(z):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.conv2d(z, torch.ones(4, 4, 1, 1)).float()


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_computed_under_autocast_is_explained_so(inside):
    module = seeded(Act(lambda z, f: F.relu(autocast(z) if inside else f(z)))).float()
    x = images(1, 3, 6, 5, dtype=torch.float32)
    explain(as_net(module), x, [[1]], "backprop")  # what was recorded without autocast is not used
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not inside):
        result = explain(as_net(module), x, [[1]], "backprop")
        assert torch.equal(result.logits, module(x))
    assert result.engine == "autograd"


MIXING = {
    "batch statistics": lambda z, f: F.relu(F.batch_norm(z, None, None, training=True)),
    "mean of the batch": lambda z, f: F.relu(f(z - z.mean(0, keepdim=True))),
    "softmax over the batch": lambda z, f: F.relu(z) * z.mean((2, 3), keepdim=True).softmax(0),
    "number of images": lambda z, f: F.relu(z) / len(z),
    "path by the number of images": lambda z, f: F.relu(f(z)) if len(z) == 1 else F.relu(z),
    "running sum": lambda z, f: F.relu(z.cumsum(0)),
}


@pytest.mark.parametrize("act", MIXING.values(), ids=MIXING)
def test_where_images_influence_each_other_each_map_is_of_its_own_logit(act):
    module, x = seeded(Act(act)), images(3, 3, 6, 5)
    with pytest.warns(DependsOnBatch, match="use batch size 1"):
        result = explain(as_net(module), x, [[1]] * 3, "backprop", "guided_backprop")
    assert result.depends_on_batch
    assert torch.equal(result.logits, module(x))
    for i in range(3):
        y = x.clone().requires_grad_()
        with torch.enable_grad():
            (expected,) = torch.autograd.grad(module(y)[i, 1], y)
        torch.testing.assert_close(result.maps["backprop"][i], expected[i], rtol=0, atol=1e-12)
    alone = explain(as_net(module), x[:1], [[1]], "backprop")
    assert not alone.depends_on_batch
    torch.testing.assert_close(alone.maps["backprop"], gradient(module, x[:1], 1))


def test_images_that_do_not_influence_each_other_give_no_warning(recwarn):
    explain(as_net(seeded(Act(lambda z, f: F.silu(z)))), images(3, 3, 6, 5), [[1]] * 3, "backprop")
    assert not [w for w in recwarn if w.category is DependsOnBatch]


def test_a_caller_under_inference_mode_is_served_and_leaves_no_trace(each_engine):
    module, x = seeded(Act(lambda z, f: F.relu(z))), images(2, 3, 6, 5)
    with torch.inference_mode():
        inside = explain(as_net(module), x + 0, [[1]] * 2, "guided_backprop")
    outside = explain(as_net(module), x, [[1]] * 2, "guided_backprop")
    assert inside.engine == outside.engine == each_engine.id
    assert torch.equal(inside.maps["guided_backprop"], outside.maps["guided_backprop"])


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()


def inferred() -> nn.Module:
    with torch.inference_mode():
        return Act(lambda z, f: F.relu(z)).double()


UNUSABLE = {
    "lazy modules": (lazy, (1, 3, 6, 5), torch.float64, "run it on an image first"),
    "built in inference mode": (inferred, (1, 3, 6, 5), torch.float64, "build it outside"),
    "no images": (lambda: seeded(Act(lambda z, f: z)), (0, 3, 6, 5), torch.float64, "shape"),
    "no batch": (lambda: seeded(Act(lambda z, f: z)), (3, 6, 5), torch.float64, "shape"),
    "bytes": (lambda: seeded(Act(lambda z, f: z)), (1, 3, 6, 5), torch.uint8, "floating point"),
    "another type": (lambda: seeded(Act(lambda z, f: z)), (1, 3, 6, 5), torch.float32, "double"),
}


@pytest.mark.parametrize(("make", "shape", "dtype", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_can_not_be_explained_is_bad_input(make, shape, dtype, words):
    x = torch.zeros(shape, dtype=dtype)
    with pytest.raises(BadInput, match=words):
        explain(as_net(make()), x, [[1]] * len(x), "backprop")


def test_sparse_buffers_and_buffers_of_another_type_are_no_obstacle():
    module = seeded(Act(lambda z, f: F.relu(z) + module.prior)).float()
    module.register_buffer("prior", torch.full((4, 1, 1), 0.2, dtype=torch.float64))
    module.register_buffer("graph", torch.eye(4).to_sparse())
    x = images(1, 3, 6, 5, dtype=torch.float32)
    module.fc.double()
    result = explain(as_net(module), x, [[1]], "backprop")
    assert torch.equal(result.logits, module(x))


def test_cam_is_refused_where_the_last_linear_layer_reads_tokens():
    module = Act(lambda z, f: F.relu(z))
    module.forward = lambda x: module.fc(F.relu(module.conv1(x)).flatten(2).mT).mean(1)
    result = explain(as_net(seeded(module), "conv1"), images(1, 3, 6, 5), [[1]], "cam", "backprop")
    assert "global average pooling" in result.refused["cam"]
    assert set(result.maps) == {"backprop"}


def test_a_nan_behind_a_relu_is_never_hidden(each_engine):
    """oneDNN's convolution with ReLU would turn it into 0."""
    module = seeded(Act(lambda z, f: F.relu(f(F.relu(z))))).float()
    x = images(1, 3, 6, 5, dtype=torch.float32)
    explain(as_net(module), x, [[1]], "backprop")
    for value in (x * 1e38, x * float("nan")):
        with pytest.raises(BadInput, match="NaN or infinite logits"):
            explain(as_net(module), value, [[1]], "backprop")


HEADS = {
    "mean of 1x1 scores": lambda m, f: m.scores(f).mean((2, 3)),
    "pooled 1x1 scores": lambda m, f: F.adaptive_avg_pool2d(m.scores(f), 1).flatten(1),
    "mean of pooled scores": lambda m, f: F.max_pool2d(m.scores(f), 2).mean((2, 3)),
    "mean of a sum of scores": lambda m, f: (m.scores(f) + m.wide(f)).mean((2, 3)),
    "mean of joined scores": lambda m, f: torch.cat([m.scores(f), f], 1).mean((2, 3)),
    "mean of wide scores": lambda m, f: m.wide(f).mean((2, 3)),
    "mean of dilated scores": lambda m, f: F.conv2d(f, m.wide.weight, None, 1, 9, 9).mean((2, 3)),
    "view behind linear": lambda m, f: m.fc(f.mean((2, 3))).view(-1, 3),
    "squeezed": lambda m, f: m.fc(f.mean((2, 3)).unsqueeze(1)).squeeze(1),
    "flattened 1x1 linear": lambda m, f: m.fc(f.mean((2, 3), True).permute(0, 2, 3, 1)).flatten(1),
    "kept dimensions": lambda m, f: m.scores(f.mean((2, 3), keepdim=True)).view(len(f), -1),
}


class Head(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.scores = nn.Conv2d(4, 3, 1)
        self.wide = nn.Conv2d(4, 3, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.head = head

    def forward(self, x):
        return self.head(self, F.relu(self.conv(x)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_heads_however_they_are_spelled_are_walked(head, batch, dtype, each_engine, recwarn):
    module, x = seeded(Head(head)), images(batch, 3, 8, 7)
    expected = gradient(module, x, 1)
    result = explain(as_net(module.to(dtype), "conv"), x.to(dtype), [[1]] * batch, "backprop")
    assert result.engine == each_engine.id
    assert not [w for w in recwarn if w.category is FallsBack]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(
        result.maps["backprop"].double(), expected, rtol=0, atol=tolerance * float(expected.max())
    )


def test_a_dead_logit_does_not_spare_the_check(monkeypatch):
    """The gradient of the explained logit is zero in both engines: another one is compared."""
    module = seeded(Act(lambda z, f: F.relu(z)))
    module.fc.weight[0].zero_()
    engine, net = FusedEngine(), as_net(module, "conv1")
    walked = []

    def spoilt(self, g, *rest):
        walked.append(g)
        return (g * 0,)

    monkeypatch.setattr(Convolution, "backward", spoilt)
    with pytest.warns(FallsBack, match="gradient"):
        result = engine(net, images(1, 3, 6, 5), [[0]], [METHODS.get("backprop")])
    assert result.engine == "autograd"
    assert walked
