"""What the engine promises apart from the maps: nets left alone, batches, targets, bad input."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference.maps import random_parameters
from tests.tiny import Act, ConvNet, as_net, explain, images, maps, seeded
from xai_core.errors import BadInput
from xai_core.methods import METHODS, Method
from xai_core.methods.coarse_maps import min_max
from xai_core.signals import INPUT

pytestmark = [
    pytest.mark.usefixtures("each_engine"),
    pytest.mark.filterwarnings("ignore::xai_core.engine.FallsBack"),
]

ALL = tuple(id for id in METHODS if not METHODS.get(id).baseline)


class UsersNet(nn.Module):
    """As users have them: trainable, partly in training mode, with hooks of their own."""

    def __init__(self, fail: bool = False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.fail = fail

    def forward(self, x):
        f = self.frozen(self.drop(self.relu(self.norm(self.conv(x)))))
        if self.fail:
            raise RuntimeError("out of tea")
        return self.fc(f.mean(dim=(2, 3)))


def users_net(fail: bool = False) -> UsersNet:
    net = seeded(UsersNet(fail)).train().requires_grad_(True)
    net.frozen.eval()
    net.conv.bias.requires_grad_(False)
    net.relu.register_forward_hook(lambda module, args, output: None)
    net.register_forward_pre_hook(lambda module, args: None)
    return net


def state(net: nn.Module) -> dict[str, object]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "values": {name: value.clone() for name, value in net.state_dict().items()},
        "identity": [id(p) for p in (*net.parameters(), *net.buffers())],
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "grad": [p.grad for p in net.parameters()],
        "training": [m.training for m in net.modules()],
        "inplace": [getattr(m, "inplace", None) for m in net.modules()],
        "hooks": [dict(getattr(m, hook)) for m in net.modules() for hook in hooks],
        "forward": [m.forward.__func__ for m in net.modules()],
    }


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    values_before, values_after = before.pop("values"), after.pop("values")
    assert before == after
    for name, value in values_before.items():
        assert torch.equal(value, values_after[name]), name


@pytest.mark.parametrize("ids", [ALL, ("backprop",), ("grad_cam",), ("cam",)], ids=str)
def test_the_net_is_left_as_it_was(ids):
    net, x = users_net(), images(2, 3, 6, 4)
    before, relu, given = state(net), F.relu, x.clone()
    assert explain(as_net(net, "frozen"), x, [[0], [1]], *ids).maps
    assert_same(before, state(net))
    assert F.relu is relu
    assert torch.equal(x, given)
    assert not x.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("ids", [ALL, ("grad_cam",)], ids=str)
def test_the_net_is_left_as_it_was_when_it_raises(ids):
    net = users_net(fail=True)
    before = state(net)
    with pytest.raises(BadInput, match="tiny can't take a 4x6 image: out of tea"):
        explain(as_net(net, "frozen"), images(2, 3, 6, 4), [[0], [1]], *ids)
    assert_same(before, state(net))
    assert torch.is_grad_enabled()


def test_a_training_net_is_explained_in_evaluation_mode():
    training, evaluating = users_net(), users_net().eval()
    x = images(2, 3, 6, 4)
    a = explain(as_net(training, "frozen"), x, [[0], [1]], *ALL)
    b = explain(as_net(evaluating, "frozen"), x, [[0], [1]], *ALL)
    for method in a.maps:
        assert torch.equal(a.maps[method], b.maps[method])


def test_parameter_gradients_are_never_computed(monkeypatch):
    asked = []
    real = torch.autograd.grad

    def grad(outputs, inputs, **kwargs):
        asked.extend(inputs)
        return real(outputs, inputs, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    monkeypatch.setattr(torch.Tensor, "backward", None)
    net = users_net()
    explain(as_net(net, "frozen"), images(1, 3, 6, 4), [[0]], *ALL)
    assert asked
    assert not {id(p) for p in net.parameters()} & {id(t) for t in asked}


def test_maps_carry_no_graph():
    net = as_net(users_net(), "frozen")
    result = explain(net, images(2, 3, 6, 4), [[0], [1]], *ALL)
    tensors = (*result.maps.values(), result.logits, result.targets)
    assert not any(t.requires_grad for t in tensors)


def test_gradients_are_computed_also_where_the_caller_has_turned_them_off():
    net, x = as_net(users_net(), "frozen"), images(1, 3, 6, 4)
    with torch.no_grad():
        off = maps(net, x, 0, "guided_grad_cam")["guided_grad_cam"]
        assert not torch.is_grad_enabled()
    assert off.any()
    assert torch.equal(off, maps(net, x, 0, "guided_grad_cam")["guided_grad_cam"])


def test_a_batch_is_its_images_one_by_one():
    net, x = as_net(ConvNet(random_parameters(0)), "features.4"), images(4, 3, 8, 6)
    candidates = [[0], [1], [2], [0, 1, 2]]
    batch = explain(net, x, candidates, *ALL)
    for i, group in enumerate(candidates):
        single = explain(net, x[i : i + 1], [group], *ALL)
        assert single.targets[0] == batch.targets[i]
        for method in ALL:
            torch.testing.assert_close(
                batch.maps[method][i], single.maps[method][0], rtol=0, atol=1e-12
            )


def test_runs_are_deterministic():
    net, x = as_net(ConvNet(random_parameters(0)), "features.4"), images(2, 3, 8, 6)
    first, second = (explain(net, x, [[0], [1]], *ALL) for _ in range(2))
    assert set(first.maps) == set(ALL)
    for method in ALL:
        assert torch.equal(first.maps[method], second.maps[method])


def test_the_candidate_with_the_highest_logit_is_explained():
    net, x = as_net(ConvNet(random_parameters(1, classes=6)), "features.4"), images(5, 3, 8, 6)
    logits = net.module(x)
    groups = [[2, 1, 0], [5, 3], [4], [0, 5, 2], [1, 3]]
    result = explain(net, x, groups, "backprop")
    expected = [max(group, key=lambda c: logits[i, c]) for i, group in enumerate(groups)]
    assert result.targets.tolist() == expected
    assert expected != [group[0] for group in groups]
    alone = maps(net, x[1:2], expected[1], "backprop")["backprop"]
    torch.testing.assert_close(result.maps["backprop"][1], alone[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("candidate", [3, -1, 1000])
def test_a_candidate_that_is_no_output_is_bad_input(candidate):
    net = as_net(ConvNet(random_parameters(0)), "features.4")
    with pytest.raises(BadInput, match=f"class index {candidate} is not among the 3 outputs"):
        explain(net, images(2, 3, 8, 6), [[0], [1, candidate]], "backprop")


@pytest.mark.parametrize(
    "spoil",
    ["features.0.weight", "features.0.bias", "features.3.bias", "fc.weight", "fc.bias"],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ALL)
def test_broken_weights_are_bad_input_and_never_an_empty_map(spoil, value, method):
    net = ConvNet(random_parameters(0))
    net.get_parameter(spoil).view(-1)[0] = value
    with pytest.raises(BadInput, match="NaN or infinite logits"):
        explain(as_net(net, "features.4"), images(1, 3, 8, 6), [[0]], method)


def test_a_gradient_out_of_range_fails_its_methods_and_no_others():
    net = ConvNet(random_parameters(0)).float()
    for layer in (net.features[0], net.features[3]):
        layer.weight *= 1e20
        layer.bias *= 0
    tiny = images(1, 3, 8, 6, dtype=torch.float32) * 1e-30
    result = explain(as_net(net, "features.4"), tiny, [[0]], *ALL)
    assert set(result.maps) == {"cam", "grad_cam"}
    assert set(result.failed) == {*ALL} - {"cam", "grad_cam"}
    assert all("NaN or infinite" in reason for reason in result.failed.values())


class RaisesInBackward(Act):
    """Works without gradients; autograd needs the ReLU's output, which is overwritten."""

    def __init__(self):
        super().__init__(lambda z, f: F.relu(f(z)).mul_(2))


class WithoutGraph(Act):
    def __init__(self):
        super().__init__(lambda z, f: F.relu(f(z)).detach())


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("net", [RaisesInBackward, WithoutGraph])
@pytest.mark.parametrize("ids", [("backprop",), ("guided_backprop",), ("grad_cam",)], ids=str)
def test_a_net_that_has_no_gradient_is_bad_input(net, ids, trainable):
    """Also where the walk would have one: the definition has none to hold it against."""
    module = seeded(net()).requires_grad_(trainable)
    try:
        result = explain(as_net(module, "conv1"), images(1, 3, 6, 4), [[0]], *ids)
    except BadInput as error:
        reason = str(error)
    else:  # what is behind the target layer has a gradient, if parameters have
        reason = result.failed["grad_cam"]
    assert "no gradient" in reason
    assert not any(m._forward_hooks for m in module.modules())


def test_logits_of_another_shape_are_bad_input():
    net = as_net(nn.Conv2d(3, 4, 3).double())
    with pytest.raises(BadInput, match="logits of shape"):
        explain(net, images(1, 3, 6, 4), [[0]], "backprop")


def test_a_map_that_breaks_its_own_declaration_is_refused():
    def odd(combine, non_negative=False):
        return Method("odd", "Odd", frozenset({INPUT}), combine, 1, non_negative)

    signals = {INPUT: torch.zeros(2, 3, 4, 5)}
    assert odd(lambda s: -torch.ones(2, 1, 4, 5))(signals).shape == (2, 1, 4, 5)
    with pytest.raises(BadInput, match=r"odd gave a map of shape \(2, 1, 5, 4\)"):
        odd(lambda s: torch.zeros(2, 1, 5, 4))(signals)
    with pytest.raises(BadInput, match="odd gave NaN"):
        odd(lambda s: torch.full((2, 1, 4, 5), torch.nan))(signals)
    with pytest.raises(BadInput, match="odd gave negative values"):
        odd(lambda s: -torch.ones(2, 1, 4, 5), non_negative=True)(signals)


def test_min_max_spans_0_to_1_exactly_and_keeps_constant_maps_at_0():
    values = images(3, 1, 4, 4)
    values[1], values[2] = 0, 0.7
    scaled = min_max(values)
    assert (scaled[0].min(), scaled[0].max()) == (0, 1)
    assert not scaled[1:].any()
    values[0, 0, 0, 0] = torch.nan
    assert torch.isnan(min_max(values)[0]).any()


def test_the_net_can_be_copied_and_run_after_an_explanation():
    net = users_net().eval()
    x = images(2, 3, 6, 4)
    before = net(x)
    explain(as_net(net, "frozen"), x, [[0], [1]], *ALL)
    assert torch.equal(copy.deepcopy(net)(x), before)
