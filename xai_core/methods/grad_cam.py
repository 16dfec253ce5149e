"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, eqs. 1 and 2)."""

import torch
from torch import Tensor

from xai_core.methods.coarse_maps import ROUNDING, over_image
from xai_core.methods.method import register_method
from xai_core.signals import ACTIVATION, ACTIVATION_GRADIENT, INPUT, Signals

NEEDS = frozenset({ACTIVATION, ACTIVATION_GRADIENT})


def coarse_grad_cam(signals: Signals) -> Tensor:
    """``L = relu(sum_k alpha_k f_k)`` with ``alpha_k = (1/Z) sum_uv dy_c / df_k(u, v)``.

    A gradient whose mean is zero but for rounding (that of a layer in front of an instance
    normalisation) gives alpha = 0.

    Returns:
        (B, 1, h, w) at the target layer's size, non-negative, not scaled.
    """
    gradient = signals[ACTIVATION_GRADIENT]
    alpha = gradient.mean(dim=(2, 3), keepdim=True)
    size = gradient.abs().mean(dim=(2, 3), keepdim=True)
    rounding = ROUNDING * torch.finfo(gradient.dtype).eps * size
    alpha = alpha.masked_fill(alpha.abs() <= rounding, 0.0)
    return (alpha * signals[ACTIVATION]).sum(dim=1, keepdim=True).relu()


@register_method("grad_cam", title="Grad-CAM", needs=NEEDS, channels=1, non_negative=True)
def grad_cam(signals: Signals) -> Tensor:
    """``L`` of `coarse_grad_cam`, upsampled to the image and then scaled by min-max.

    The gradient is taken at the target layer's output, and the ReLU comes before the upsampling.

    Returns:
        (B, 1, H, W) in [0, 1]; all zero where no position speaks for the class, or all
        of them alike.
    """
    return over_image(coarse_grad_cam(signals), signals[INPUT])
