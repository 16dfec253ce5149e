"""From a net's spec to a net that is ready to be explained."""

from __future__ import annotations

import torch

from xai_core.errors import BadInput
from xai_core.nets.randomise import randomise
from xai_core.nets.spec import NetSpec
from xai_core.nets.target_layer import find_target_layer
from xai_core.nets.weights import load_weights, random_seed, weights_sha256
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
        BadInput: the weights don't fit, or no target layer was found.
    """
    where = weights or spec.weights
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed(where) or 0)
        try:
            module = spec.build()
        except Exception as error:  # a user's function may raise anything
            raise BadInput(f"{spec.id} can't be built: {error}") from error
    source = load_weights(spec.id, module, where)
    if randomised:
        try:
            randomise(module, randomised)
        except BadInput as error:
            raise BadInput(f"{spec.id} can't be randomised: {error}") from error
        source = Weights(f"{source.label}~{randomised}", weights_sha256(module), source.random)
    module = module.eval().requires_grad_(False)
    try:
        target_layer = spec.target_layer or find_target_layer(module)
    except BadInput as error:
        raise BadInput(f"{spec.id}: {error}") from error
    return Net(
        id=f"{spec.id}~{randomised}" if randomised else spec.id,
        module=module.to(device=device, dtype=dtype),
        target_layer=target_layer,
        mean=spec.mean,
        std=spec.std,
        weights=source,
        class_names=spec.class_names,
        randomised=randomised,
    )
