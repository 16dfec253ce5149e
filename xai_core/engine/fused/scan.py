"""What of a net's real forward pass a recording without values could not show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Scan(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches a forward pass, and changes nothing of it.

    Attributes:
        reason: why this net must not be recorded; empty if it may be. A net that makes tensors of
            its own may keep them outside itself, and would keep those without values that it makes
            while it is recorded. Autocast does nothing there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.reason = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation as it is."""
        result = func(*args, **(kwargs or {}))
        if not self.reason:
            self.reason = self._look(func, args, kwargs or {}, result)
        return result

    def _look(self, func: Any, args: Any, kwargs: Any, result: Any) -> str:
        device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        if torch.is_autocast_enabled(device):
            return "it computes under autocast"
        if isinstance(result, Tensor) and result.numel() == 0:
            return ""  # memory that batch normalisation sets aside
        name = func.name().removeprefix("aten::").split(".")[0]
        made = (
            name.endswith("_like") or name.startswith(("new_", "lift")) or not _any((args, kwargs))
        )
        return f"it makes its own tensors ({name})" if made else ""


def _any(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return isinstance(value, Tensor)
    return any(_any(part) for part in value)
