"""What the fused engine knows of a net in one state: its tapes, its plans, and what was checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from xai_core.engine.fused.onednn import find
from xai_core.engine.fused.plan import Layouts, Plan, make_plan
from xai_core.engine.fused.readers import NotRecordable
from xai_core.engine.fused.state import State
from xai_core.engine.fused.tape import Tape, Twin
from xai_core.signals import ACTIVATION_GRADIENT, INPUT_GRADIENT, Signal
from xai_core.types import Net

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

CHECK_EVERY = 32
"""Images after which the next new size of image is checked, too, though the net does with it what
it did with others: a check costs as much as one or two images."""


@dataclass
class _Vouched:
    """What was checked of one outline of the tape and one number of images in a batch."""

    signals: frozenset[Signal] = frozenset()
    shapes: set[torch.Size] = field(default_factory=set)
    images: int = 0


class Prepared:
    """See the module.

    Args:
        net: the net.
        state: the state that it is in.
        onednn: whether to look for oneDNN's private operators.
        dtype: of the backward pass; None for that of the forward pass.
        reason: why it must not be recorded; empty if it may be.
    """

    def __init__(
        self, net: Net, state: State, onednn: bool, dtype: torch.dtype | None, reason: str
    ) -> None:
        self.state = state
        self._dtype = dtype
        self._target_layer = net.target_layer
        self._twin: Twin | NotRecordable
        try:
            self._twin = NotRecordable(reason) if reason else Twin(net.module)
        except NotRecordable as why_not:
            self._twin = why_not
        self._layouts = Layouts()
        self._onednn = find() if onednn else None
        self._tapes = _Recent[tuple[int, ...], Tape | NotRecordable]()
        self._plans = _Recent[tuple[torch.Size, frozenset[Signal]], Plan]()
        self._refused: dict[torch.Size, NotRecordable] = {}
        self._vouched: dict[tuple[object, int], _Vouched] = {}

    def plan(self, images: Tensor, needs: frozenset[Signal]) -> Plan:
        """The plan for a batch of images.

        Raises:
            NotRecordable: the walk does not know this net, or not at this size.
        """

        def make() -> Plan:
            rules = [rule for rule, signal in INPUT_GRADIENT.items() if signal in needs]
            at_target = ACTIVATION_GRADIENT in needs
            tape = self._tape(tuple(images.shape[1:]), images.dtype)
            kernels = self._layouts, self._onednn
            fold = images.dtype != torch.float64  # see `engine._layout`
            try:
                return make_plan(tape, len(images), rules, at_target, *kernels, self._dtype, fold)
            except Exception as error:  # the net can still be explained
                raise NotRecordable(f"no plan can be made: {error}") from error

        if images.shape in self._refused:
            raise self._refused[images.shape]
        return self._plans.get((images.shape, needs), make)

    def refuse(self, images: Tensor, reason: NotRecordable) -> None:
        """Make no plan for batches of this shape any more."""
        self._refused[images.shape] = reason

    def is_due(self, plan: Plan, images: Tensor, needs: frozenset[Signal]) -> bool:
        """Whether what the plan gives has to be checked.

        That is so for each outline of the tape, number of images and choice of signals once, and
        then for a new size of image after every `CHECK_EVERY` images.
        """
        vouched = self._vouched.get((plan.tape.outline, len(images)))
        if vouched is None or not needs <= vouched.signals:
            return True
        return images.shape not in vouched.shapes and vouched.images >= CHECK_EVERY

    def vouch(self, plan: Plan, images: Tensor, needs: frozenset[Signal]) -> None:
        """Note that a plan was checked."""
        vouched = self._vouched.setdefault((plan.tape.outline, len(images)), _Vouched())
        vouched.signals |= needs
        vouched.shapes.add(images.shape)
        vouched.images = 0

    def count(self, plan: Plan, images: int) -> None:
        """Note that images were explained."""
        self._vouched[plan.tape.outline, images].images += images

    def _tape(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tape:
        def record() -> Tape | NotRecordable:
            if isinstance(self._twin, NotRecordable):
                return self._twin
            try:
                return self._twin.record(shape, dtype, self._target_layer)
            except NotRecordable as reason:
                return reason

        tape = self._tapes.get(shape, record)
        if isinstance(tape, NotRecordable):
            raise tape
        return tape


class _Recent(Generic[_Key, _Value]):
    """The values that were used last; others are made anew, so that memory stays flat."""

    _AT_MOST = 16

    def __init__(self) -> None:
        self._values: OrderedDict[_Key, _Value] = OrderedDict()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self._AT_MOST:
            self._values.popitem(last=False)
        return self._values[key]
