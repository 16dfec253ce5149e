"""A spec becomes a net: seeded without a trace, frozen, in evaluation mode, of the asked dtype."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.reference.images import resize
from xai_core.errors import BadInput, UnknownChoice
from xai_core.nets import NetSpec, get_spec, load_net
from xai_core.nets.preprocess import preprocess, size_of
from xai_core.nets.spec import IMAGENET_MEAN, IMAGENET_STD, STUDY_NETS


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))


SPEC = NetSpec("small", Small)


def values(net) -> list[torch.Tensor]:
    return list(net.module.state_dict().values())


def test_a_seed_always_gives_the_same_weights_and_another_seed_others():
    first, again, other = (load_net(SPEC, w) for w in ("random:3", "random:3", "random:4"))
    torch.manual_seed(99)
    later = load_net(SPEC, "random:3")
    for net in (again, later):
        assert all(torch.equal(a, b) for a, b in zip(values(first), values(net), strict=True))
        assert net.weights == first.weights
    assert not torch.equal(first.module.conv.weight, other.module.conv.weight)
    assert other.weights.sha256 != first.weights.sha256


def test_random_is_random_0():
    assert load_net(SPEC, "random").weights == load_net(SPEC, "random:0").weights


def test_random_weights_say_so():
    assert load_net(SPEC, "random:3").weights.label == "random:3"
    assert load_net(SPEC, "random:3").weights.random
    assert not load_net(SPEC).weights.random


def test_the_global_generators_are_not_disturbed():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(), random.random()

    def seed():
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)

    seed()
    expected = draw()
    seed()
    for name in ("squeezenet1_1", "googlenet"):
        load_net(get_spec(name), "random:5")
    assert draw() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_net_is_ready_to_be_explained(dtype):
    net = load_net(SPEC, "random", dtype=dtype)
    assert not any(child.training for child in net.module.modules())
    assert not any(p.requires_grad for p in net.module.parameters())
    assert {p.dtype for p in net.module.parameters()} == {dtype}
    assert (net.id, net.target_layer) == ("small", "norm")


def test_the_dtype_does_not_change_what_the_weights_are():
    single, double = (load_net(SPEC, "random", dtype=d) for d in (torch.float32, torch.float64))
    assert single.weights == double.weights
    assert torch.equal(single.module.conv.weight.double(), double.module.conv.weight)


def test_a_net_without_a_target_layer_is_loaded_with_the_reason():
    spec = NetSpec("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2)))
    net = load_net(replace(spec, input_size=6), "random")
    assert (net.target_layer, net.input_size) == (None, 6)
    assert net.no_target_layer.startswith("flat has no target layer: nothing spatial is pooled")
    assert load_net(SPEC, "random").no_target_layer == ""


def test_a_net_that_can_not_be_run_to_find_its_layer_is_bad_input():
    spec = NetSpec("flat", lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2)))
    with pytest.raises(BadInput, match=r"^flat: its forward pass failed at 224x224: .*mat1"):
        load_net(spec, "random")


def test_a_target_layer_that_is_not_there_is_named_with_its_like():
    with pytest.raises(BadInput, match=r"^small has no layer called 'cov'; near: conv$"):
        load_net(replace(SPEC, target_layer="cov"), "random")
    assert load_net(replace(SPEC, target_layer="conv"), "random").target_layer == "conv"


def test_the_study_has_its_nets_and_layers():
    layers = {name: get_spec(name).target_layer for name in STUDY_NETS}
    assert layers == {
        "alexnet": "features.11",
        "vgg19": "features.35",
        "resnet152": "layer4",
        "squeezenet1_0": "features.12",
    }
    for name in STUDY_NETS:
        spec = get_spec(name)
        assert (spec.mean, spec.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert spec.class_names[950] == "orange"


def test_a_users_net_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "users_nets.py").write_text(
        "from torch import nn\nfrom xai_core.nets import NetSpec\n"
        "SPEC = NetSpec('mine', nn.Identity)\nOTHER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert get_spec("users_nets:SPEC").id == "mine"
    with pytest.raises(BadInput, match="is a int, not an"):
        get_spec("users_nets:OTHER")
    for missing in ("users_nets:NOTHING", "no_such_module:SPEC"):
        with pytest.raises(BadInput, match="can't be imported"):
            get_spec(missing)


@pytest.mark.parametrize("name", ["resnet1", "fcn_resnet50", "raft_large"])
def test_what_is_no_classification_net_is_unknown(name):
    with pytest.raises(UnknownChoice, match="known: alexnet, "):
        get_spec(name)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_at_its_own_size_is_only_normalised():
    image, net = picture(5, 7), load_net(SPEC, "random", dtype=torch.float64)
    expected = (image / 255 - IMAGENET_MEAN) / IMAGENET_STD
    ours = preprocess(image, "original", net)
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours[0].permute(1, 2, 0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [6, 18, 40])
def test_resizing_is_bilinear_antialiased_and_keeps_no_aspect_ratio(size):
    image, net = picture(12, 24), load_net(SPEC, "random", dtype=torch.float64)
    assert size_of(image, str(size)) == (size, size)
    expected = (resize(image, size, size) - IMAGENET_MEAN) / IMAGENET_STD
    ours = preprocess(image, str(size), net)[0].permute(1, 2, 0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_the_callers_image_is_not_touched():
    image = picture(5, 7)
    image.setflags(write=False)
    preprocess(image, "4", load_net(SPEC, "random"))


THREE = (0.25, 0.5, 0.75)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (THREE, THREE),
        (list(THREE), THREE),
        (np.array(THREE), THREE),
        (torch.tensor(THREE, requires_grad=False), THREE),
        (torch.tensor(THREE).view(1, 3, 1, 1), THREE),
        (0.5, (0.5, 0.5, 0.5)),
        (1, (1.0, 1.0, 1.0)),
        ((0.5,), (0.5, 0.5, 0.5)),
        (np.float32(0.5), (0.5, 0.5, 0.5)),
    ],
    ids=repr,
)
def test_normalisation_is_taken_in_every_form(given, expected):
    spec = NetSpec("small", Small, mean=given, std=given)
    assert (spec.mean, spec.std) == (expected, expected)
    assert {type(number) for number in (*spec.mean, *spec.std)} == {float}
    assert spec == NetSpec("small", Small, mean=expected, std=expected)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mean": (123.675, 116.28, 103.53)}, r"its mean \(123.675, .* is not in \[0, 1\], .*255$"),
        ({"std": (58.395, 57.12, 57.375)}, r"its std \(58.395, .* is more than 1, .*255$"),
        ({"std": 0.0}, r"its std \(0.0, 0.0, 0.0\) is not positive"),
        ({"std": (0.2, -0.2, 0.2)}, "is not positive"),
        ({"mean": -0.1}, r"is not in \[0, 1\]"),
        ({"mean": float("nan")}, "is not one finite number, or three"),
        ({"mean": (0.5, 0.5)}, "is not one finite number, or three"),
        ({"mean": None}, "is not one finite number, or three"),
        ({"std": "half"}, "std can't be read as numbers"),
        ({"class_names": "abc"}, "class_names are no sequence of names"),
        ({"class_names": {0: "a"}}, "class_names are no sequence of names"),
        ({"class_names": 3}, "class_names are no sequence of names"),
        ({"class_names": (1, 2)}, "class_names are no sequence of names"),
        ({"weights": 3}, "weights are a int"),
        ({"input_size": (224, 192)}, "is no number of pixels N"),
        ({"input_size": 0}, "is no number of pixels N"),
        ({"input_size": True}, "is no number of pixels N"),
        ({"input_size": "224"}, "is no number of pixels N"),
        ({"target_layer": nn.ReLU()}, "target_layer is a ReLU, not a name"),
        ({"build": 3}, "build is a int, not a function"),
    ],
    ids=repr,
)
def test_a_spec_that_can_not_be_meant_is_refused_where_it_is_written(fields, sentence):
    with pytest.raises(BadInput, match=rf"^the NetSpec 'small' can't be used: .*{sentence}"):
        NetSpec(**{"id": "small", "build": Small, **fields})


def test_a_size_a_path_and_names_are_taken_in_every_form(tmp_path):
    for given in (224, (224, 224), [224, 224], (3, 224, 224), np.int64(224)):
        assert NetSpec("small", Small, input_size=given).input_size == 224
    torch.save(Small().state_dict(), tmp_path / "small.pth")
    spec = NetSpec("small", Small, weights=tmp_path / "small.pth", class_names=np.array(list("ab")))
    assert (spec.weights, spec.class_names) == (str(tmp_path / "small.pth"), ("a", "b"))
    assert load_net(replace(spec, class_names=None)).weights.label == "small.pth"


@pytest.mark.parametrize("given", [None, (Small(), 1), lambda x: x], ids=["None", "tuple", "def"])
def test_a_build_that_gives_no_module_is_refused(given):
    with pytest.raises(BadInput, match=r"^odd can't be built: its build\(\) gives (noth|a \w+, )"):
        load_net(NetSpec("odd", lambda: given))


def test_a_module_that_ends_the_process_on_import_is_refused(tmp_path, monkeypatch):
    (tmp_path / "quitting_nets.py").write_text("raise SystemExit('usage: ...')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="can't be imported: usage"):
        get_spec("quitting_nets:SPEC")
