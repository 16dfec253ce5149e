"""Guided Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, section 3.2)."""

from torch import Tensor

from xai_core.methods import grad_cam, guided_backprop
from xai_core.methods.method import register_method
from xai_core.signals import Signals


@register_method(
    "guided_grad_cam",
    title="Guided Grad-CAM",
    needs=grad_cam.NEEDS | {guided_backprop.GRADIENT},
    channels=3,
)
def guided_grad_cam(signals: Signals) -> Tensor:
    """Hadamard product of Guided Backpropagation and the upsampled Grad-CAM.

    Returns:
        (B, 3, H, W), signed.
    """
    return guided_backprop.guided_backprop(signals) * grad_cam.grad_cam(signals)
