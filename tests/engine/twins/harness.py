"""A net and its twin, what the twin says, and which verdicts a cell of the table may have."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.engine.twins.by_hand import Run, Values, average, layer, linear
from tests.engine.twins.changes import CHANGES, History
from tests.reference.maps import min_max
from tests.reference.relu import METHOD_OF, RULES
from tests.tiny import as_net
from xai_core.engine import AutogradEngine, FallsBack, FusedEngine
from xai_core.errors import XaiError
from xai_core.methods import METHODS

SIZES = ((20, 24), (17, 23))
CANDIDATES = ([1], [2], [])
MARGIN = 3e-6
"""Nearer to a switch than this, float32 may fall on its other side: another image is drawn."""

Body = Callable[[nn.Module, Tensor], Tensor]
Twin = Callable[[Run, Values, Tensor], Tensor]


class Small(nn.Module):
    """conv1 3 -> 4, conv2 4 -> 6, fc 6 -> 5, and what else `layers` gives; ``keep`` marks f."""

    def __init__(self, body: Body, **layers: nn.Module | Tensor) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.keep, self.fc = nn.Identity(), nn.Linear(6, 5)
        for name, value in layers.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value.clone())
            else:
                setattr(self, name, value)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


@dataclass(frozen=True)
class Case:
    """One net and its twin.

    Attributes:
        name: unique.
        net: builds it; parameters are drawn anew.
        twin: the same function of the image, from the values of parameters and buffers by name.
        target: name of the target layer, or None.
        cam: whether CAM is defined, with ``fc.weight`` as the classifier.
        refused: pattern of what the reason must name where the net has no ReLU rules.
        sees_batch: whether images of a batch influence each other.
        convert: how the net comes to a dtype.
        inner: the module whose parameters are drawn and changed, where that isn't the net.
        training: whether the net is explained while in training mode.
    """

    name: str
    net: Callable[[], nn.Module]
    twin: Twin
    target: str | None = "keep"
    cam: bool = False
    refused: str | None = None
    sees_batch: bool = False
    convert: Callable[[nn.Module, torch.dtype], nn.Module] = lambda m, dtype: m.to(dtype)
    inner: Callable[[nn.Module], nn.Module] = lambda m: m
    training: bool = False


def small(name: str, body: Body, twin: Twin, layers=dict, **fields) -> Case:
    """A case of `Small`; ``layers`` makes the further layers anew for each net."""
    return Case(name, lambda: Small(body, **layers()), twin, **fields)


def features(m: nn.Module, x: Tensor) -> Tensor:
    """What most nets begin with: two convolutions and ReLUs, and the target layer."""
    return m.keep(F.relu(m.conv2(F.relu(m.conv1(x)))))


def features_twin(r: Run, w: Values, x: Tensor) -> Tensor:
    h = r.relu(layer(w, "conv1", x, padding=1))
    return r.at(r.relu(layer(w, "conv2", h, padding=1)))


def ending(m: nn.Module, h: Tensor) -> Tensor:
    """What most nets end with: conv2, ReLU, the target layer, GAP, fc."""
    return m.fc(m.keep(F.relu(m.conv2(h))).mean((2, 3)))


def ending_twin(r: Run, w: Values, h: Tensor) -> Tensor:
    return linear(w, "fc", average(r.at(r.relu(layer(w, "conv2", h, padding=1)))))


def plain_twin(r: Run, w: Values, x: Tensor) -> Tensor:
    return linear(w, "fc", average(features_twin(r, w, x)))


def draw(case: Case) -> nn.Module:
    """The net in float64, with values that float32 has, too."""
    generator = torch.Generator().manual_seed(len(case.name))
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(0)  # torch.manual_seed takes milliseconds
    net = case.net()
    torch.set_rng_state(before)
    module = case.inner(net)

    def normal(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("weight") and p.ndim == 1:
                p.copy_(1 + 0.25 * normal(p.shape))
            else:
                scale = 0.2 if p.ndim <= 1 else 1.4 * p[0].numel() ** -0.5
                p.copy_(scale * normal(p.shape))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.2 * normal(b.shape))
            if name.endswith("running_var"):
                b.copy_(0.5 + normal(b.shape).abs())
    return case.convert(net, torch.float64).train(case.training)


@dataclass(frozen=True)
class Truth:
    """What the twin says of three images, or of one: maps (B, C, H, W), logits, targets."""

    images: Tensor
    maps: dict[str, np.ndarray]
    logits: np.ndarray
    targets: list[int]


@cache
def truth(case: Case, history: History, size: tuple[int, int], batch: int) -> Truth:
    module = case.inner(draw(case))
    for change in history:
        CHANGES[change](module)
    values = {
        name: value.double() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(3, 3, *size, generator=generator).double()[:batch]
        images.requires_grad_()
        run = Run()
        logits = case.twin(run, values, images)
        if run.margin > MARGIN:
            return explain(case, values, images, run, logits)
    raise AssertionError(f"{case.name}: every image comes near to a switch")


def explain(case: Case, w: Values, images: Tensor, run: Run, logits: Tensor) -> Truth:
    maps: dict[str, np.ndarray] = {}
    groups = CANDIDATES[: len(images)]
    targets = [g[0] if g else int(row.argmax()) for g, row in zip(groups, logits, strict=True)]
    f = None if case.target is None else run.f
    wanted = [images] if f is None else [images, f]
    scores = logits[torch.arange(len(images)), targets]
    for run.rule in RULES:
        if case.sees_batch:
            passes = [torch.autograd.grad(s, wanted, retain_graph=True) for s in scores]
            parts = zip(*passes, strict=True)
            found = [torch.stack([g[i] for i, g in enumerate(part)]) for part in parts]
        else:
            found = list(torch.autograd.grad(scores.sum(), wanted, retain_graph=True))
        maps[METHOD_OF[run.rule]] = found[0].numpy()
        if run.rule == "plain" and f is not None:
            seen, g = f.detach().numpy(), found[1].numpy()
            maps["grad_cam"] = over_images([a.mean((1, 2)) for a in g], seen, images)
            if case.cam:
                weights = [w["fc.weight"][c].numpy().reshape(-1) for c in targets]
                maps["cam"] = over_images(weights, seen, images)
    return Truth(images.detach(), maps, logits.detach().numpy(), targets)


def over_images(weights: Sequence[np.ndarray], f: np.ndarray, images: Tensor) -> np.ndarray:
    height, width = images.shape[2:]
    rows, columns = bilinear(f.shape[2], height), bilinear(f.shape[3], width)
    maps = []
    for alpha, own in zip(weights, f, strict=True):
        coarse = np.maximum((alpha[:, None, None] * own).sum(0), 0)
        constant = np.ptp(coarse) <= 1e-14 * np.abs(coarse).max()
        maps.append(min_max(rows @ (coarse * (not constant)) @ columns.T)[None])
    return np.stack(maps)


@cache
def bilinear(size: int, target: int) -> np.ndarray:
    """Weights (target, size): between the centres of the two nearest cells, no antialiasing."""
    weights = np.zeros((target, size))
    for i in range(target):
        y = min(max((i + 0.5) * size / target - 0.5, 0), size - 1)
        top = int(y)
        weights[i, top] += 1 - (y - top)
        weights[i, min(top + 1, size - 1)] += y - top
    return weights


Engines = {"fused": FusedEngine, "autograd": AutogradEngine}


class Examined:
    """One net with one engine and dtype: explains cells and says what is wrong with each."""

    def __init__(self, case: Case, engine: str, dtype: torch.dtype) -> None:
        self.case, self.dtype = case, dtype
        self.module = case.convert(draw(case), dtype)
        self.engine = Engines[engine]()
        self.warned = False
        self.history: History = ()

    def change(self, change: int) -> None:
        CHANGES[change](self.case.inner(self.module))
        self.history = (*self.history, change)

    def faults(self, size: tuple[int, int], batch: int) -> list[str]:
        """What is wrong with the cell; none if it's exact, exact by fallback or refused."""
        case = self.case
        expected = truth(case, self.history, size, 1 if case.sees_batch and batch == 1 else 3)
        images = expected.images[:batch].to(self.dtype)
        methods = [METHODS.get(method) for method in expected.maps]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                got = self.engine(
                    as_net(self.module, case.target), images, CANDIDATES[:batch], methods
                )
            except XaiError as error:
                return [f"refused as a whole: {error}"]
            except Exception as error:
                return [f"crashed: {type(error).__name__}: {str(error)[:200]}"]
        self.warned |= any(issubclass(w.category, FallsBack) for w in caught)
        faults = []
        if got.engine != self.engine.id and not self.warned:
            faults.append(f"explained by {got.engine} without a warning")
        if got.targets.tolist() != expected.targets[:batch]:
            faults.append(f"targets {got.targets.tolist()}, not {expected.targets[:batch]}")
        if got.depends_on_batch != (case.sees_batch and batch > 1):
            faults.append(f"depends_on_batch is {got.depends_on_batch}")
        values = {"logits": (got.logits, expected.logits[:batch])}
        for method, right in expected.maps.items():
            reason = got.refused.get(method) or got.failed.get(method)
            if case.refused is not None and method in ("deconvolution", "guided_backprop"):
                if reason is None:
                    faults.append(f"{method} is not refused")
                elif not re.search(case.refused, reason, re.IGNORECASE):
                    faults.append(f"{method} is refused without naming {case.refused!r}: {reason}")
            elif reason:
                faults.append(f"{method} is refused: {reason}")
            else:
                values[method] = got.maps[method], right[:batch]
        for name, (ours, right) in values.items():
            error = self._error(ours, right)
            if not error <= (1e-9 if self.dtype == torch.float64 else 1e-3):
                faults.append(f"{name} is off by {error:.1e} (engine {got.engine})")
        return faults

    def _error(self, ours: Tensor, right: np.ndarray) -> float:
        """Of the peak in float64; relative in the Euclidean norm in float32."""
        if tuple(ours.shape) != right.shape:
            return float("inf")
        apart = ours.double().numpy() - right
        if self.dtype == torch.float64:
            return float(np.abs(apart).max() / max(np.abs(right).max(), 1e-30))
        return float(np.linalg.norm(apart) / max(np.linalg.norm(right), 1e-30))
