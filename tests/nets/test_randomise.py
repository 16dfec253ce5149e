"""Layers are forgotten from the output downwards, in the order in which they are used."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from xai_core.errors import BadInput
from xai_core.nets import get_spec, load_net
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
