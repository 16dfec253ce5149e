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

DEFAULT_METHODS = (
    *("backprop", "cam", "deconvolution", "grad_cam", "guided_backprop", "guided_grad_cam"),
    *("centre", "edges", "edges_grad_cam", "noise", "noise_grad_cam", "uniform"),
)
"""What a run without ``--method`` computes, whatever else is installed."""

__all__ = [
    "DEFAULT_METHODS",
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
