"""Where the positions are, held against a tensor whose elements say where they came from."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from xai_core.nets.forward_trace import trace_forward
from xai_core.nets.positions import LOST, MAP

H = W = 4
CHANNELS = 6


class Layout(nn.Module):
    """Rearranges the image's positions; keeps each step's result."""

    def __init__(self, steps: list[tuple[str, int]]) -> None:
        super().__init__()
        self.steps = steps
        self.conv = nn.Conv2d(3, CHANNELS, 1)

    def forward(self, x):
        return arrange(self.conv(x), self.steps)


def arrange(x: Tensor, steps: list[tuple[str, int]]) -> Tensor:
    for kind, at in steps:
        i = at % (x.ndim - 1)
        if kind == "swap":
            x = x.transpose(i, i + 1)
        elif kind == "merge" and x.ndim > 2:
            x = x.flatten(i, i + 1)
        elif kind == "split" and x.shape[i] % 2 == 0 and x.shape[i] > 2:
            x = x.unflatten(i, (2, -1))
        elif kind == "insert":
            x = x.unsqueeze(at % (x.ndim + 1))
        elif kind == "reverse":
            x = x.flip(i)
    return x


def constant_along(x: Tensor, axis: int) -> bool:
    return bool((x == x.narrow(axis, 0, 1)).all())


KINDS = st.sampled_from(["swap", "merge", "split", "insert", "reverse"])


@given(st.lists(st.tuples(KINDS, st.integers(0, 5)), max_size=6))
def test_layouts_are_followed_or_lost_never_wrong(steps):
    value = trace_forward(Layout(steps), H).logits
    assert value is not None
    position, channel = torch.meshgrid(torch.arange(H * W), torch.arange(CHANNELS), indexing="ij")
    where = arrange(position.T.reshape(1, CHANNELS, H, W), steps)
    which = arrange(channel.T.reshape(1, CHANNELS, H, W), steps)
    assert value.shape == where.shape
    if value.axes == LOST:
        return
    for axis in range(where.ndim):
        assert (axis in {*value.axes.pure, *value.axes.mixed}) != constant_along(where, axis)
        if axis in value.axes.pure:
            assert constant_along(which, axis)
    if value.axes == MAP and where.ndim == 4:
        assert sorted(where.shape[2:]) == [H, W]


def test_a_map_of_other_rows_is_no_map_any_more():
    module = Layout([("split", 2), ("merge", 3)])  # (1, C, 2, 2 w)
    value = trace_forward(module, H).logits
    assert value is not None
    assert (value.shape, value.axes) == ((1, CHANNELS, 2, 2 * W), LOST)
