"""What torchvision knows: its classification nets, their published weights, the sizes they take.

torchvision is imported where it is needed: a net of one's own starts two seconds earlier.
"""

from __future__ import annotations

import copy
import sys
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor, nn

from xai_core.errors import BadInput, UnknownChoice

if TYPE_CHECKING:
    import torchvision

BUILT_FOR = 224
"""Sides of the images that torchvision builds every net for, without weights."""


@cache
def names() -> frozenset[str]:
    """All classification nets of torchvision."""
    import torchvision

    return frozenset(torchvision.models.list_models(module=torchvision.models))


def build(name: str) -> nn.Module:
    """A net with untrained parameters, of the architecture of its published weights."""
    import torchvision

    # These two are built for their published weights: with those, torchvision turns the input
    # transform on; their auxiliary heads only run in training.
    extra = {}
    if name in {"googlenet", "inception_v3"}:
        extra = {"transform_input": True, "aux_logits": False, "init_weights": True}
    module: nn.Module = torchvision.models.get_model(name, weights=None, **extra)
    return module


def input_size(name: str) -> int | None:
    """The one size N that a net takes, as N x N pixels; None where it takes others, too.

    Vision Transformers have one learnt embedding for each patch of such an image. MaxViT cuts its
    maps into windows of 7 x 7, and holds attention tables that are built for such an image.
    """
    return BUILT_FOR if name.startswith(("vit_", "maxvit_")) else None


def published_weights(name: str, which: str = "") -> torchvision.models.WeightsEnum:
    """Weights that torchvision publishes for a net.

    Args:
        name: of the net.
        which: a member of its enumeration, ``IMAGENET1K_`` left out or not; empty for
            ``IMAGENET1K_V1``, or where a net has none, the first that fit it.

    Raises:
        BadInput: torchvision has no such net, or these weights don't fit what `build` makes.
        UnknownChoice: no such weights.
    """
    import torchvision

    if name not in names():
        raise BadInput(f"torchvision has no ImageNet weights for {name}; give a file")
    enum = torchvision.models.get_model_weights(name)
    members = enum.__members__
    if not which:  # the oldest, which the literature used
        if "IMAGENET1K_V1" in members:
            return members["IMAGENET1K_V1"]
        return next(member for member in enum if _misfit(name, member) is None)
    found = members.get(which) or members.get(f"IMAGENET1K_{which}")
    if found is None:
        raise UnknownChoice(f"torchvision weights of {name}:", which, members)
    misfit = _misfit(name, found)
    if misfit:
        raise BadInput(f"the weights {found.name} of {name} can't be used: {misfit}")
    return found


def _misfit(name: str, weights: torchvision.models.WeightsEnum) -> str | None:
    """Why weights don't fit what `build` makes; None if they do."""
    if not weights.meta["categories"]:
        return "they have no classifier"
    smallest = weights.meta["min_size"][0]
    if input_size(name) is not None and smallest != BUILT_FOR:
        return f"they are for images of {smallest}x{smallest} pixels, not {BUILT_FOR}x{BUILT_FOR}"
    return None


def as_renamed(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What torchvision's own loading makes of a state_dict before a module takes it.

    The published files of DenseNets call their entries ``norm.1``, and torchvision renames them
    outside the module. MNASNets ask for a version; a file without any is taken as of the newest.
    (Vision Transformers rename ``mlp.linear_1`` themselves, and MNASNets an older stem.)
    """
    densenet = sys.modules.get("torchvision.models.densenet")
    if densenet and any(isinstance(part, densenet.DenseNet) for part in module.modules()):
        renamed = _Renamed(state)
        densenet._load_state_dict(renamed, renamed, progress=False)
        return renamed.state
    mnasnet = sys.modules.get("torchvision.models.mnasnet")
    is_mnasnet = mnasnet and any(isinstance(part, mnasnet.MNASNet) for part in module.modules())
    if is_mnasnet and not getattr(state, "_metadata", None):
        newest = module.state_dict()
        newest.clear()  # its versions stay
        newest.update(state)
        return newest
    return state


class _Renamed:
    """Stands for a DenseNet and for its weights where torchvision renames entries."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = copy.copy(state)

    def get_state_dict(self, **options: object) -> dict[str, Tensor]:
        return self.state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.state = state
