"""Deconvolution (Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1)."""

from torch import Tensor

from xai_core.methods.method import register_method
from xai_core.relu_rules import ReluRule
from xai_core.signals import INPUT_GRADIENT, Signals

GRADIENT = INPUT_GRADIENT[ReluRule.DECONVOLUTION]


@register_method("deconvolution", title="Deconvolution", needs={GRADIENT}, channels=3)
def deconvolution(signals: Signals) -> Tensor:
    """``dy_c / dx`` where every ReLU passes ``relu(g)``: its forward mask is not used.

    Max-pooling uses its switches, which is its usual gradient.

    Returns:
        (B, 3, H, W), signed; often zero everywhere on nets that end in a ReLU.
    """
    return signals[GRADIENT]
