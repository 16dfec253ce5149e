"""Small nets and data for the tests, and how to have a net explained in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.reference.maps import Parameters
from xai_core.engine import Attributions, AutogradEngine, Engine
from xai_core.errors import BadInput
from xai_core.methods import METHODS
from xai_core.types import Net, Sample, Weights

engine: Engine = AutogradEngine()
"""What `explain` explains with; the fixture `each_engine` sets it."""

RULE_METHODS = ("deconvolution", "guided_backprop", "guided_grad_cam")


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64, every parameter drawn anew, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        # Biases are small, so that ReLUs see values of either sign.
        scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        parameter.mul_(scale)
    return module


class ConvNet(nn.Module):
    """The net that `tests.reference.maps` writes out."""

    def __init__(self, p: Parameters) -> None:
        super().__init__()
        (k1, _, _, _), (k2, _, _, _), (classes, _) = p.conv1.shape, p.conv2.shape, p.linear.shape
        self.features = nn.Sequential(
            nn.Conv2d(3, k1, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(k1, k2, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(k2, classes)
        names = ("features.0", "features.3", "fc")
        values = ((p.conv1, p.bias1), (p.conv2, p.bias2), (p.linear, p.bias3))
        for name, (weight, bias) in zip(names, values, strict=True):
            layer = self.get_submodule(name)
            layer.weight = nn.Parameter(torch.tensor(weight), requires_grad=False)
            layer.bias = nn.Parameter(torch.tensor(bias), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean(dim=(2, 3)))


class Act(nn.Module):
    """conv -> ``act(z, conv)`` -> GAP -> linear; ``act`` may use the second convolution."""

    def __init__(self, act: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.conv1(x), self.conv2).mean(dim=(2, 3)))


def as_net(module: nn.Module, target_layer: str = "") -> Net:
    return Net(
        id="tiny",
        module=module,
        target_layer=target_layer,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        weights=Weights("as built", "0" * 64, random=False),
    )


def explain(net: Net, x: Tensor, candidates: Sequence[Sequence[int]], *ids: str) -> Attributions:
    return engine(net, x, candidates, [METHODS.get(id) for id in ids])


def maps(net: Net, x: Tensor, c: int, *ids: str) -> Mapping[str, Tensor]:
    """The maps of class c; every method must give one."""
    result = explain(net, x, [[c]] * len(x), *ids)
    assert set(result.maps) == set(ids), (result.refused, result.failed)
    return result.maps


class DataOf:
    """A data set of given pictures and masks; a string in place of one is the reason it's bad."""

    name = "pictures"

    def __init__(self, entries: Mapping[Sample, tuple[np.ndarray | str, np.ndarray | str]]) -> None:
        self.entries = entries

    def samples(self) -> list[Sample]:
        return sorted(self.entries)

    def image(self, sample: Sample) -> np.ndarray:
        return self._good(self.entries[sample][0])

    def mask(self, sample: Sample) -> np.ndarray:
        return self._good(self.entries[sample][1])

    def fingerprint(self, sample: Sample) -> str:
        return f"fingerprint of {sample.id}"

    def _good(self, value: np.ndarray | str) -> np.ndarray:
        if isinstance(value, str):
            raise BadInput(value)
        return value
