"""What a net consists of, and whether it still does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from xai_core.types import Net

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_OWN = frozenset(vars(nn.Module()))  # what every module has; `training` among it
_PLAIN = (bool, int, float, complex, str, bytes, type(None))

_SAMPLES = 2**18
"""About how many values of a net are compared at each call."""
_SMALL = 1024
"""Values up to which a tensor is compared as a whole."""


def hooked(module: nn.Module) -> bool:
    """Whether anything is hooked into the passes of a net."""
    return any(getattr(torch_module, name) for name in _GLOBAL_HOOKS) or any(
        getattr(child, name) for child in module.modules() for name in HOOKS
    )


class State:
    """Modules, hooks, plain attributes, and parameters and buffers by identity and by value.

    Writes through ``.data`` or numpy change neither a tensor's place nor its version, so values are
    compared as well: all of small tensors and every n-th of larger ones, some 260,000 of a net. A
    write to single weights of a large net can pass unseen, and so can what a net reads from outside
    itself.

    Holds on to all but the net itself, so that ids stay theirs and the net can still be freed.

    Args:
        net: the net.
    """

    def __init__(self, net: Net) -> None:
        self._target_layer = net.target_layer
        self._modules = list(net.module.modules())[1:]
        self._tensors = [*net.module.parameters(), *net.module.buffers()]
        self._views = _views(self._tensors)
        self._seen = self._look(net.module)
        self.values = self._values()

    def is_of(self, net: Net) -> bool:
        """Whether all that is looked at is as it was."""
        return (
            net.target_layer == self._target_layer
            and self._look(net.module) == self._seen
            and same_values(self._values(), self.values)
        )

    def _look(self, root: nn.Module) -> list[object]:
        found: list[object] = [len(getattr(torch_module, name)) for name in _GLOBAL_HOOKS]
        for module in (root, *self._modules):
            own = vars(module)
            for name in ("_modules", "_parameters", "_buffers"):
                found += map(id, own[name].values())
            found += (len(own[name]) for name in HOOKS)
            for name, value in own.items():
                if name not in _OWN:
                    found.append(value if type(value) in _PLAIN else id(value))
        for tensor in self._tensors:
            found += (_place(tensor), tensor._version)
        return found

    def _values(self) -> list[Tensor]:
        with torch.no_grad():
            return [torch.cat(views) for views in self._views]


def same_values(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether two samples are the same bit by bit."""
    return len(a) == len(b) and all(
        torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(a, b, strict=True)
    )


def _place(tensor: Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # sparse, say
        return id(tensor)


def _views(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Views of the values to compare, those of one type together."""
    dense = [t.detach() for t in tensors if t.layout is torch.strided and not t.is_quantized]
    every = max(1, sum(t.numel() for t in dense) // _SAMPLES) | 1  # odd: no column is left out
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in dense:
        if tensor.numel() == 0 or tensor.is_meta:
            continue
        flat = tensor.as_strided((_extent(tensor),), (1,))
        sample = flat if flat.numel() <= _SMALL else flat[::every]
        groups.setdefault((tensor.dtype, tensor.device), []).append(sample)
    return list(groups.values())


def _extent(tensor: Tensor) -> int:
    """From a tensor's first value in memory to its last."""
    return 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
