"""Guided Backpropagation (Springenberg et al. 2015, arXiv:1412.6806, section 3.4)."""

from torch import Tensor

from xai_core.methods.method import register_method
from xai_core.relu_rules import ReluRule
from xai_core.signals import INPUT_GRADIENT, Signals

GRADIENT = INPUT_GRADIENT[ReluRule.GUIDED]


@register_method("guided_backprop", title="Guided Backpropagation", needs={GRADIENT}, channels=3)
def guided_backprop(signals: Signals) -> Tensor:
    """``dy_c / dx`` where every ReLU passes ``relu(g) * (z > 0)``.

    Returns:
        (B, 3, H, W), signed.
    """
    return signals[GRADIENT]
