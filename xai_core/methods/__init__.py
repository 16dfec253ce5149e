"""The attribution methods. Importing this package registers each module below."""

from xai_core.methods import (
    backprop,
    baselines,
    cam,
    deconvolution,
    grad_cam,
    guided_backprop,
    guided_grad_cam,
)
from xai_core.methods.method import METHODS, Method, register_method

__all__ = [
    "METHODS",
    "Method",
    "backprop",
    "baselines",
    "cam",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "guided_grad_cam",
    "register_method",
]
