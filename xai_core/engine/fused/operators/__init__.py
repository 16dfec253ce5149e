"""The operations that the walk knows, on public operators of torch alone."""

from xai_core.engine.fused.operators.arrange import (
    Add,
    Concatenate,
    Permute,
    Reshape,
    Scale,
    Select,
    Shift,
    Slice,
    Stop,
)
from xai_core.engine.fused.operators.average import AdaptiveAveragePool, AveragePool, Mean
from xai_core.engine.fused.operators.operator import ClassRow, Operator, Rules, rules_apart
from xai_core.engine.fused.operators.rectify import MaxPool, Relu, pass_relu
from xai_core.engine.fused.operators.weighted import (
    BatchNorm,
    Convolution,
    Linear,
    PhasedConvolution,
)

__all__ = [
    "AdaptiveAveragePool",
    "Add",
    "AveragePool",
    "BatchNorm",
    "ClassRow",
    "Concatenate",
    "Convolution",
    "Linear",
    "MaxPool",
    "Mean",
    "Operator",
    "Permute",
    "PhasedConvolution",
    "Relu",
    "Reshape",
    "Rules",
    "Scale",
    "Select",
    "Shift",
    "Slice",
    "Stop",
    "pass_relu",
    "rules_apart",
]
