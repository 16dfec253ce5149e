"""What an engine can compute for a net and an image: the vocabulary between methods and engines.

A method declares the signals that it needs; the engine plans the fewest passes that yield the union
of what all requested methods need. B is the batch, K the target layer's channels, (h, w) its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from xai_core.relu_rules import ReluRule


@dataclass(frozen=True)
class Signal:
    """One quantity of a forward or backward pass.

    Attributes:
        name: for messages and plans.
        rule: the ReLU rule of the backward pass that yields it; None without one.
    """

    name: str
    rule: ReluRule | None = None


INPUT = Signal("input")
"""The normalised image, (B, 3, H, W)."""

LOGITS = Signal("logits")
"""The net's output before softmax, (B, classes)."""

ACTIVATION = Signal("activation")
"""The target layer's output f, (B, K, h, w)."""

ACTIVATION_GRADIENT = Signal("activation_gradient", ReluRule.PLAIN)
"""Plain gradient of the class logit at the target layer's output, (B, K, h, w)."""

CLASSIFIER_WEIGHTS = Signal("classifier_weights")
"""The class's row of the linear (or 1x1 convolution) classifier behind global average pooling,
(B, K); nets of another form don't have it."""

INPUT_GRADIENT: Mapping[ReluRule, Signal] = {
    rule: Signal(f"input_gradient[{rule}]", rule) for rule in ReluRule
}
"""Gradient of the class logit at the image under a ReLU rule, (B, 3, H, W)."""

Signals = Mapping[Signal, Tensor]
"""What an engine hands to a method: at least the signals that it needs."""
