"""A ReLU with a rule of its own making, for nets written out by hand or patched for a while.

Unlike the project's it keeps the ReLU's *input* z, never works in place, and is put into a net by
replacing torch's functions rather than by a function mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

RULES = ("plain", "deconvolution", "guided")
METHOD_OF = {"plain": "backprop", "deconvolution": "deconvolution", "guided": "guided_backprop"}


class TwinRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, rule: str) -> Tensor:
        ctx.save_for_backward(z.clone())
        ctx.rule = rule
        return torch.where(z > 0, z, torch.zeros_like(z))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        passes = {
            "plain": z > 0,
            "deconvolution": g > 0,
            "guided": (z > 0) & (g > 0),
        }[ctx.rule]
        return torch.where(passes, g, torch.zeros_like(g)), None


def relu(rule: str):
    """A function z -> relu(z) that obeys the rule in its backward pass."""
    return lambda z, inplace=False: TwinRelu.apply(z, rule)


@contextmanager
def patched(rule: str) -> Iterator[None]:
    """Within, `F.relu` (which `nn.ReLU` calls too) and `torch.relu` are the twin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "relu", relu(rule))
        patch.setattr(torch, "relu", relu(rule))
        yield


def gradient(forward, image: Tensor, c: int) -> Tensor:
    """d forward(image)[0, c] / d image."""
    image = image.detach().clone().requires_grad_()
    return torch.autograd.grad(forward(image)[0, c], image)[0]
