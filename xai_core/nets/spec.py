"""What must be known of a net before it is built, and where nets are looked up."""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from xai_core.errors import BadInput, UnknownChoice, first_line
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

    What stands for the same is taken, too: one number or any sequence, array or tensor for `mean`
    and `std`, any sequence for `class_names`, a path for `weights`, (N, N) or (3, N, N) for
    `input_size`.

    Attributes:
        id: name in options, records and reports.
        build: returns the module with untrained parameters; it maps normalised images
            (B, 3, H, W) to logits (B, classes).
        target_layer: dotted name of the module whose output is the target layer; None to have it
            found (see `xai_core.nets.target_layer`).
        mean: per-channel mean that normalises images in [0, 1], itself in [0, 1].
        std: per-channel standard deviation, likewise in (0, 1].
        class_names: names of the outputs; None where they are not known.
        weights: where the trained parameters come from without ``--weights``: ``imagenet``,
            ``random:SEED`` or a file; None means that `build` returns a trained module.
        input_size: N where the net takes images of N x N pixels only; None for any size.

    Raises:
        BadInput: an attribute can't be what it should be.
    """

    id: str
    build: Callable[[], nn.Module]
    target_layer: str | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    class_names: tuple[str, ...] | None = None
    weights: str | None = None
    input_size: int | None = None

    def __post_init__(self) -> None:
        set_to = partial(object.__setattr__, self)  # of a frozen instance
        if not (isinstance(self.id, str) and self.id):
            raise BadInput(f"a NetSpec's id is {self.id!r}, not a name")
        try:
            if not callable(self.build):
                raise BadInput(f"build is a {type(self.build).__name__}, not a function")
            if not isinstance(self.target_layer, str | None):
                raise BadInput(f"target_layer is a {type(self.target_layer).__name__}, not a name")
            set_to("mean", _mean(self.mean))
            set_to("std", _std(self.std))
            set_to("class_names", _class_names(self.class_names))
            set_to("weights", _weights(self.weights))
            set_to("input_size", _input_size(self.input_size))
        except BadInput as error:
            raise BadInput(f"the NetSpec {self.id!r} can't be used: its {error}") from None


def _mean(value: object) -> tuple[float, float, float]:
    mean = _by_channel("mean", value)
    if not all(0 <= number <= 1 for number in mean):
        raise BadInput(f"mean {mean} is not in [0, 1], and images are: {_OF_BYTES}")
    return mean


def _std(value: object) -> tuple[float, float, float]:
    std = _by_channel("std", value)
    if min(std) <= 0:
        raise BadInput(f"std {std} is not positive, and images are divided by it")
    if max(std) > 1:
        raise BadInput(f"std {std} is more than 1, and images are in [0, 1]: {_OF_BYTES}")
    return std


_OF_BYTES = "divide by 255 what was computed from images in 0..255"


def _by_channel(what: str, value: object) -> tuple[float, float, float]:
    """Three numbers, from one or three; of any kind that numpy reads, torch's tensors included."""
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel().tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{what} can't be read as numbers: {first_line(error)}") from None
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise BadInput(f"{what} {value!r} is not one finite number, or three")
    red, green, blue = numbers
    return red, green, blue


def _class_names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = () if isinstance(value, str | Mapping) or not isinstance(value, Iterable) else (*value,)
    if not names or not all(isinstance(name, str) for name in names):
        raise BadInput("class_names are no sequence of names, in the order of the outputs")
    return tuple(map(str, names))


def _weights(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise BadInput(f"weights are a {type(value).__name__}, not a keyword or a file's path")


def _input_size(value: Any) -> int | None:
    if value is None:
        return None
    sides = list(value) if isinstance(value, tuple | list) else [value, value]
    if len(sides) == 3 and sides[0] == 3:  # (channels, height, width), as timm has it
        del sides[0]
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        height, width = 0, 0
    if height != width or height < 1 or isinstance(value, bool):
        raise BadInput(f"input_size {value!r} is no number of pixels N, for images of N x N")
    return height


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
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        raise BadInput(f"the net {name} can't be imported: {first_line(error)}") from error
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
