"""Every classification net of torchvision: its weights, its sizes and its row in docs/nets.md."""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from xai_core.errors import BadInput, UnknownChoice, Unsupported
from xai_core.nets import get_spec, load_net
from xai_core.nets.target_layer import find_target_layer
from xai_core.nets.torchvision_nets import names, published_weights
from xai_core.nets.weights import check_weights, load_weights

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


@pytest.fixture(scope="module", params=sorted(names()))
def each(request) -> tuple[str, nn.Module]:
    """Each net's id and its module, built once for the tests that follow."""
    return request.param, without_values(get_spec(request.param).build)


def test_every_net_has_the_target_layer_and_the_sizes_of_the_page(each):
    name, module = each
    spec = get_spec(name)
    if spec.input_size is not None:
        with pytest.raises(BadInput, match="forward pass failed at 256x256"):
            find_target_layer(module, size=256)
    try:
        layer = spec.target_layer or find_target_layer(module, size=spec.input_size or 256)
    except Unsupported:
        layer = "-"
    on_page, sizes = layer_and_size()[name]
    assert on_page == layer
    assert (sizes == "224 only") == (spec.input_size is not None)


def as_stored(name: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state_dict under the entries' names and versions of the file that torchvision publishes.

    As torchvision's own loaders expect them: `densenet._load_state_dict`, and
    `_load_from_state_dict` of `MLPBlock` (version 1) and `MNASNet`. The files of the first years
    have neither versions nor counters of batches.
    """
    versions = vars(state)["_metadata"]
    first_years = ("alexnet", "densenet", "googlenet", "inception", "resnet", "squeezenet", "vgg")
    is_old = name.startswith(first_years)
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key)
        if name.startswith("vit_"):
            key = key.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")
        if not (is_old and key.endswith("num_batches_tracked")):
            renamed[key] = value
    for head in ("aux1", "aux2") if name == "googlenet" else ("AuxLogits",):
        if name in {"googlenet", "inception_v3"}:
            renamed[f"{head}.fc.weight"] = torch.zeros(1000, 3)
    stored = OrderedDict(renamed)
    if not is_old:
        for path, entry in versions.items():
            if name.startswith("vit_") and path.endswith(".mlp"):
                entry["version"] = 1
            if name.startswith("mnasnet") and path == "":
                entry["version"] = 1 if name == "mnasnet1_0" else 2
        vars(stored)["_metadata"] = versions
    return stored


def test_weights_as_torchvision_stores_them_are_loaded_to_equal_tensors(
    each, monkeypatch, tmp_path
):
    """With one value in place of each tensor: names and versions decide what goes where."""
    name, module = each
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for key, value in tensors.items():
                if value is not None:
                    small = torch.zeros((1,) * value.ndim, dtype=value.dtype)
                    small = nn.Parameter(small) if isinstance(value, nn.Parameter) else small
                    monkeypatch.setitem(tensors, key, small)
    state = module.state_dict()
    wanted = {key: torch.full_like(state[key], i) for i, key in enumerate(state, start=1)}
    for key, value in wanted.items():
        state[key] = value
    torch.save(as_stored(name, state), tmp_path / "stored.pth")
    load_weights(name, module, str(tmp_path / "stored.pth"))
    for key, value in module.state_dict().items():
        assert torch.equal(value, wanted[key]) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize("name", ["densenet121", "vit_b_16", "mnasnet1_0"])
def test_what_torchvision_renames_is_loaded_as_torchvision_loads_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = published_weights(name)
    file = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.manual_seed(1)
    torch.save(as_stored(name, get_spec(name).build().state_dict()), file)
    theirs = torchvision.models.get_model(name, weights=weights).state_dict()
    check_weights(name, get_spec(name).build, str(file))
    for ours in (load_net(get_spec(name), "imagenet"), load_net(get_spec(name), str(file))):
        loaded = ours.module.state_dict()
        assert loaded.keys() == theirs.keys()
        assert all(torch.equal(loaded[key], theirs[key]) for key in theirs)


def test_a_mnasnet_of_the_first_version_gets_the_stem_of_that_version(tmp_path):
    def build() -> nn.Module:
        return torchvision.models.MNASNet(0.5)

    old = build()
    versions = vars(old.state_dict())["_metadata"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision says that the file is old
        versions[""]["version"] = 1
        state = old.state_dict()
        vars(state)["_metadata"] = versions
        with suppress(RuntimeError):  # of the newer stem: what is left is a net of the first
            old.load_state_dict(state)
        torch.save(old.state_dict(), tmp_path / "old.pth")
        check_weights("mnasnet", build, str(tmp_path / "old.pth"))
        loaded = build()
        load_weights("mnasnet", loaded, str(tmp_path / "old.pth"))
    assert loaded.layers[0].weight.shape[0] == 32 != build().layers[0].weight.shape[0]
    assert torch.equal(loaded.layers[0].weight, old.layers[0].weight)


def test_a_file_of_a_mnasnet_without_versions_is_of_the_newest(tmp_path):
    net = torchvision.models.mnasnet0_5()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    check_weights("mnasnet0_5", torchvision.models.mnasnet0_5, str(tmp_path / "net.safetensors"))
    loaded = torchvision.models.mnasnet0_5()
    load_weights("mnasnet0_5", loaded, str(tmp_path / "net.safetensors"))
    assert torch.equal(loaded.layers[0].weight, net.layers[0].weight)


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
