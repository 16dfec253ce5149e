"""What an attribution method is, and where methods are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from xai_core.errors import BadInput
from xai_core.registry import Registry
from xai_core.signals import INPUT, Signal, Signals

Combine = Callable[[Signals], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to turn signals into an attribution map; it never runs a net itself.

    Attributes:
        id: name in options, records and reports.
        title: the method's name in the literature.
        needs: the signals that `combine` reads.
        combine: signals to maps, (B, channels, H, W).
        channels: 3 where every colour channel has its own attribution, else 1.
        non_negative: whether the map has no negative values.
        baseline: whether it is there to be beaten: it shows what needs no look into the net.
    """

    id: str
    title: str
    needs: frozenset[Signal]
    combine: Combine
    channels: int
    non_negative: bool
    baseline: bool = False

    def __call__(self, signals: Signals) -> Tensor:
        """Combine the signals and check the result: shape, finite values, sign.

        Raises:
            BadInput: the map breaks what this method declares; nothing unchecked leaves it.
        """
        maps = self.combine(signals)
        batch, _, height, width = signals[INPUT].shape
        expected = (batch, self.channels, height, width)
        if tuple(maps.shape) != expected:
            raise BadInput(f"{self.id} gave a map of shape {tuple(maps.shape)}, not {expected}")
        least, largest = maps.amin(), maps.amax()  # NaN if there is one
        if not (torch.isfinite(least) and torch.isfinite(largest)):
            raise BadInput(
                f"{self.id} gave NaN or infinite values (signals out of the range of {maps.dtype}; "
                "try --dtype float64)"
            )
        if self.non_negative and least < 0:
            raise BadInput(f"{self.id} gave negative values, which it declares not to")
        return maps


METHODS: Registry[Method] = Registry("method", Method)


def register_method(
    id: str,
    *,
    title: str,
    needs: Iterable[Signal],
    channels: int,
    non_negative: bool = False,
    baseline: bool = False,
) -> Callable[[Combine], Combine]:
    """Register the decorated function as the method ``id``; see `Method` for the arguments.

    `INPUT` is always at hand and need not be named.
    """

    def register(combine: Combine) -> Combine:
        signals = frozenset(needs) | {INPUT}
        METHODS.register(id, Method(id, title, signals, combine, channels, non_negative, baseline))
        return combine

    return register
