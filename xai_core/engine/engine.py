"""What an engine takes and gives, whichever way it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xai_core.errors import BadInput, UnknownOutput, Unsupported
from xai_core.methods import Method
from xai_core.signals import (
    ACTIVATION,
    ACTIVATION_GRADIENT,
    CLASSIFIER_WEIGHTS,
    Signal,
    Signals,
)
from xai_core.types import Net


@dataclass(frozen=True)
class Attributions:
    """The result for one batch.

    Attributes:
        maps: method id to (B, C, H, W), detached.
        refused: method id to the reason why it is not defined for this net.
        failed: method id to the reason why its map can't be used.
        logits: (B, classes), detached.
        targets: (B,), the output that was explained in each image.
        engine: id of the engine that computed this.
    """

    maps: Mapping[str, Tensor]
    refused: Mapping[str, str]
    failed: Mapping[str, str]
    logits: Tensor
    targets: Tensor
    engine: str


class Engine(Protocol):
    """Computes the maps of many methods at once."""

    id: str

    def __call__(
        self, net: Net, images: Tensor, candidates: Sequence[Sequence[int]], methods: list[Method]
    ) -> Attributions:
        """Explain one output per image.

        Args:
            net: left exactly as it was found, also after an error.
            images: normalised, (B, 3, H, W), of the net's dtype and device.
            candidates: for each image the outputs that mean its class; the one with the highest
                logit is explained. None: the net's first choice of all.
            methods: those to compute.

        Raises:
            Unsupported: the net takes images of one size only, and these are of another.
            BadInput: the net can't take these images, or a candidate is not among its outputs.
        """


AT_TARGET = frozenset({ACTIVATION, ACTIVATION_GRADIENT, CLASSIFIER_WEIGHTS})
"""The signals that need a target layer."""


def check_size(net: Net, images: Tensor) -> None:
    """Raise `Unsupported` if the net declares another size; the text is the same for all images."""
    n = net.input_size
    if n is not None and tuple(images.shape[-2:]) != (n, n):
        raise Unsupported(f"{net.id} takes images of {n}x{n} pixels only")


def available(net: Net, methods: Sequence[Method]) -> tuple[frozenset[Signal], dict[Signal, str]]:
    """The signals that methods need and a net can have; those that it can't, with the reason."""
    needs = frozenset[Signal]().union(*(method.needs for method in methods))
    if net.target_layer is not None:
        return needs, {}
    reason = net.no_target_layer or f"{net.id} has no target layer"
    return needs - AT_TARGET, dict.fromkeys(needs & AT_TARGET, reason)


def check_logits(net: Net, logits: object) -> Tensor:
    """The net's output, if it is (B, classes) and finite.

    Raises:
        BadInput: it is not.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise BadInput(f"{net.id} does not give logits of shape (batch, classes)")
    if not torch.isfinite(logits).all():
        raise BadInput(f"{net.id} gives NaN or infinite logits; are its weights whole?")
    return logits


def no_gradient_at_target(net: Net) -> BadInput:
    """The error of a target layer that the logits don't depend on."""
    return BadInput(f"no gradient reaches the target layer {net.target_layer} of {net.id}")


def choose_targets(net: Net, logits: Tensor, candidates: Sequence[Sequence[int]]) -> Tensor:
    """For each image the candidate with the highest logit, (B,); without any, of all outputs.

    Raises:
        UnknownOutput: a candidate is not an output of the net.
    """
    outputs = logits.shape[1]
    beyond = [c for group in candidates for c in group if not 0 <= c < outputs]
    if beyond:
        raise UnknownOutput(beyond[0], outputs, net.id)
    chosen = [
        group[int(row[list(group)].argmax())] if group else int(row.argmax())
        for row, group in zip(logits, candidates, strict=True)
    ]
    return torch.tensor(chosen, device=logits.device)


def combine(
    methods: Sequence[Method], signals: Signals, missing: Mapping[Signal, str]
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, str]]:
    """Hand each method its signals: (maps, refused, failed), each by method id.

    Args:
        methods: those to compute.
        signals: the signals at hand.
        missing: signals that this net doesn't have, with the reason.
    """
    maps: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    failed: dict[str, str] = {}
    for method in methods:
        reasons = sorted({missing[signal] for signal in method.needs if signal in missing})
        if reasons:
            refused[method.id] = "; ".join(reasons)
            continue
        try:
            maps[method.id] = method(signals)
        except Unsupported as reason:
            refused[method.id] = str(reason)
        except BadInput as error:
            failed[method.id] = str(error)
    return maps, refused, failed
