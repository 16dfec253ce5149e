"""From a net's spec to a net that is ready to be explained."""

from __future__ import annotations

import difflib

import torch
from torch import nn

from xai_core.errors import BadInput, Unsupported, first_line
from xai_core.nets.outputs import check_forward
from xai_core.nets.randomise import randomise
from xai_core.nets.spec import NetSpec
from xai_core.nets.target_layer import find_target_layer
from xai_core.nets.values import check_finite
from xai_core.nets.weights import check_module, load_weights, random_seed, weights_sha256
from xai_core.types import Net, Weights


def load_net(
    spec: NetSpec,
    weights: str | None = None,
    *,
    randomised: str = "",
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Net:
    """Build a net, load its weights, find its target layer and put it on the device.

    Args:
        spec: what to build.
        weights: see `xai_core.nets.weights.load_weights`; the spec's own where None.
        randomised: a stage of `xai_core.nets.randomise`; its name is added to the net's id.
        device: CPU where None.
        dtype: of parameters and maps.

    Raises:
        DataMissing: the weights are absent.
        BadInput: the weights don't fit or are not finite, the net gives no logits or other ones
            each time, it has no layer of the target layer's name, or can't be run to find one.
    """
    where = weights or spec.weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed(where) or 0)
        try:
            module = spec.build()
        except Exception as error:  # a user's function may raise anything
            raise BadInput(f"{spec.id} can't be built: {first_line(error)}") from error
    check_module(spec.id, module)
    source = load_weights(spec.id, module, where)
    if randomised:
        try:
            randomise(module, randomised, side=spec.input_size)
        except BadInput as error:
            raise BadInput(f"{spec.id} can't be randomised: {error}") from error
        source = Weights(f"{source.label}~{randomised}", weights_sha256(module), source.random)
    module = _ready(spec.id, module, device, dtype)
    check_forward(spec.id, module, spec.input_size, spec.class_names)
    target_layer, no_target_layer = _target_layer(spec, module)
    return Net(
        id=f"{spec.id}~{randomised}" if randomised else spec.id,
        module=module,
        target_layer=target_layer,
        mean=spec.mean,
        std=spec.std,
        weights=source,
        class_names=spec.class_names,
        randomised=randomised,
        input_size=spec.input_size,
        no_target_layer=no_target_layer,
        base=spec.id if randomised else "",
    )


def _ready(
    net: str, module: nn.Module, device: torch.device | None, dtype: torch.dtype
) -> nn.Module:
    """In evaluation mode, frozen, on the device and of the type."""
    try:
        module = module.eval().requires_grad_(False).to(device=device, dtype=dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # modules of torch.export have no evaluation mode
        raise BadInput(
            f"{net} can't be set to evaluation mode, frozen and moved: {first_line(error)} "
            "(give the module that was exported instead)"
        ) from error
    check_finite(module, f"{net} as {str(dtype).removeprefix('torch.')}")
    return module


def _target_layer(spec: NetSpec, module: nn.Module) -> tuple[str | None, str]:
    """The layer's name, or None and the reason why there is none."""
    if spec.target_layer is not None:
        _check_layer(spec.id, module, spec.target_layer)
        return spec.target_layer, ""
    try:
        return find_target_layer(module, size=spec.input_size or 224), ""
    except Unsupported as reason:
        return None, f"{spec.id} has no target layer: {reason} (a NetSpec can name one)"
    except BadInput as error:
        raise BadInput(f"{spec.id}: {error}") from error


def _check_layer(net: str, module: nn.Module, layer: str) -> None:
    known = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
    if layer not in known:
        near = difflib.get_close_matches(layer, known, n=3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise BadInput(f"{net} has no layer called {layer!r}{hint}")
