"""Backpropagation (Simonyan et al. 2014, arXiv:1312.6034, section 3)."""

from torch import Tensor

from xai_core.methods.method import register_method
from xai_core.relu_rules import ReluRule
from xai_core.signals import INPUT_GRADIENT, Signals

GRADIENT = INPUT_GRADIENT[ReluRule.PLAIN]


@register_method("backprop", title="Backpropagation", needs={GRADIENT}, channels=3)
def backprop(signals: Signals) -> Tensor:
    """``dy_c / dx``: the gradient of the class logit at the image.

    Returns:
        (B, 3, H, W), signed.
    """
    return signals[GRADIENT]
