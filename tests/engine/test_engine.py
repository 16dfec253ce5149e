"""What an engine promises besides the rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from xai_core.engine import AutogradEngine
from xai_core.errors import BadInput
from xai_core.methods import METHODS
from xai_core.types import Net, Weights

ALL = list(METHODS)


class Convolutional(nn.Module):
    """conv - [relu in place] - pooling - linear, or (head "conv") 1x1 conv - relu - pooling."""

    def __init__(self, head="linear", inplace=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        self.drop = nn.Dropout()
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5) if head == "linear" else nn.Conv2d(6, 5, 1)

    def forward(self, x):
        f = self.drop(self.norm(self.relu(self.conv(x))))
        if isinstance(self.head, nn.Linear):
            return self.head(f.mean(dim=(2, 3)))
        return F.relu(self.head(f)).mean(dim=(2, 3))


def as_net(module, layer="norm"):
    return Net("net", module.double(), layer, (0,) * 3, (1,) * 3, Weights("", "", True))


def images(n=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 6, dtype=torch.float64, generator=generator)


def explain(net, batch, *methods, candidates=None):
    chosen = [METHODS.get(m) for m in methods]
    return AutogradEngine()(net, batch, candidates or [[1]] * len(batch), chosen)


def state(module):
    return {
        "values": {k: v.clone() for k, v in module.state_dict().items()},
        "modes": [m.training for m in module.modules()],
        "flags": [(p.requires_grad, p.grad) for p in module.parameters()],
        "inplace": [getattr(m, "inplace", None) for m in module.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in module.modules()
        ],
    }


def assert_same_state(before, after):
    for key in before.keys() - {"values"}:
        assert before[key] == after[key], key
    assert all(torch.equal(v, after["values"][k]) for k, v in before["values"].items())


def test_a_net_in_training_mode_with_gradients_is_left_as_it_was():
    module = Convolutional().double()
    module.relu.eval()  # a mixture, which must come back as it was
    before = state(module)
    explain(as_net(module), images(), *ALL)
    assert_same_state(before, state(module))


def test_an_error_in_the_middle_leaves_the_net_as_it_was():
    module = Convolutional().double()
    module.head = nn.Linear(7, 5).double()  # does not fit
    before = state(module)
    with pytest.raises(BadInput, match="net can't take a 6x8 image"):
        explain(as_net(module), images(), *ALL)
    assert_same_state(before, state(module))


def test_evaluation_mode_is_used_whatever_the_nets_mode():
    module = Convolutional().double().train()
    first = explain(as_net(module), images(), "backprop").maps["backprop"]
    second = explain(as_net(module.eval()), images(), "backprop").maps["backprop"]
    assert torch.equal(first, second)


def test_the_images_are_left_as_they_were_by_a_net_that_works_in_place():
    class InPlace(Convolutional):
        def forward(self, x):
            return super().forward(F.relu(x, inplace=True))

    batch = images()
    before = batch.clone()
    result = explain(as_net(InPlace()), batch, "backprop", "guided_backprop")
    assert torch.equal(batch, before)
    assert not batch.requires_grad
    assert not result.maps["backprop"][before <= 0].any()


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_a_batch_gives_what_its_images_give_alone(head):
    net, batch = as_net(Convolutional(head)), images(3)
    together = explain(net, batch, *ALL)
    for i in range(3):
        alone = explain(net, batch[i : i + 1], *ALL)
        for method in ALL:
            torch.testing.assert_close(
                together.maps[method][i], alone.maps[method][0], rtol=0, atol=1e-14
            )


@pytest.mark.parametrize("methods", [["grad_cam"], ["cam"], ["guided_grad_cam"], ["backprop"]])
def test_a_method_alone_gives_what_it_gives_among_all(methods):
    net = as_net(Convolutional())
    for method in methods:
        alone = explain(net, images(), method).maps[method]
        among = explain(net, images(), *ALL).maps[method]
        torch.testing.assert_close(alone, among, rtol=0, atol=1e-15)


def test_the_target_layer_is_seen_before_a_relu_that_overwrites_it():
    """Grad-CAM at a convolution that an in-place ReLU follows, as vgg19's features.34."""
    overwritten = explain(as_net(Convolutional(inplace=True), "conv"), images(), "grad_cam")
    kept = explain(as_net(Convolutional(inplace=False), "conv"), images(), "grad_cam")
    assert kept.maps["grad_cam"].any()
    assert torch.equal(overwritten.maps["grad_cam"], kept.maps["grad_cam"])


@pytest.mark.parametrize("head", ["linear", "conv"])
def test_grad_cam_is_cam_behind_global_average_pooling(head):
    for seed in range(5):
        maps = explain(as_net(Convolutional(head)), images(seed=seed), "cam", "grad_cam").maps
        if maps["grad_cam"].any():
            torch.testing.assert_close(maps["cam"], maps["grad_cam"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", ["conv", "relu"])
def test_cam_is_refused_where_something_lies_between_layer_and_pooling(layer):
    module = Convolutional().eval()
    module.norm.running_mean += 1
    result = explain(as_net(module, layer), images(), "cam", "grad_cam")
    assert "CAM needs global average pooling" in result.refused["cam"]
    assert "grad_cam" in result.maps


def test_the_candidate_with_the_highest_logit_is_explained():
    net, batch = as_net(Convolutional()), images(4)
    result = explain(net, batch, "cam", candidates=[[0, 3], [3, 0], [2], [0, 1, 2, 3, 4]])
    logits = net.module.eval()(batch)
    expected = [max(c, key=lambda k, i=i: logits[i, k]) for i, c in enumerate([[0, 3]] * 2)]
    expected += [2, int(logits[3].argmax())]
    assert result.targets.tolist() == expected


@pytest.mark.parametrize("index", [5, -1, 999])
def test_a_candidate_that_is_no_output_is_bad_input(index):
    with pytest.raises(BadInput, match=f"class index {index} is not among the 5 outputs of net"):
        explain(as_net(Convolutional()), images(), "backprop", candidates=[[1, index]])


def test_nan_weights_are_bad_input_and_never_an_empty_map():
    module = Convolutional()
    module.head.weight.data[1] = torch.nan
    with pytest.raises(BadInput, match="NaN or infinite logits"):
        explain(as_net(module), images(), *ALL)


def test_maps_beyond_the_floats_fail_by_name():
    """The logits are finite, the gradient at the image is not."""
    module = Convolutional().float().eval()
    module.conv.weight.data *= 1e30
    module.conv.bias.data.zero_()
    module.norm.weight.data *= 1e-30
    module.head.weight.data *= 1e30
    net = Net("net", module, "relu", (0,) * 3, (1,) * 3, Weights("", "", True))
    module.norm.weight.data *= 1e38
    result = explain_or_fail(net, images().float() * 1e-38)
    assert "NaN or infinite" in result


def explain_or_fail(net, batch):
    try:
        result = explain(net, batch, "backprop")
    except BadInput as error:
        return str(error)
    return result.failed.get("backprop", str(result.maps))


def test_a_layer_that_is_not_there_or_runs_twice_is_bad_input():
    class Twice(Convolutional):
        def forward(self, x):
            return self.head(self.relu(self.norm(self.relu(self.conv(x)))).mean(dim=(2, 3)))

    with pytest.raises(BadInput, match="no layer called 'nothing'"):
        explain(as_net(Convolutional(), "nothing"), images(), "grad_cam")
    with pytest.raises(BadInput, match="ran 2 times"):
        explain(as_net(Twice(), "relu"), images(), "grad_cam")
    with pytest.raises(BadInput, match=r"has an output of shape \(1, 5\)"):
        explain(as_net(Convolutional(), "head"), images(), "grad_cam")


def test_no_parameter_ever_gets_a_gradient():
    module = Convolutional().double()
    explain(as_net(module), images(), *ALL)
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_a_map_that_breaks_its_own_declaration_is_refused():
    from xai_core.methods.method import Method
    from xai_core.signals import INPUT

    def method(combine, non_negative=False):
        return Method("odd", "Odd", frozenset({INPUT}), combine, 1, non_negative)

    signals = {INPUT: torch.zeros(2, 3, 4, 5)}
    assert method(lambda s: torch.zeros(2, 1, 4, 5))(signals).shape == (2, 1, 4, 5)
    with pytest.raises(BadInput, match=r"odd gave a map of shape \(2, 1, 5, 4\)"):
        method(lambda s: torch.zeros(2, 1, 5, 4))(signals)
    with pytest.raises(BadInput, match="odd gave NaN"):
        method(lambda s: torch.full((2, 1, 4, 5), torch.nan))(signals)
    with pytest.raises(BadInput, match="odd gave negative values"):
        method(lambda s: -torch.ones(2, 1, 4, 5), non_negative=True)(signals)


def test_min_max_spans_0_to_1_exactly_and_keeps_constant_maps_at_0():
    from xai_core.methods.coarse_maps import min_max

    values = torch.tensor(np.random.default_rng(0).normal(size=(3, 1, 4, 4)))
    values[1] = 0
    values[2] = 0.7
    scaled = min_max(values)
    assert (scaled[0].min(), scaled[0].max()) == (0, 1)
    assert not scaled[1:].any()
    values[0, 0, 0, 0] = torch.nan
    assert torch.isnan(min_max(values)[0]).any()
