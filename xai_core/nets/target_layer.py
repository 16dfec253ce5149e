"""The default target layer: what the net reduces to a vector last, read from one forward pass."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from xai_core.errors import Unsupported
from xai_core.nets.forward_trace import Trace, trace_forward
from xai_core.nets.positions import CHANNELS_LAST, PRODUCTS, RESHAPES, Value

_LAYOUT = RESHAPES | {
    *("permute", "transpose", "t", "expand", "clone", "alias", "detach", "_to_copy"),
    *("slice", "select", "split", "split_with_sizes", "unbind", "constant_pad_nd"),
    *("topk", "sort", "gather"),
}
"""Operations that give the same values elsewhere, or fewer of them."""

_NORMS = {"native_batch_norm", "cudnn_batch_norm", "native_layer_norm", "native_group_norm"}
_ACTIVATIONS = {
    *("relu", "leaky_relu", "_prelu_kernel", "elu", "hardtanh", "silu", "gelu", "mish", "tanh"),
    *("hardswish", "hardsigmoid", "softplus", "sigmoid", "clamp", "clamp_min", "threshold"),
}
"""Pointwise functions: where no module gives their output, what they read stands for it."""

_PART_OF_POOLING = {
    *("pow", "sqrt", "abs", "sign", "exp", "log", "neg", "mul", "div", "clamp", "clamp_min"),
    *("native_dropout", "upsample_bilinear2d", "upsample_nearest2d"),
}
"""How norms, scaled sums and weighted means are spelled by hand."""

_JOINS = {"add", "sub", "cat", "stack"}
_COMPARISONS = {"gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_not", "isnan", "argmax"}
_NOTHING = "nothing spatial is pooled before its logits"


def find_target_layer(module: nn.Module, classes: int | None = None, size: int = 224) -> str:
    """Dotted name of the module whose output is the last activation (or block) before pooling.

    The last pooling is whatever reduces an activation (B, C, h, w) to a vector last on the way to
    the logits, however it is spelled: a mean, sum, maximum, product, attention, or a linear layer
    over all positions. From there the search goes up through further pooling and dropout, and
    through a 1x1 convolution that gives class scores. It never ends at a pooled map or a map of
    scores, nor at a module that runs more than once.

    Args:
        module: maps (1, 3, N, N) to logits; left as it is, also after an error.
        classes: number of the net's outputs, where it is known before the forward pass.
        size: N.

    Raises:
        Unsupported: nothing spatial is pooled (Vision Transformers), several layers' outputs are,
            or what is pooled is no output of a module that runs once; a layer can still be named.
        BadInput: the forward pass fails at this size, or gives no tensor.
    """
    trace = trace_forward(module, size)
    return _Search(trace, trace.outputs if classes is None else classes).layer()


class _Unclear(Exception):
    """Why the search stopped, and at which value."""

    def __init__(self, value: Value, reason: str) -> None:
        super().__init__(reason)
        self.value = value


class _Search:
    """From the logits up to the layer."""

    def __init__(self, trace: Trace, classes: int) -> None:
        self._runs = trace.runs
        self._classes = classes
        self._logits = trace.logits
        behind = {} if trace.logits is None or trace.logits.axes else {trace.logits: None}
        queue = [*behind]
        for value in queue:  # it grows: all between the last pooling and the logits
            new = [v for v in value.inputs.values() if not v.axes and v not in behind]
            behind.update(dict.fromkeys(new))
            queue += dict.fromkeys(new)
        self._found: dict[tuple[Value, bool], list[Value]] = {}
        self._poolings = [value for value in queue if value.spatial]
        self._linear_behind = any(map(_is_linear_layer, queue))

    def layer(self) -> str:
        """Its name; raises `Unsupported` with the reason and the layers that are near."""
        try:
            maps = self._last_maps()
        except _Unclear as unclear:
            near = self._near(unclear.value)
            raise Unsupported(f"{unclear}; near it: {near}" if near else str(unclear)) from None
        names = dict.fromkeys(self._name(value) for value in maps)
        if not names:
            raise Unsupported(_NOTHING)
        if len(names) > 1:
            raise Unsupported(f"its logits read several layers: {_list(names)}")
        return next(iter(names))

    def _last_maps(self) -> list[Value]:
        if self._logits is not None and self._logits.axes.lost:
            raise _Unclear(self._logits, "what its logits are reduced from can't be followed")
        found: list[Value] = []
        stopped: list[_Unclear] = []
        for value in self._poolings:
            try:
                found += self._together(value, _attended(value), self._linear_behind)
            except _Unclear as unclear:
                if not _is_weights(value.spatial[0]):
                    raise
                stopped.append(unclear)
        if stopped and not found:
            raise stopped[0]
        maps = list(dict.fromkeys(found))
        return [value for value in maps if not _is_weights(value)] or maps

    def _maps(self, value: Value, linear_behind: bool) -> list[Value]:
        """The outputs of layers that a value with positions is a pooled or reshaped form of."""
        key = value, linear_behind
        if key not in self._found:
            self._found[key] = self._search(value, linear_behind)
        return self._found[key]

    def _search(self, value: Value, linear_behind: bool) -> list[Value]:
        if value.op == "image" or value.op in _COMPARISONS:
            return []
        above = _pooled_map(value)
        if above is None and value.is_map and not linear_behind:
            above = self._before_scores(value)
            linear_behind = above is not None
        if above is not None:
            return self._maps(above, linear_behind)
        if value.is_map and self._name(value):
            return [value]
        if value.op in PRODUCTS and value.weight:  # a linear layer at each position
            linear_behind = True
        return self._together(value, self._sources(value), linear_behind)

    def _together(self, value: Value, sources: list[Value], linear_behind: bool) -> list[Value]:
        """The layers of an operation's inputs; beside features, weights may be anything."""
        found: list[Value] = []
        stopped: list[_Unclear] = []
        for source in sources:
            try:
                found += self._maps(source, linear_behind)
            except _Unclear as unclear:
                stopped.append(unclear)
        weighted = value.op == "mul" or value.op in PRODUCTS
        if stopped and not (weighted and found):
            raise stopped[0]
        return found

    def _sources(self, value: Value) -> list[Value]:
        """The inputs that a value without a layer's name stands for."""
        spatial = value.spatial
        if value.op in _LAYOUT or (value.op in _JOINS and (len(spatial) > 1 or not value.is_map)):
            return spatial
        if value.op == "div":
            spatial = [v for name, v in value.inputs.items() if name == "self" and v.axes]
        spatial = [source for source in _attended(value) if source in spatial]
        flat = bool(value.axes.mixed)
        if (
            value.op in _PART_OF_POOLING
            or (value.op in PRODUCTS and not value.is_map)
            or (value.op in _ACTIVATIONS and (value.is_map or flat))
            or (value.op in _NORMS and flat)
            or ("query" in value.inputs)
        ) and spatial:
            return spatial
        raise _Unclear(value, self._reason(value))

    def _reason(self, value: Value) -> str:
        if value.axes.lost:
            return "what its final pooling reads can't be followed to a layer"
        if value.axes == CHANNELS_LAST and len(value.shape) == 4:
            return "what its final pooling reads has its channels last"
        if not value.is_map:
            return _NOTHING
        often = [name for name in value.modules if self._runs[name] > 1]
        if often:
            return (
                "what its final pooling reads is no module's output but of "
                f"{often[-1]}, which runs {self._runs[often[-1]]} times"
            )
        return "what its final pooling reads is no module's output"

    def _before_scores(self, value: Value) -> Value | None:
        """What the 1x1 convolution of class scores reads whose output, activated, this is."""
        while value.op in _ACTIVATIONS | _NORMS and len(value.spatial) == 1:
            value = value.spatial[0]
        if value.op != "convolution" or value.weight[:1] != (self._classes,):
            return None
        if value.weight[2:] != (1, 1):
            raise _Unclear(value, "what it pools last are class scores of no 1x1 convolution")
        return value.spatial[0]

    def _name(self, value: Value) -> str:
        """The outermost module that gives it and runs once; empty without one."""
        once = [name for name in value.modules if self._runs[name] == 1]
        return once[-1] if once else ""

    def _near(self, value: Value) -> str:
        if str(self._reason(value)) == _NOTHING:
            return ""
        names = (self._name(v) for v in value.above() if v.is_map and _pooled_map(v) is None)
        return _list(dict.fromkeys(filter(None, names)))


def _pooled_map(value: Value) -> Value | None:
    """What was pooled, where the value is a pooled map."""
    if value.pooled_from is not None:
        return value.pooled_from
    if len(value.spatial) != 1 or value.op == "convolution":
        return None
    source = value.spatial[0]
    if "pool2d" in value.op:
        return source
    if not source.is_map:
        return None
    if value.is_map:
        fewer = source.shape[2] * source.shape[3] > value.shape[2] * value.shape[3]
        return source if fewer and source.shape[1] == value.shape[1] else None
    return source if len(value.axes.pure) == 1 and value.op not in _LAYOUT else None


def _attended(value: Value) -> list[Value]:
    """The inputs with positions; of an attention, what it weighs."""
    if "query" in value.inputs and "value" in value.inputs:
        return [value.inputs["value"]]
    return value.spatial


def _is_weights(value: Value) -> bool:
    """Whether a map has one channel: beside others, it says how much each position counts."""
    return value.is_map and value.shape[1] == 1


def _is_linear_layer(value: Value) -> bool:
    """Whether it mixes channels; a product that only sums over positions does not."""
    if not value.weight or (value.op != "convolution" and value.op not in PRODUCTS):
        return False
    return not any(source.axes.pure for source in value.spatial) or value.op == "convolution"


def _list(names: Iterable[str]) -> str:
    first, more = [*names][:4], [*names][4:]
    return ", ".join(first) + (", ..." if more else "")
