"""The ways in which users change the weights of a net that was explained before."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn


@torch.no_grad()
def in_place(module: nn.Module) -> None:
    for p in module.parameters():
        p.mul_(1.25)


def through_data(module: nn.Module) -> None:
    for i, p in enumerate(module.parameters()):
        if i % 2:
            p.data.mul_(0.75)
        else:
            values = p.detach().numpy()
            values *= -1.25


def loaded(module: nn.Module) -> None:
    scaled = {
        name: value * 1.5 if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(scaled)


def replaced(module: nn.Module) -> None:
    """The last submodule with weights of its own gives way to another of its kind."""
    name = [n for n, m in module.named_modules() if n and list(m.parameters(recurse=False))][-1]
    parent = module.get_submodule(name.rpartition(".")[0])
    new = copy.deepcopy(module.get_submodule(name))
    with torch.no_grad():
        for p in new.parameters():
            p.mul_(-0.75)
    setattr(parent, name.rpartition(".")[2], new)


CHANGES: tuple[Callable[[nn.Module], None], ...] = (in_place, through_data, loaded, replaced)
History = tuple[int, ...]
