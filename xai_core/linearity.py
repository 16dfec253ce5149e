"""Which operations of a forward pass are linear in the image, by their nodes in autograd's graph.

A ReLU rule replaces the gradient of each ReLU and leaves that of everything else. This is defined
where everything else is linear in what depends on the image, or of a kind that the papers pass the
gradient through: pooling, normalisation, softmax. Every operation that is in none of the lists
below is refused by name, whatever it may be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor
from torch.autograd.graph import Node

Operands = tuple[bool, ...]
"""For each input of an operation, whether it depends on the image."""

_SUMS_AND_ARRANGEMENTS = frozenset(
    """
    Add Alias AsStrided Cat Chunk Clone ConstantPadNd Copy Cumsum Diagonal Expand ExpandAs FftC2C
    FftC2R FftR2C Flip Identity Im2Col Col2Im Index IndexSelect Gather Lift LiftFresh Mean Movedim
    Narrow Neg Permute PixelShuffle PixelUnshuffle ChannelShuffle NativeChannelShuffle Repeat
    RepeatInterleave ReshapeAlias Reshape Roll Rot90 Rsub Select Slice Split SplitWithSizes Squeeze
    Stack Sub Sum T Take ToCopy Trace Transpose Tril Triu Unbind Unfold UnsafeSplit UnsafeView
    Unsqueeze View ViewAsComplex ViewAsReal ReflectionPad1D ReflectionPad2D ReflectionPad3D
    ReplicationPad1D ReplicationPad2D ReplicationPad3D UpsampleBicubic2D UpsampleBicubic2DAa
    UpsampleBilinear2D UpsampleBilinear2DAa UpsampleLinear1D UpsampleNearest1D UpsampleNearest2D
    UpsampleNearest3D UpsampleNearestExact2D UpsampleTrilinear3D
    """.split()
)

_PRODUCTS = frozenset(
    """
    Addbmm Addcmul Addmm Addmv Addr Baddbmm Bmm Convolution ConvolutionOverrideable CudnnConvolution
    Dot GridSampler2D Lerp Linear MkldnnConvolution MkldnnLinear Mm Mul Mv SlowConv2D
    SlowConvDilated2D Trilinear
    """.split()
)
"""Linear in each factor: at most one of them may depend on the image."""

_SUMMAND_FIRST = frozenset({"Addbmm", "Addcmul", "Addmm", "Addmv", "Addr", "Baddbmm"})
"""Products with a summand, which stands first."""

_POOLING_AND_NORMALISATION = frozenset(
    """
    AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D AvgPool2D AvgPool3D
    CudnnBatchNorm FractionalMaxPool2D FusedRmsNorm LogSoftmax MaxPool2D MaxPool2DWithIndices
    MaxPool3DWithIndices MaxUnpool2D MaxUnpool3D MiopenBatchNorm MkldnnMaxPool2D NativeBatchNorm
    NativeDropout NativeGroupNorm NativeLayerNorm SafeSoftmax Softmax
    ScaledDotProductAttentionMath ScaledDotProductCudnnAttention ScaledDotProductEfficientAttention
    ScaledDotProductFlashAttention ScaledDotProductFlashAttentionForCpu
    """.split()
)

PRODUCT = "a product of values that both depend on the image"

_MAXIMA = frozenset({"Amax", "Amin", "Max", "Min"})
"""A pooling where they run over rows and columns of a map; else they may be a ReLU in disguise."""

_NAMES = {
    "Abs": "an absolute value",
    "Amax": "a maximum (spell a ReLU as F.relu)",
    "Amin": "a minimum",
    "Celu": "CELU",
    "Clamp": "a clamp (spell a ReLU as F.relu)",
    "ClampMax": "a clamp (spell a ReLU as F.relu)",
    "ClampMin": "a clamp (spell a ReLU as F.relu)",
    "CopySlices": "an in-place operation on a part of a tensor",
    "Div": "a division by what depends on the image",
    "Elu": "ELU",
    "Erf": "an error function",
    "Exp": "an exponential function",
    "Fmax": "a maximum (spell a ReLU as F.relu)",
    "Fmin": "a minimum",
    "Gelu": "GELU",
    "Glu": "GLU",
    "Hardshrink": "hardshrink",
    "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish",
    "Hardtanh": "ReLU6 or hardtanh",
    "IndexPut": "an assignment to chosen places (spell a ReLU as F.relu)",
    "LeakyRelu": "leaky ReLU",
    "LogSigmoid": "log-sigmoid",
    "MaskedFill": "a masked fill (spell a ReLU as F.relu)",
    "MaskedScatter": "a masked scatter (spell a ReLU as F.relu)",
    "Max": "a maximum (spell a ReLU as F.relu)",
    "Maximum": "a maximum (spell a ReLU as F.relu)",
    "Min": "a minimum",
    "Minimum": "a minimum",
    "Mish": "Mish",
    "MkldnnRnnLayer": "a recurrent layer",
    "Pow": "a power",
    "PreluKernel": "PReLU",
    "Relu": "a ReLU inside compiled code, out of reach",
    "RreluWithNoise": "RReLU",
    "Sigmoid": "sigmoid",
    "Silu": "SiLU",
    "Sin": "a sine",
    "Softplus": "softplus",
    "Softshrink": "softshrink",
    "Sqrt": "a square root",
    "Tanh": "tanh",
    "Threshold": "a threshold (spell a ReLU as F.relu)",
    "Where": "torch.where (spell a ReLU as F.relu)",
}


def depending_on(image: Tensor, output: Tensor) -> dict[Node, Operands]:
    """The operations between an image and what was computed from it.

    Args:
        image: a leaf that requires a gradient.
        output: with its graph.
    """
    readers: dict[Node, list[Node]] = {}
    seen: set[Node] = set()
    leaf: Node | None = None
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if getattr(node, "variable", None) is image:
            leaf = node
        for parent, _ in node.next_functions:
            if parent is not None:
                readers.setdefault(parent, []).append(node)
                stack.append(parent)
    found: set[Node] = set()
    reached = [leaf] if leaf is not None else []
    while reached:
        node = reached.pop()
        for reader in readers.get(node, ()):
            if reader not in found:
                found.add(reader)
                reached.append(reader)
    from_image = found | ({leaf} if leaf is not None else set())
    return {
        node: tuple(parent in from_image for parent, _ in node.next_functions) for node in found
    }


def why_not_linear(node: Node, operands: Operands, nodes: Mapping[Node, Operands]) -> str | None:
    """What an operation is, if it is in none of the lists of this module; None if it is.

    Args:
        node: the operation.
        operands: which of its inputs depend on the image.
        nodes: all operations between image and output.
    """
    name = type(node).__name__.split("Backward")[0]
    if name.startswith("torch::") or type(node).__name__ == "CppFunction":
        return f"the compiled autograd function {node.name()}"
    if name in _SUMS_AND_ARRANGEMENTS or name in _POOLING_AND_NORMALISATION:
        return None
    if name in _PRODUCTS:
        factors = operands[1:] if name in _SUMMAND_FIRST else operands
        if sum(factors) <= 1 or _weighs_by_softmax(node) or _scores_of_softmax(node, nodes):
            return None
        return PRODUCT
    if name == "Div" and not any(operands[1:]):
        return None
    if name in _MAXIMA and _over_rows_and_columns(node):
        return None
    return _NAMES.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _over_rows_and_columns(node: Node) -> bool:
    """Whether a maximum runs over rows or columns of (B, C, H, W)."""
    saved = getattr(node, "_saved_self", None)
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    if isinstance(saved, Tensor):
        sizes = saved.shape
    dims = getattr(node, "_saved_dim", None)
    if sizes is None or dims is None or len(sizes) != 4:
        return False
    dims = [dims] if isinstance(dims, int) else list(dims)
    signed = [d - 2**64 if d >= 2**63 else d for d in dims]  # torch gives -1 unsigned
    return bool(signed) and {d % 4 for d in signed} <= {2, 3}


_SHAPES = frozenset(
    """
    AsStrided Clone Expand Permute Reshape ReshapeAlias Select Slice Squeeze T Transpose UnsafeView
    Unsqueeze View
    """.split()
)


def _weighs_by_softmax(node: Node) -> bool:
    """Whether a factor is a softmax, but for its shape: an average with weights that sum to 1."""
    for parent, _ in node.next_functions:
        while parent is not None and _name(parent) in _SHAPES:
            parent = parent.next_functions[0][0]
        if parent is not None and _name(parent) in {"Softmax", "SafeSoftmax"}:
            return True
    return False


def _scores_of_softmax(node: Node, nodes: Mapping[Node, Operands]) -> bool:
    """Whether a product goes, but for shape and scale, into softmaxes alone: attention scores."""
    passing = _SHAPES | {"Add", "Div", "Mul"}
    stack, seen = [node], {node}
    while stack:
        current = stack.pop()
        readers = [n for n in nodes if any(parent is current for parent, _ in n.next_functions)]
        if not readers:
            return False
        for reader in readers:
            if _name(reader) in {"Softmax", "SafeSoftmax"} or reader in seen:
                continue
            if _name(reader) not in passing or (reader is not node and sum(nodes[reader]) > 1):
                return False
            seen.add(reader)
            stack.append(reader)
    return True


def _name(node: Node) -> str:
    return type(node).__name__.split("Backward")[0]
