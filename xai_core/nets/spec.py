"""What must be known of a net before it is built, and where nets are looked up."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch import nn

from xai_core.errors import BadInput, UnknownChoice
from xai_core.nets import torchvision_nets
from xai_core.registry import Registry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_STUDY_LAYERS = {
    "alexnet": "features.11",
    "vgg19": "features.35",
    "resnet152": "layer4",
    "squeezenet1_0": "features.12",
}

STUDY_NETS = tuple(_STUDY_LAYERS)
"""The study's nets, in its order."""


@dataclass(frozen=True)
class NetSpec:
    """A net that can be built, by us or by a user.

    Attributes:
        id: name in options, records and reports.
        build: returns the module with untrained parameters; it maps normalised images
            (B, 3, H, W) to logits (B, classes).
        target_layer: dotted name of the module whose output is the target layer; None to have it
            found (see `xai_core.nets.target_layer`).
        mean: per-channel mean that normalises images in [0, 1].
        std: per-channel standard deviation, likewise.
        class_names: names of the outputs; None where they are not known.
        weights: where the trained parameters come from without ``--weights``: ``imagenet``,
            ``random:SEED`` or a file; None means that `build` returns a trained module.
        input_size: N where the net takes images of N x N pixels only; None for any size.
    """

    id: str
    build: Callable[[], nn.Module]
    target_layer: str | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None
    weights: str | None = None
    input_size: int | None = None


NETS: Registry[NetSpec] = Registry("net", NetSpec)


def register_net(spec: NetSpec) -> NetSpec:
    """Make ``spec`` known under its id."""
    return NETS.register(spec.id, spec)


def get_spec(name: str) -> NetSpec:
    """Look a net up: a registered id, a torchvision classification net, or ``package.module:NAME``.

    Raises:
        UnknownChoice: no such net.
        BadInput: the module path leads to no `NetSpec`.
    """
    if name in set(NETS):
        return NETS.get(name)
    if ":" in name:
        return _import_spec(name)
    if name in torchvision_nets.names():
        return _torchvision_spec(name)
    rest = ("any classification net of torchvision.models", "package.module:SPEC")
    raise UnknownChoice("net", name, [*sorted({*STUDY_NETS, *NETS}), *rest])


def _import_spec(name: str) -> NetSpec:
    module_name, _, attribute = name.partition(":")
    try:
        spec = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the user's module may raise anything
        raise BadInput(f"the net {name} can't be imported: {error}") from error
    if not isinstance(spec, NetSpec):
        raise BadInput(f"{name} is a {type(spec).__name__}, not an xai_core.nets.NetSpec")
    return spec


@cache
def _torchvision_spec(name: str) -> NetSpec:
    weights = torchvision_nets.published_weights(name)
    transform = weights.transforms()
    return NetSpec(
        id=name,
        build=lambda: torchvision_nets.build(name),
        target_layer=_STUDY_LAYERS.get(name),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        class_names=tuple(weights.meta["categories"]),
        weights="imagenet",
        input_size=torchvision_nets.input_size(name),
    )
