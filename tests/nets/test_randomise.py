"""Layers are forgotten from the output downwards, in the order in which they are used."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision.ops import FrozenBatchNorm2d

from xai_core.errors import BadInput
from xai_core.nets import NetSpec, get_spec, load_net
from xai_core.nets.randomise import randomise


class Crossed(nn.Module):
    """Registered in another order than it is used; one layer is used twice, one never."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.unused = nn.Linear(2, 2)
        self.second = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.first = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        x = self.second(self.second(self.norm(self.first(x))).relu())
        return self.head(x.mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(5)
    module = Crossed().eval()
    module.norm.running_mean.uniform_()
    nn.init.uniform_(module.norm.weight)
    return module


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    others = after.state_dict()
    return {
        name.partition(".")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(value, others[name])
    }


@pytest.mark.parametrize(
    ("stage", "count", "names"),
    [
        ("logits", 1, {"head"}),
        ("half", 2, {"head", "second"}),
        ("all", 5, {"head", "second", "norm", "first", "unused"}),
    ],
)
def test_layers_are_forgotten_from_the_output_downwards(net, stage, count, names):
    other = copy.deepcopy(net)
    assert randomise(other, stage) == count
    assert changed(net, other) == names
    assert not other.training
    assert not any(module._forward_hooks for module in other.modules())


def test_stages_are_nested_and_the_same_every_time(net):
    half, everything, again = (copy.deepcopy(net) for _ in range(3))
    randomise(half, "half")
    randomise(everything, "all")
    randomise(again, "all")
    assert changed(everything, again) == set()
    assert not changed(half, everything) & {"head", "second"}
    randomise(again, "all", seed=1)
    assert {"head", "second", "first"} <= changed(everything, again)


def test_batch_norm_forgets_its_statistics(net):
    randomise(net, "all")
    assert (net.norm.running_mean == 0).all()
    assert (net.norm.weight == 1).all()


def test_parameters_without_a_default_keep_mean_and_spread():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(3 + 2 * torch.randn(100, 30))

        def forward(self, x):
            return x.mean() + self.table

    module = Own()
    before = module.table.clone()
    randomise(module, "logits")
    assert not torch.equal(module.table, before)
    assert float(module.table.detach().mean()) == pytest.approx(3, abs=0.2)
    assert float(module.table.detach().std()) == pytest.approx(2, abs=0.2)


def test_random_numbers_of_others_are_left_alone(net):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    randomise(net, "all")
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [(nn.ReLU(), "no layer has parameters"), (nn.Conv2d(7, 1, 1), "layers can't be found")],
    ids=["no parameters", "other input"],
)
def test_what_can_t_be_randomised_is_said(module, sentence):
    with pytest.raises(BadInput, match=sentence):
        randomise(module, "all")


def test_a_loaded_copy_has_an_id_and_a_hash_of_its_own():
    spec = get_spec("squeezenet1_0")
    own = load_net(spec, "scenes")
    copies = [load_net(spec, "scenes", randomised=stage) for stage in ("logits", "all")]
    assert [net.id for net in copies] == ["squeezenet1_0~logits", "squeezenet1_0~all"]
    assert len({net.weights.sha256 for net in [own, *copies]}) == 3
    assert [net.weights.label for net in copies] == ["scenes~logits", "scenes~all"]
    assert not any(net.weights.random for net in copies)
    assert {net.target_layer for net in copies} == {own.target_layer}
    assert [net.module.training for net in copies] == [False, False]


def normed(norm: Callable[[nn.Module], object]) -> nn.Module:
    """Crossed, its weights computed from others, as training leaves it."""
    torch.manual_seed(5)
    module = Crossed()
    module.norm.running_mean.uniform_()
    for layer in (module.first, module.second, module.head):
        norm(layer)
    for _ in range(5):  # spectral norm finds its vectors in training
        module.train()(torch.rand(2, 3, 8, 8))
    return module.requires_grad_(False)


def pruned(layer: nn.Module) -> object:
    return prune.l1_unstructured(layer, "weight", amount=0.5)


NORMS = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "old weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "pruned": pruned,
}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_computed_from_others_are_forgotten(kind):
    image = torch.rand(2, 3, 8, 8)
    weights = {}
    for stage in ("trained", "logits", "all"):
        module = normed(NORMS[kind])
        if stage != "trained":
            modes = [part.training for part in (module, module.first)]
            randomise(module, stage)
            assert modes == [part.training for part in (module, module.first)]
        module.eval()(image)  # computes them
        weights[stage] = {
            name: getattr(module, name).weight.clone() for name in ("first", "second", "head")
        }
    for name, trained in weights["trained"].items():
        forgotten = weights["all"][name]
        assert torch.isfinite(forgotten).all()
        assert not torch.isclose(forgotten, trained, rtol=1e-3, atol=0).any()
        if name == "head":
            assert torch.equal(weights["logits"][name], forgotten)
        else:  # computed in evaluation mode, it is what it was
            torch.testing.assert_close(weights["logits"][name], trained)


class Scaled(nn.Module):
    """Learnt values behind the last layer: a temperature, and a bias for each class."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.temperature = nn.Parameter(torch.tensor(4.0))
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.inner(x)) * self.temperature


def test_a_scale_behind_the_last_layer_does_not_stand_for_it(net):
    module = Scaled(net).eval()
    trained = copy.deepcopy(module)
    assert randomise(module, "logits") == 3
    assert not torch.isclose(module.inner.head.weight, trained.inner.head.weight).any()
    assert torch.equal(module.inner.second.weight, trained.inner.second.weight)
    assert float(module.temperature.detach()) != 4.0


class Attention(nn.Module):
    """As Vision Transformers have it: learnt tokens of the net itself, weights read by others."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.stem = nn.Conv2d(3, 8, 16, 16)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.frozen = nn.BatchNorm1d(8, affine=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.head(self.frozen(self.attention(x, x, x, need_weights=False)[0][:, 0]))


def test_in_all_no_value_that_is_computed_with_stays():
    torch.manual_seed(0)
    trained = Attention().eval()
    trained.frozen.running_mean.normal_()
    trained.frozen.running_var.uniform_(1, 2)
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    logits, everything = copy.deepcopy(trained), copy.deepcopy(trained)
    assert randomise(logits, "logits") == 1
    assert changed(trained, logits) == {"head"}
    randomise(everything, "all")
    forgotten = everything.state_dict()
    for name, value in trained.state_dict().items():
        if value.is_floating_point():
            assert not torch.isclose(forgotten[name], value).any(), name


def test_frozen_statistics_are_forgotten():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    for value in module[1].buffers():
        value.uniform_(2, 3)
    randomise(module, "all", side=4)
    assert [float(v.mean()) for v in module[1].buffers()] == [1, 0, 0, 1]


def test_what_has_only_one_value_is_drawn_too():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.Flatten(), nn.Linear(64, 2))
    slope = nn.Parameter(torch.full((), 3.0))

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.slope = slope

        def forward(self, x):
            return x * self.slope

    module[1] = Slope()
    randomise(module, "all", side=4)
    assert 1 < float(slope.detach()) < 6
    assert float(slope.detach()) != 3


class Conv(nn.Conv2d):
    """A layer whose `reset_parameters` is of its own kind."""

    kind = ""

    def reset_parameters(self, std=None):
        if self.kind == "wants an argument":
            std + 1
        elif self.kind != "does nothing":
            super().reset_parameters()


def test_a_reset_that_does_nothing_is_made_up_for():
    module = nn.Sequential(Conv(3, 4, 1), nn.Flatten(), nn.Linear(64, 2))
    module[0].kind = "does nothing"
    before = module[0].weight.clone()
    randomise(module, "all", side=4)
    assert not torch.isclose(module[0].weight, before).any()


def test_a_reset_that_fails_is_said_by_the_name_of_its_layer():
    module = nn.Sequential(Conv(3, 4, 1), nn.Flatten(), nn.Linear(64, 2))
    module[0].kind = "wants an argument"
    with pytest.raises(BadInput, match=r"^reset_parameters of 0 fails: unsupported operand"):
        randomise(module, "all", side=4)


def test_a_net_that_computes_with_other_values_than_its_parameters_is_refused():
    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.copied = [self.layer.weight.detach().clone()]

        def forward(self, x):
            return x.mean((2, 3)) @ self.copied[0].T + 0 * self.layer.bias

    with pytest.raises(BadInput, match="its logits stay as they were"):
        randomise(Elsewhere(), "all")


def test_a_net_of_one_size_is_randomised_at_it():
    flat = NetSpec("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 2)), input_size=6)
    assert load_net(flat, "random:1", randomised="all").id == "flat~all"
