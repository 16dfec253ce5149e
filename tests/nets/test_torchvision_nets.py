"""Every classification net of torchvision: its weights, its sizes and its row in docs/nets.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from xai_core.errors import BadInput, UnknownChoice, Unsupported
from xai_core.nets import get_spec, load_net
from xai_core.nets.target_layer import find_target_layer
from xai_core.nets.torchvision_nets import names, published_weights

PAGE = Path(__file__).parents[2] / "docs" / "nets.md"


class _ParametersOnMeta(TorchFunctionMode):
    """Parameters take no memory; what a constructor computes (RegNet's widths) has values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def without_values(build: Callable[[], nn.Module]) -> nn.Module:
    with _ParametersOnMeta():
        module = build()
    return module.to("meta").eval()


def layer_and_size() -> dict[str, tuple[str, str]]:
    """Net to (target layer, sizes) as the page has them."""
    rows = re.findall(r"^\| (\w+) +\|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    cells = {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows[1:]}
    return {name: (row[0].strip("`"), row[-2]) for name, row in cells.items()}


def test_the_page_has_every_net():
    assert set(layer_and_size()) == names()
    assert names() == set(torchvision.models.list_models(module=torchvision.models))


def test_every_net_has_the_target_layer_and_the_sizes_of_the_page():
    found = {}
    for name in sorted(names()):
        spec = get_spec(name)
        module = without_values(spec.build)
        if spec.input_size is not None:
            with pytest.raises(BadInput, match="forward pass failed at 256x256"):
                find_target_layer(module, size=256)
        try:
            layer = spec.target_layer or find_target_layer(module, size=spec.input_size or 256)
        except Unsupported:
            layer = "-"
        found[name] = layer, "224 only" if spec.input_size else "any"
    page = layer_and_size()
    assert {n: (layer, s if s == "224 only" else "any") for n, (layer, s) in page.items()} == found


@pytest.mark.parametrize("name", sorted(names()))
def test_weights_that_fit_have_the_normalisation_and_classes_of_the_spec(name):
    spec = get_spec(name)
    fitting = []
    for weights in torchvision.models.get_model_weights(name):
        try:
            fitting.append(published_weights(name, weights.name))
        except BadInput:
            continue
    assert published_weights(name) in fitting
    for weights in fitting:
        transform = weights.transforms()
        assert (tuple(transform.mean), tuple(transform.std)) == (spec.mean, spec.std)
        assert tuple(weights.meta["categories"]) == spec.class_names


@pytest.mark.parametrize(
    ("name", "which", "expected"),
    [
        ("resnet50", "", "IMAGENET1K_V1"),
        ("resnet50", "V2", "IMAGENET1K_V2"),
        ("resnet50", "IMAGENET1K_V2", "IMAGENET1K_V2"),
        ("vit_h_14", "", "IMAGENET1K_SWAG_LINEAR_V1"),  # the first are for 518x518
        ("vit_b_16", "SWAG_LINEAR_V1", "IMAGENET1K_SWAG_LINEAR_V1"),
        ("regnet_y_128gf", "", "IMAGENET1K_SWAG_E2E_V1"),
    ],
)
def test_weights_are_found_by_their_short_and_full_name(name, which, expected):
    assert published_weights(name, which).name == expected


@pytest.mark.parametrize(
    ("name", "which", "error", "sentence"),
    [
        ("resnet50", "V3", UnknownChoice, "'V3'; known: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("resnet50", "v2", UnknownChoice, "'v2'; known: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("vgg16", "FEATURES", BadInput, "IMAGENET1K_FEATURES of vgg16 .*: they have no classifier"),
        ("vit_l_16", "SWAG_E2E_V1", BadInput, "for images of 512x512 pixels, not 224x224"),
        ("fcn_resnet50", "", BadInput, "torchvision has no ImageNet weights for fcn_resnet50"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_they_are_downloaded(
    name, which, error, sentence
):
    with pytest.raises(error, match=sentence):
        published_weights(name, which)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_nets_with_auxiliary_heads_compute_what_torchvision_computes(name, monkeypatch):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(
        name, weights=None, aux_logits=True, transform_input=True, init_weights=False
    )
    asked = []

    def get_state_dict(weights, **options):
        asked.append((weights.name, options))
        return theirs.state_dict()

    enum = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", get_state_dict)
    net = load_net(get_spec(name), "imagenet")
    assert asked == [
        ("IMAGENET1K_V1", {"progress": True, "check_hash": True, "weights_only": True})
    ]
    assert net.weights.label == "imagenet:IMAGENET1K_V1"
    x = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        assert torch.equal(net.module(x), theirs.eval()(x))
        net.module.transform_input = False
        assert not torch.equal(net.module(x), theirs(x))
