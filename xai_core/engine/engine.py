"""What an engine takes and gives, whichever way it computes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

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
        depends_on_batch: whether what the net gives for an image depends on the others in the batch
            (batch statistics, say). Each map is then that of its image's own logit all the same.
    """

    maps: Mapping[str, Tensor]
    refused: Mapping[str, str]
    failed: Mapping[str, str]
    logits: Tensor
    targets: Tensor
    engine: str
    depends_on_batch: bool = False


Missing = dict[Signal, Unsupported | BadInput]
"""Signals that can't be had, with the reason: the net is of another form, or its layer is wrong."""


@dataclass(frozen=True)
class Computed:
    """What one forward pass and its backward passes gave.

    Attributes:
        signals: those that could be computed, detached.
        missing: those that could not.
        logits: (B, classes), detached.
        targets: (B,), the output that is explained in each image.
        depends_on_batch: see `Attributions`.
    """

    signals: Signals
    missing: Missing
    logits: Tensor
    targets: Tensor
    depends_on_batch: bool = False

    def attributions(self, engine: str, methods: Sequence[Method]) -> Attributions:
        """The maps of methods, made from these signals."""
        made = combine(methods, self.signals, self.missing)
        return Attributions(*made, self.logits, self.targets, engine, self.depends_on_batch)


class DependsOnBatch(UserWarning):
    """A net's logits for an image depend on the other images of the batch."""


def warn_of_batch(net: Net) -> None:
    """Say that a net's images influence each other."""
    warnings.warn(
        f"{net.id} gives other logits for an image in a batch than alone: each map is that of its "
        "own image's logit, but it holds for this batch only (use batch size 1)",
        DependsOnBatch,
        stacklevel=3,
    )


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


def check_input(net: Net, images: Tensor) -> None:
    """See that a net and images can be explained at all.

    Raises:
        Unsupported: the net declares another size of images; the text is the same for all images.
        BadInput: they can't.
    """
    if images.ndim != 4 or len(images) == 0:
        raise BadInput(f"{net.id} needs images of shape (B, 3, H, W), not {tuple(images.shape)}")
    if not images.is_floating_point():
        raise BadInput(f"{net.id} needs normalised images in floating point, not {images.dtype}")
    for name, tensor in (*net.module.named_parameters(), *net.module.named_buffers()):
        if is_lazy(tensor):
            raise BadInput(
                f"{net.id} has lazy modules ({name} has no shape yet): run it on an image first"
            )
        if tensor.is_inference():
            raise BadInput(
                f"{net.id} was built under torch.inference_mode(), where its {name} can't have "
                "gradients: build it outside"
            )
    n = net.input_size
    if n is not None and tuple(images.shape[-2:]) != (n, n):
        raise Unsupported(f"{net.id} takes images of {n}x{n} pixels only")


def available(net: Net, methods: Sequence[Method]) -> tuple[frozenset[Signal], Missing]:
    """The signals that methods need and a net can have; those that it can't, with the reason."""
    needs = frozenset[Signal]().union(*(method.needs for method in methods))
    if net.target_layer is not None:
        return needs, {}
    reason = Unsupported(net.no_target_layer or f"{net.id} has no target layer")
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
    methods: Sequence[Method], signals: Signals, missing: Mapping[Signal, Unsupported | BadInput]
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
        reasons = [missing[signal] for signal in method.needs if signal in missing]
        if reasons:
            wrong = any(isinstance(reason, BadInput) for reason in reasons)
            text = "; ".join(sorted({str(reason) for reason in reasons}))
            (failed if wrong else refused)[method.id] = text
            continue
        try:
            maps[method.id] = method(signals)
        except Unsupported as reason:
            refused[method.id] = str(reason)
        except BadInput as error:
            failed[method.id] = str(error)
    return maps, refused, failed


_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}


def difference(a: Tensor, b: Tensor) -> float:
    """``|a - b| / |b|`` in the Euclidean norm; infinite where only one of them is zero."""
    if a.shape != b.shape:
        return float("inf")
    norm = float(b.double().norm())
    apart = float((a.double() - b.double()).norm())
    if norm == 0:
        return 0.0 if apart == 0 else float("inf")
    return apart / norm


def same_to_rounding(a: Tensor, b: Tensor) -> bool:
    """Whether two results of a forward pass differ by rounding only: 1e-3 in float32."""
    return difference(a, b) <= _TOLERANCE.get(b.dtype, 5e-2)
