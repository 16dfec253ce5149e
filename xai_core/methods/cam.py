"""CAM, Class Activation Mapping (Zhou et al. 2016, arXiv:1512.04150, eq. 2)."""

import torch
from torch import Tensor

from xai_core.methods.coarse_maps import over_image
from xai_core.methods.method import register_method
from xai_core.signals import ACTIVATION, CLASSIFIER_WEIGHTS, INPUT, Signals


def coarse_cam(signals: Signals) -> Tensor:
    """``relu(M_c)`` with ``M_c = sum_k w_k^c f_k``.

    Returns:
        (B, 1, h, w) at the target layer's size, non-negative, not scaled.
    """
    weights, activation = signals[CLASSIFIER_WEIGHTS], signals[ACTIVATION]
    return torch.einsum("bk,bkhw->bhw", weights, activation).unsqueeze(1).relu()


@register_method(
    "cam", title="CAM", needs={ACTIVATION, CLASSIFIER_WEIGHTS}, channels=1, non_negative=True
)
def cam(signals: Signals) -> Tensor:
    """``relu(M_c)``, upsampled to the image and then scaled by min-max, as Grad-CAM is.

    Defined for nets that end in global average pooling and one linear (or 1x1 convolution)
    classifier. Zhou et al. show the signed ``M_c``; the ReLU keeps the evidence for the class
    only, so that energy does not count evidence against it.

    Returns:
        (B, 1, H, W) in [0, 1]; all zero where ``relu(M_c)`` is constant.
    """
    return over_image(coarse_cam(signals), signals[INPUT])
