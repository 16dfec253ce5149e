"""Cascading randomisation: a net that forgets from its output downwards.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.1: a map that looks the same after
the weights were re-initialised does not explain what the net has learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from xai_core.errors import BadInput, first_line
from xai_core.nets.outputs import noise

STAGES = ("logits", "half", "all")
"""How much is re-initialised: the last layer with a weight, the upper half of all, or all."""

_SIDE = 224
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "weight": 1.0, "bias": 0.0}
"""What batch normalisation is built with."""


def randomise(module: nn.Module, stage: str, seed: int = 0, side: int | None = None) -> int:
    """Re-initialise layers in place, from the output downwards; the result is how many.

    Layers are the modules with parameters of their own, in the order in which a forward pass first
    reads one; those that it reads none of are the lowest. Each gets its class's default
    initialisation (``reset_parameters``, which need not be the net's own); parameters that this
    leaves as they were, or that have none, get normal values of the same mean and standard
    deviation. A layer gets the same values in every stage, so that stages are nested.

    Weights that are computed from others (weight and spectral norm, pruning, parametrisations) are
    replaced by their values first: the copy computes with weights of its own.

    Args:
        module: the net.
        stage: one of `STAGES`. ``logits`` goes down to the last layer with a matrix or a kernel:
            what is above it (a temperature, a bias) can't change the order of the classes alone.
        seed: of the new values.
        side: N, of the images that the net takes; 224 where None.

    Raises:
        BadInput: the net can't take an image of this size, has no parameters that it reads, a layer
            can't be re-initialised, or the logits are those of before.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()  # in training, spectral norm changes whenever it is read
    try:
        for part in modes:
            _with_plain_weights(part)
        return _randomise(module, stage, seed, noise(module, side or _SIDE))
    finally:
        for part, training in modes.items():
            part.training = training


def _randomise(module: nn.Module, stage: str, seed: int, image: Tensor) -> int:
    before, used = _run(module, image)
    names = {part: name or "the net itself" for name, part in module.named_modules()}
    unused = [part for part in names if part not in used and _own(part)]
    layers = [*reversed(used), *unused]
    top = next((i for i, layer in enumerate(layers, 1) if _has_kernel(layer)), 1)
    count = {"logits": top, "half": max(top, (len(used) + 1) // 2), "all": len(layers)}[stage]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for depth, layer in enumerate(layers[:count]):
            torch.manual_seed(seed * 100_003 + depth)
            _reset(layer, names[layer])
    after, _ = _run(module, image)
    if isinstance(before, Tensor) and isinstance(after, Tensor) and torch.equal(before, after):
        raise BadInput("its logits stay as they were: what it computes with is out of reach")
    return count


def _with_plain_weights(part: nn.Module) -> None:
    if parametrize.is_parametrized(part):
        assert isinstance(part.parametrizations, nn.ModuleDict)
        for name, computed in list(part.parametrizations.items()):
            computed.requires_grad_(True)  # else its value becomes a buffer
            with torch.enable_grad():
                parametrize.remove_parametrizations(part, name)
    for hook in list(part._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(part, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(part, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]


class _Uses(TorchFunctionMode):
    """The modules whose own values are read, by whatever function, in the order of first reads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.owners = {id(v): part for part in module.modules() for v in _own(part).values()}
        self.found: dict[nn.Module, None] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Sizes and types are read without the values.
        if isinstance(result, Tensor | tuple | list | float) and not isinstance(result, torch.Size):
            self._note([args, *(kwargs or {}).values()])
        return result

    def _note(self, values: Iterable[Any]) -> None:
        for value in values:
            if isinstance(value, list | tuple):
                self._note(value)
            elif id(value) in self.owners:
                self.found.setdefault(self.owners[id(value)])


def _run(module: nn.Module, image: Tensor) -> tuple[object, list[nn.Module]]:
    """The output for an image, and the layers in the order of their use."""
    try:
        with torch.no_grad(), _Uses(module) as uses:
            logits = module(image)
    except Exception as error:  # a user's net may raise anything
        side = image.shape[-1]
        reason = first_line(error)
        raise BadInput(f"layers can't be found with a {side}x{side} image: {reason}") from error
    if not uses.found:
        raise BadInput("no layer has parameters that could be randomised")
    return logits, list(uses.found)


def _own(part: nn.Module) -> dict[str, Tensor]:
    """What a layer has learnt: parameters, and the statistics of batch normalisation."""
    own: dict[str, Tensor] = dict(part.named_parameters(recurse=False))
    buffers = dict(part.named_buffers(recurse=False))
    if "running_var" in buffers:
        own |= {name: value for name, value in buffers.items() if name in _STATISTICS}
    return {n: v for n, v in own.items() if v.is_floating_point() and v.numel()}


def _has_kernel(layer: nn.Module) -> bool:
    return any(sum(n > 1 for n in value.shape) > 1 for value in _own(layer).values())


def _reset(layer: nn.Module, name: str) -> None:
    own = _own(layer)
    learnt = {key: value.clone() for key, value in own.items()}
    for value in own.values():
        value.fill_(torch.nan)  # what stays so was not re-initialised
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        try:
            reset()
        except Exception as error:  # a user's own may raise anything, or want arguments
            raise BadInput(f"reset_parameters of {name} fails: {first_line(error)}") from error
    for key, value in _own(layer).items():
        if not value.isnan().any():
            continue
        if key in _STATISTICS and "running_var" in own:
            value.fill_(_STATISTICS[key])
            continue
        mean = float(learnt[key].mean())
        spread = float(learnt[key].std(correction=0)) or abs(mean) / 4  # of a single number
        nn.init.normal_(value, mean, spread)
