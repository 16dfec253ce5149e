"""The default target layer: what feeds the final pooling, found by watching one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xai_core.errors import BadInput, Unsupported, first_line

_POOLING = {
    F.adaptive_avg_pool2d,
    F.adaptive_max_pool2d,
    F.avg_pool2d,
    F.max_pool2d,
    torch.max_pool2d,
    torch.mean,
    Tensor.mean,
}
_TRANSPARENT = {F.dropout, F.dropout2d, torch.dropout}
_RELU = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CONV = {F.conv2d, torch.conv2d}


class _Trace(TorchFunctionMode):
    """Which call made each spatial map. Holds the maps, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.made_by: dict[int, tuple[Callable[..., Any], Tensor]] = {}
        self.pooled: list[Tensor] = []
        self._keep: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        source = args[0] if args else None
        if isinstance(source, Tensor) and source.ndim == 4 and isinstance(result, Tensor):
            self._keep += [source, result]
            if result is not source:  # an in-place ReLU keeps the maker of its input
                self.made_by[id(result)] = func, source
            if func in _POOLING:
                self.pooled.append(source)
        return result


def find_target_layer(module: nn.Module, classes: int | None = None, size: int = 224) -> str:
    """Dotted name of the module whose output is the last activation (or block) before pooling.

    From the last pooling call the trace goes up: through further pooling and dropout, and through
    a 1x1 convolution that gives class scores. It never ends at a pooled map or a map of scores.

    Args:
        module: maps (1, 3, N, N) to logits; left as it is.
        classes: number of the net's outputs, where it is known before the forward pass.
        size: N.

    Raises:
        Unsupported: nothing spatial is pooled (Vision Transformers), or what is pooled is no
            module's output; a layer can still be named.
        BadInput: the forward pass fails at this size, or gives no tensor.
    """
    outputs: dict[int, str] = {}
    keep: list[Tensor] = []

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            passes_on = isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd)
            if isinstance(output, Tensor) and output.ndim == 4 and not passes_on:
                keep.append(output)
                outputs[id(output)] = name  # the outermost module finishes last

        return hook

    handles = [
        child.register_forward_hook(remember(name))
        for name, child in module.named_modules()
        if name
    ]
    parameter = next(module.parameters(), torch.zeros(()))
    example = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    try:
        with torch.no_grad(), _Trace() as trace:
            logits = module(example)
    except Exception as error:  # a user's net may raise anything
        raise BadInput(f"its forward pass failed at {size}x{size}: {first_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor):
        raise BadInput(f"its forward pass gives a {type(logits).__name__}, not logits")
    if not trace.pooled:
        raise Unsupported("nothing spatial is pooled before its logits")
    source = _before_pooling(trace, logits.shape[-1] if classes is None else classes)
    name = outputs.get(id(source)) or outputs.get(id(_before_relu(trace, source)))
    if name is None:
        raise Unsupported("what its final pooling reads is no module's output")
    return name


def _before_pooling(trace: _Trace, classes: int) -> Tensor:
    source = trace.pooled[-1]
    while True:
        func, parent = trace.made_by.get(id(source), (None, source))
        above, score_input = trace.made_by.get(id(parent), (None, parent))
        if func in _POOLING | _TRANSPARENT or (func in _CONV and source.shape[1] == classes):
            source = parent
        elif func in _RELU and above in _CONV and parent.shape[1] == classes:
            source = score_input
        else:
            return source


def _before_relu(trace: _Trace, source: Tensor) -> Tensor:
    func, parent = trace.made_by.get(id(source), (None, source))
    return parent if func in _RELU else source
