"""Which tensors a net may compute with: dense, real, not quantised, with values, none NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from xai_core.errors import BadInput


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a module, those that no file holds included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def check_kinds(values: Mapping[str, object], whose: str) -> None:
    """See that all values are of the one kind that is loaded, hashed and computed with.

    Raises:
        BadInput: one is not, by its name.
    """
    for name, value in values.items():
        kind = _other_kind(value)
        if kind:
            raise BadInput(f"{whose} can't be used: {name} is {kind}; dense real tensors are taken")


def _other_kind(value: object) -> str:
    if not isinstance(value, Tensor):  # torch's quantised modules keep their weights so
        return f"a {type(value).__name__}"
    if is_lazy(value):
        return "of a lazy module that has never run (run the net once where it is built)"
    if value.is_meta:
        return "a meta tensor, which has no values"
    if value.is_quantized:
        return "a quantised tensor"
    if value.is_nested:
        return "a nested tensor"
    if value.layout is not torch.strided:
        return "a sparse tensor"
    if value.is_complex():
        return "a complex tensor"
    return ""


def check_finite(module: nn.Module, whose: str) -> None:
    """See that no parameter or buffer is NaN or infinite.

    A maximum or a ReLU may turn NaN into a number on its way to the logits, so that these alone
    don't tell. Buffers of 0 and -infinity are attention masks, and are left.

    Raises:
        BadInput: one is, by its name.
    """
    buffers = dict(module.named_buffers())
    for name, value in tensors_of(module).items():
        # A sum is read faster than isfinite, and is finite only if all values are.
        if not value.is_floating_point() or bool(value.sum().isfinite()):
            continue
        bad = ~value.isfinite()
        if not bad.any() or (name in buffers and _is_mask(value)):
            continue
        what = "NaN" if value.isnan().any() else "infinite"
        raise BadInput(
            f"{whose} can't be used: {name} is {what} in {int(bad.sum())} of {value.numel()} values"
        )


def _is_mask(value: Tensor) -> bool:
    return bool(((value == 0) | (value == -torch.inf)).all())


def misread(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterable[str]:
    """Entries that hold whole numbers where the net has floating ones, as packed weights do."""
    for name, value in state.items():
        if name in own and own[name].is_floating_point() and not value.is_floating_point():
            yield f"{name} is {str(value.dtype).removeprefix('torch.')}, not floating"
