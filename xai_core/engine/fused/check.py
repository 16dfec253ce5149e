"""Whether what the walk gives is what the reference engine gives, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from xai_core.engine.engine import Computed, difference, same_to_rounding
from xai_core.relu_rules import ReluRule
from xai_core.signals import ACTIVATION, CLASSIFIER_WEIGHTS, INPUT, INPUT_GRADIENT, LOGITS, Signal

_OF_THE_FORWARD_PASS = {LOGITS, ACTIVATION, CLASSIFIER_WEIGHTS}

_NAMES = {
    LOGITS: "the logits",
    ACTIVATION: "the target layer's output",
    CLASSIFIER_WEIGHTS: "the classifier's weights",
}

GRADIENT_TOLERANCE = {torch.float64: 1e-8, torch.float32: 5e-2}
"""Largest difference of gradients in relative L2 norm. In float32 a ReLU whose input is zero but
for rounding falls on either side: 2e-2 was seen, and the reference is as far from its own
float64."""

ROUNDED = 0.3
"""The same where gradients carry 8 bits."""


def to_compare(needs: frozenset[Signal]) -> frozenset[Signal]:
    """The signals by which a recording is checked, of those that are wanted.

    One ruled gradient is enough: the rules differ in one operation, and travel together.
    """
    if INPUT_GRADIENT[ReluRule.GUIDED] in needs:
        return needs - {INPUT_GRADIENT[ReluRule.DECONVOLUTION]}
    return needs


def mismatch(ours: Computed, theirs: Computed, rounded: bool) -> str:
    """The first quantity that differs, and by how much; empty if none does.

    Args:
        ours: of a batch.
        theirs: of its last image alone, from the reference engine.
        rounded: whether our gradients are in bfloat16.
    """
    for signal, reason in theirs.missing.items():
        if signal not in ours.missing:
            return f"the reference engine refuses it: {reason}"
    for signal, expected in theirs.signals.items():
        if signal is INPUT:
            continue
        name = _NAMES.get(signal, signal.name.replace("_", " "))
        value = ours.signals.get(signal)
        if value is None:
            return f"{name} is missing: {ours.missing.get(signal, 'not computed')}"
        last = value[-1:]
        if signal in _OF_THE_FORWARD_PASS:
            wrong = not same_to_rounding(last, expected)
        else:
            wrong = not _near(last, expected, rounded)
        if wrong:
            return f"{name} differs by {difference(last, expected):.1e} of its norm"
    return ""


def _near(ours: Tensor, theirs: Tensor, rounded: bool) -> bool:
    tolerance = ROUNDED if rounded else GRADIENT_TOLERANCE.get(theirs.dtype, ROUNDED)
    return difference(ours, theirs) <= tolerance
