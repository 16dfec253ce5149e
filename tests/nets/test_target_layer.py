"""The default target layer feeds the final pooling: never a pooled map, never class scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from xai_core.errors import BadInput, Unsupported
from xai_core.nets.spec import STUDY_NETS, get_spec
from xai_core.nets.target_layer import find_target_layer

OTHERS = {
    "vgg16_bn": "features.42",
    "resnet18": "layer4",
    "densenet121": "features",
    "googlenet": "inception5b",
    "mnasnet0_5": "layers",
    "squeezenet1_1": "features",
    "mobilenet_v2": "features",
    "shufflenet_v2_x0_5": "conv5",
}


def build(name: str) -> nn.Module:
    with torch.device("meta"):  # the trace needs shapes only
        return get_spec(name).build().eval()


def watched(module: nn.Module, *layers: str) -> list[Tensor]:
    """The values of these layers' outputs in one forward pass, as the layers gave them."""
    seen: dict[str, Tensor] = {}
    for layer in layers:

        def hook(module, args, output, layer=layer):
            seen[layer] = output.clone()

        module.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        module(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return [seen[layer] for layer in layers]


@pytest.mark.parametrize("name", STUDY_NETS)
def test_the_rule_finds_the_tensor_of_the_studys_layer(name):
    named = get_spec(name).target_layer
    module = get_spec(name).build().eval()
    expected, found = watched(module, named, find_target_layer(module))
    assert expected.any()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", OTHERS)
def test_the_layer_of_other_nets(name):
    assert find_target_layer(build(name)) == OTHERS[name]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("alexnet", (256, 13, 13)),
        ("vgg19", (512, 14, 14)),
        ("resnet152", (2048, 7, 7)),
        ("squeezenet1_0", (512, 13, 13)),
    ],
)
def test_the_studys_layers_have_the_shape_that_the_study_names(name, shape):
    module, shapes = build(name), []
    layer = module.get_submodule(get_spec(name).target_layer)
    layer.register_forward_hook(lambda module, args, output: shapes.append(output.shape[1:]))
    module(torch.zeros(1, 3, 224, 224, device="meta"))
    assert shapes == [shape]


class Small(nn.Module):
    def __init__(self, tail: Callable[[Tensor], Tensor], last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.last = last or nn.ReLU()
        self.scores = nn.Conv2d(6, 4, 1)
        self.fc = nn.Linear(6, 4)
        self.tail = tail

    def forward(self, x):
        return self.tail(self, self.last(self.conv(x)))


TAILS = {
    "mean": lambda net, f: net.fc(f.mean(dim=(2, 3))),
    "torch.mean": lambda net, f: net.fc(torch.mean(f, (2, 3))),
    "max pooling": lambda net, f: net.fc(F.adaptive_max_pool2d(f, 1).flatten(1)),
    "pooled twice": lambda net, f: net.fc(F.max_pool2d(f, 2).mean(dim=(2, 3))),
    "dropout between": lambda net, f: net.fc(F.dropout(f, 0.5, False).mean(dim=(2, 3))),
    "scores, then pooling": lambda net, f: net.scores(f).mean(dim=(2, 3)),
    "scores, relu, then pooling": lambda net, f: net.scores(f).relu().mean(dim=(2, 3)),
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@pytest.mark.parametrize("last", [nn.ReLU(), nn.ReLU(inplace=True), nn.GELU()], ids=str)
def test_the_last_activation_is_found_behind_any_tail(tail, last):
    assert find_target_layer(Small(tail, last).eval()) == "last"


def test_the_layer_before_a_relu_that_is_no_module_is_taken():
    module = Small(lambda net, f: net.fc(F.relu(f).mean(dim=(2, 3))), nn.BatchNorm2d(6))
    assert find_target_layer(module.eval()) == "last"


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        (lambda net, f: f.flatten(1)[:, :4], "nothing spatial is pooled"),
        (lambda net, f: net.fc((f + 1).mean(dim=(2, 3))), "is no module's output"),
    ],
    ids=["no pooling", "no module"],
)
def test_a_net_that_the_rule_has_no_layer_for_is_unsupported(tail, sentence):
    with pytest.raises(Unsupported, match=sentence):
        find_target_layer(Small(tail).eval())


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        (lambda net, f: net.fc(f.flatten(1)), "forward pass failed at 16x16: .*mat1"),
        (lambda net, f: {}["x"], "forward pass failed at 16x16: 'x'"),
        (lambda net, f: (net.fc(f.mean(dim=(2, 3))),), "gives a tuple, not logits"),
    ],
    ids=["wrong size", "bug", "no tensor"],
)
def test_a_net_that_can_not_be_run_is_bad_input(tail, sentence):
    with pytest.raises(BadInput, match=sentence):
        find_target_layer(Small(tail).eval(), size=16)


def test_the_net_is_left_as_it_was():
    module = torchvision.models.squeezenet1_1().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    find_target_layer(module)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(child._forward_hooks for child in module.modules())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
