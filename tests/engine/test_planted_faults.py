"""Ten faults planted in operators, readers and plan: the check at recording sees each of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.tiny import as_net, images, seeded
from xai_core.engine import AutogradEngine, FallsBack, FusedEngine
from xai_core.engine.fused import plan, readers
from xai_core.engine.fused.operators import (
    Add,
    BatchNorm,
    Convolution,
    MaxPool,
    Mean,
    PhasedConvolution,
    Slice,
    rectify,
)
from xai_core.methods import METHODS

METHOD_IDS = ("backprop", "deconvolution", "guided_backprop", "grad_cam")


class Everything(nn.Module):
    """Each operation that a fault is planted in: strided stem, norm, pooling, sum, slices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4, eps=0.5)
        self.conv, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norm(self.stem(x))), 3, 2)
        h = F.relu(self.conv(h) + h)
        return self.fc(F.relu(self.last(h[:, 1:])).mean((2, 3)))


Plant = Callable[[pytest.MonkeyPatch], None]


def in_result(cls: type, wrong: Callable[[Any], Any], method: str = "backward") -> Plant:
    """The fault: what a method of an operator gives is changed."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(cls, method)
        patch.setattr(cls, method, lambda self, *args: wrong(right(self, *args)))

    return plant


def in_self(cls: type, method: str, wrong: Callable[[Any], Any]) -> Plant:
    """The fault: the method works with other settings than the operator's own."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = getattr(cls, method)
        patch.setattr(cls, method, lambda self, *args: right(wrong(self), *args))

    return plant


def no_mask(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rectify, "_mask", lambda g, output, rules: None)


def another_stride(patch: pytest.MonkeyPatch) -> None:
    pool = torch.ops.aten.max_pool2d_with_indices.default
    right = readers.READERS[pool]
    patch.setitem(
        readers.READERS,
        pool,
        lambda r, x, kernel, stride, *rest: right(r, x, kernel, kernel, *rest),
    )


def over_the_target(patch: pytest.MonkeyPatch) -> None:
    right = plan._fold
    patch.setattr(plan, "_fold", lambda nodes, observed, layouts: right(nodes, set(), layouts))


@dataclass(frozen=True)
class Fault:
    """What is planted, where it shows, and what the warning must name."""

    plant: Plant
    named: str
    dtype: torch.dtype = torch.float64
    target: str = "last"


FAULTS = {
    "ReLU without its mask": Fault(no_mask, "gradient"),
    "convolution with another padding on the way back": Fault(
        in_result(Convolution, lambda found: (found[0].roll(1, 2),)), "gradient"
    ),
    "mean that isn't divided": Fault(
        in_self(Mean, "backward", lambda mean: replace(mean, count=1)), "gradient"
    ),
    "norm folded without eps": Fault(
        in_self(BatchNorm, "folded_into", lambda norm: replace(norm, eps=0.0)),
        "the target layer's output|the logits",
        torch.float32,
    ),
    "slice with another offset": Fault(
        in_self(Slice, "backward", lambda part: replace(part, start=0)), "gradient"
    ),
    "pooling with the switches of another window": Fault(
        in_result(
            MaxPool, lambda found: (found[0], (found[1][0].roll(1, 3), found[1][1])), "forward"
        ),
        "gradient",
    ),
    "sum that serves one branch": Fault(
        in_result(Add, lambda found: (found[0], torch.zeros_like(found[1]))), "gradient"
    ),
    "reader with another stride": Fault(another_stride, "the walk fails"),
    "norm folded over the target layer": Fault(
        over_the_target, "the walk fails", torch.float32, "stem"
    ),
    "phases flipped": Fault(
        in_self(
            PhasedConvolution, "backward", lambda stem: replace(stem, phases=stem.phases.flip(2, 3))
        ),
        "gradient",
    ),
}


def explained(engine, net, x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = engine(net, x, [[1]] * len(x), [METHODS.get(id) for id in METHOD_IDS])
    return got, [str(w.message) for w in caught if issubclass(w.category, FallsBack)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_caught(fault, batch, monkeypatch):
    module = seeded(Everything()).to(fault.dtype)
    net, x = as_net(module, fault.target), images(batch, 3, 21, 18).to(fault.dtype)
    expected = AutogradEngine()(net, x, [[1]] * batch, [METHODS.get(id) for id in METHOD_IDS])

    sound, warned = explained(FusedEngine(), net, x)
    assert (sound.engine, warned) == ("fused", [])

    fault.plant(monkeypatch)
    got, warned = explained(FusedEngine(), net, x)
    assert got.engine == expected.engine
    assert len(warned) == 1
    assert "explained by the slower reference engine 'autograd' (first at 18x21)" in warned[0]
    assert any(name in warned[0] for name in fault.named.split("|")), warned[0]
    assert torch.equal(got.logits, expected.logits)
    for method in METHOD_IDS:
        assert torch.equal(got.maps[method], expected.maps[method]), method
