"""What needs no gradient: a method that does not beat these has shown nothing about the net.

`uniform`, `centre`, `edges` and `noise` never look at the net. The products replace Guided
Backpropagation in Guided Grad-CAM by noise and by edges: their distance to it is what the gradient
adds to Grad-CAM's localisation (compare Adebayo et al. 2018, arXiv:1810.03292, section 5.2).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_core.methods import grad_cam
from xai_core.methods.method import register_method
from xai_core.signals import INPUT, Signals

CENTRE_SIGMA = 0.125
"""Standard deviation of `centre`, as a share of the sides: a narrow one is a strong rival."""

NOISE_SEED = 0


@register_method("uniform", title="Uniform", needs=(), channels=1, non_negative=True, baseline=True)
def uniform(signals: Signals) -> Tensor:
    """1 everywhere. Its P is chance: the dilated mask's share of the image.

    Returns:
        (B, 1, H, W).
    """
    return torch.ones_like(signals[INPUT][:, :1])


@register_method(
    "centre", title="Centre Gaussian", needs=(), channels=1, non_negative=True, baseline=True
)
def centre(signals: Signals) -> Tensor:
    """``exp(-(u^2 + v^2) / (2 sigma^2))``; u, v run from -1/2 to 1/2 over the image.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    image = signals[INPUT]

    def bell(pixels: int) -> Tensor:
        at = (torch.arange(pixels, dtype=image.dtype, device=image.device) + 0.5) / pixels - 0.5
        return torch.exp(-(at**2) / (2 * CENTRE_SIGMA**2))

    height, width = image.shape[-2:]
    map = bell(height)[:, None] * bell(width)
    return map.expand(len(image), 1, height, width)


@register_method("edges", title="Edges", needs=(), channels=1, non_negative=True, baseline=True)
def edges(signals: Signals) -> Tensor:
    """Sobel magnitude ``sqrt(G_x^2 + G_y^2)`` of the mean over the normalised colour channels.

    The image continues beyond its border as it ends there, so that the border is no edge.

    Returns:
        (B, 1, H, W), not scaled: P does not depend on the scale.
    """
    grey = signals[INPUT].mean(dim=1, keepdim=True)
    slope = grey.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([slope, slope.T])[:, None]
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    return gradient.square().sum(dim=1, keepdim=True).sqrt()


@register_method("noise", title="Noise", needs=(), channels=3, baseline=True)
def noise(signals: Signals) -> Tensor:
    """Standard normal values, the same for all images of one size.

    Returns:
        (B, 3, H, W), signed.
    """
    image = signals[INPUT]
    return _normal(image.shape[1:]).to(image).expand_as(image)


@lru_cache(maxsize=4)
def _normal(shape: torch.Size) -> Tensor:
    generator = torch.Generator().manual_seed(NOISE_SEED)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@register_method(
    "noise_grad_cam", title="Noise x Grad-CAM", needs=grad_cam.NEEDS, channels=3, baseline=True
)
def noise_grad_cam(signals: Signals) -> Tensor:
    """Hadamard product of `noise` and Grad-CAM.

    Returns:
        (B, 3, H, W), signed.
    """
    return noise(signals) * grad_cam.grad_cam(signals)


@register_method(
    "edges_grad_cam",
    title="Edges x Grad-CAM",
    needs=grad_cam.NEEDS,
    channels=1,
    non_negative=True,
    baseline=True,
)
def edges_grad_cam(signals: Signals) -> Tensor:
    """Hadamard product of `edges` and Grad-CAM.

    Returns:
        (B, 1, H, W).
    """
    return edges(signals) * grad_cam.grad_cam(signals)
