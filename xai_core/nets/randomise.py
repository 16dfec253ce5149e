"""Cascading randomisation: a net that forgets from its output downwards.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.1: a map that looks the same after
the weights were re-initialised does not explain what the net has learnt.
"""

from __future__ import annotations

import torch
from torch import nn

from xai_core.errors import BadInput, first_line

STAGES = ("logits", "half", "all")
"""How much is re-initialised: the last layer with parameters, the upper half of them, or all."""

_SIDE = 224


def randomise(module: nn.Module, stage: str, seed: int = 0) -> int:
    """Re-initialise layers in place, from the output downwards; the result is how many.

    Layers are the modules with parameters of their own, in the order of a forward pass; those that
    it does not reach stay. Each gets its class's default initialisation (``reset_parameters``,
    which need not be the net's own), or, where the class has none, normal values of the same mean
    and standard deviation. A layer gets the same values in every stage, so that stages are nested.

    Args:
        module: the net.
        stage: one of `STAGES`.
        seed: of the new values.

    Raises:
        BadInput: the net can't take an image of 224 x 224 pixels, or has no parameters.
    """
    layers = _layers(module)
    count = {"logits": 1, "half": (len(layers) + 1) // 2, "all": len(layers)}[stage]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for depth, layer in enumerate(reversed(layers)):
            if depth < count:
                torch.manual_seed(seed * 100_003 + depth)
                _reset(layer)
    return count


def _layers(module: nn.Module) -> list[nn.Module]:
    found: dict[nn.Module, None] = {}
    hooks = [
        part.register_forward_hook(lambda part, *_: found.setdefault(part))
        for part in module.modules()
        if next(part.parameters(recurse=False), None) is not None
    ]
    training = module.training
    parameter = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(1, 3, _SIDE, _SIDE).to(parameter))
    except Exception as error:  # a user's net may raise anything
        reason = first_line(error)
        raise BadInput(f"layers can't be found with a {_SIDE}x{_SIDE} image: {reason}") from error
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    if not found:
        raise BadInput("no layer has parameters that could be randomised")
    return list(found)


def _reset(layer: nn.Module) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in layer.parameters(recurse=False):
        spread = float(parameter.std(correction=0))
        nn.init.normal_(parameter, float(parameter.mean()), spread)
