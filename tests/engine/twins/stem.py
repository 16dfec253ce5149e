"""The first convolution: strides, dilation, groups, padding, and transposed ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from tests.engine.twins.by_hand import conv, layer, pad, pad_by
from tests.engine.twins.harness import ending, ending_twin, small


def first(name, twin, *arguments, prepare=lambda x: x, cls=nn.Conv2d, **how):
    """The stem ``s`` in front of the usual end; ``twin`` gives what its ReLU reads."""
    return small(
        name,
        lambda m, x: ending(m, F.relu(m.s(prepare(x)))),
        lambda r, w, x: ending_twin(r, w, r.relu(twin(w, x))),
        lambda: {"s": cls(*arguments, **how)},
    )


def strided(name, kernel, stride, padding, bias=True):
    return first(
        name,
        lambda w, x: layer(w, "s", x, stride=stride, padding=padding),
        3,
        4,
        kernel,
        stride,
        padding,
        bias=bias,
    )


def modes(mode, kernel, stride):
    n = kernel // 2
    return first(
        f"padding-{mode}-{kernel}-stride-{stride}",
        lambda w, x: layer(w, "s", pad_by(mode, x, n), stride=stride),
        3,
        4,
        kernel,
        stride,
        n,
        padding_mode=mode,
    )


def transposed(w, x, stride, padding):
    """Each position is spread apart by zeros; then a convolution with the flipped kernel."""
    b, c, h, v = x.shape
    wide = x.new_zeros(b, c, (h - 1) * stride + 1, (v - 1) * stride + 1)
    wide[:, :, ::stride, ::stride] = x
    kernel = w["s.weight"].transpose(0, 1).flip(2, 3)
    return conv(wide, kernel, w["s.bias"], padding=kernel.shape[2] - 1 - padding)


CASES = [
    strided("stride-2", 3, 2, 1),
    strided("stride-2-kernel-7", 7, 2, 3),
    strided("stride-3-kernel-5", 5, 3, 2),
    strided("stride-4-patches", 4, 4, 0),
    strided("stride-4-kernel-11", 11, 4, 2),
    strided("stride-3-by-2-oblong", (5, 3), (3, 2), (0, 2)),
    strided("padding-beyond-the-kernel", 3, 2, 4),
    first(
        "dilated-and-strided",
        lambda w, x: layer(w, "s", x, stride=2, padding=3, dilation=3),
        3,
        4,
        3,
        stride=2,
        padding=3,
        dilation=3,
    ),
    first(
        "padding-same-even",
        lambda w, x: layer(w, "s", pad(x, (1, 2), (1, 2))),
        3,
        4,
        4,
        padding="same",
    ),
    small(
        "depthwise-then-pointwise",
        lambda m, x: ending(m, F.relu(m.p(m.d(x)))),
        lambda r, w, x: ending_twin(
            r, w, r.relu(layer(w, "p", layer(w, "d", x, stride=2, padding=1, groups=3)))
        ),
        lambda: {"d": nn.Conv2d(3, 3, 3, 2, 1, groups=3), "p": nn.Conv2d(3, 4, 1)},
    ),
    *(modes(m, k, s) for m in ("reflect", "replicate", "circular") for k, s in ((3, 1), (5, 2))),
    first(
        "negative-padding-crops",
        lambda w, x: layer(w, "s", x[:, :, 1:-1, 2:]),
        3,
        4,
        3,
        prepare=lambda x: F.pad(x, (-2, 0, -1, -1)),
    ),
    first(
        "transposed",
        lambda w, x: transposed(w, x, 2, 1),
        3,
        4,
        3,
        2,
        1,
        cls=nn.ConvTranspose2d,
    ),
]
