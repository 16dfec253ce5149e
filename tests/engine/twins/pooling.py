"""Poolings between the stem and the target layer."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from tests.engine.twins.by_hand import (
    adaptive,
    avg_pool,
    layer,
    max_pool,
    pad,
    windows,
)
from tests.engine.twins.harness import ending, ending_twin, small


def between(name, pool, twin, layers=dict, **fields):
    """conv1, ReLU, the pooling, and the usual end."""
    return small(
        name,
        lambda m, x: ending(m, pool(F.relu(m.conv1(x)))),
        lambda r, w, x: ending_twin(r, w, twin(r, r.relu(layer(w, "conv1", x, padding=1)))),
        layers,
        **fields,
    )


def ceil_padded(r, h, kernel, stride):
    """Rows and columns that fill the last window, of which torch's ceil mode sees a part."""
    rows, columns = (-(h.shape[d] - kernel) % stride for d in (2, 3))
    return max_pool(r, pad(h, (0, rows), (0, columns), float("-inf")), kernel, stride)


def ceil_average(h, kernel, stride):
    """Divides by the cells that are within the image."""
    rows, columns = (-(h.shape[d] - kernel) % stride for d in (2, 3))
    total = sum(s for _, _, s in windows(pad(h, (0, rows), (0, columns)), kernel, stride))
    ones = pad(torch.ones_like(h), (0, rows), (0, columns))
    return total / sum(s for _, _, s in windows(ones, kernel, stride))


def without_border(h, kernel, stride, padding):
    both = (padding, padding)
    total = sum(s for _, _, s in windows(pad(h, both, both), kernel, stride))
    ones = pad(torch.ones_like(h), both, both)
    return total / sum(s for _, _, s in windows(ones, kernel, stride))


def lp(h, kernel):
    """The Euclidean norm of each window; in front of it nothing is zero."""
    return sum(s**2 for _, _, s in windows(h, kernel, kernel)) ** 0.5


def unpooled(r, h):
    """Each maximum at its own place, zeros elsewhere."""
    high = max_pool(r, h, 2)
    wide = high.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wide = pad(wide, (0, h.shape[2] - wide.shape[2]), (0, h.shape[3] - wide.shape[3]))
    return first_places(h) * wide


def first_places(h):
    """One where a value is the first largest of its 2x2 window, in reading order."""
    places = torch.zeros_like(h)
    for b, c, y, x in np.ndindex(*h.shape[:2], h.shape[2] // 2, h.shape[3] // 2):
        window = h[b, c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].detach().numpy()
        dy, dx = divmod(int(window.argmax()), 2)
        places[b, c, 2 * y + dy, 2 * x + dx] = 1
    return places


def unpool(h):
    high, places = F.max_pool2d(h, 2, return_indices=True)
    return F.max_unpool2d(high, places, 2, output_size=h.shape[2:])


CASES = [
    between("max-2", lambda h: F.max_pool2d(h, 2), lambda r, h: max_pool(r, h, 2)),
    between("max-3-2-1", lambda h: F.max_pool2d(h, 3, 2, 1), lambda r, h: max_pool(r, h, 3, 2, 1)),
    between("max-3-1-1", lambda h: F.max_pool2d(h, 3, 1, 1), lambda r, h: max_pool(r, h, 3, 1, 1)),
    between("max-gaps", lambda h: F.max_pool2d(h, 2, 3), lambda r, h: max_pool(r, h, 2, 3)),
    between(
        "max-dilated",
        lambda h: F.max_pool2d(h, 2, 2, dilation=2),
        lambda r, h: max_pool(r, h, 2, 2, dilation=2),
    ),
    between(
        "max-ceil",
        lambda h: F.max_pool2d(h, 3, 2, ceil_mode=True),
        lambda r, h: ceil_padded(r, h, 3, 2),
    ),
    between("max-unpool", unpool, unpooled),
    between("average-3-2-1", lambda h: F.avg_pool2d(h, 3, 2, 1), lambda r, h: avg_pool(h, 3, 2, 1)),
    between(
        "average-without-border",
        lambda h: F.avg_pool2d(h, 3, 2, 1, count_include_pad=False),
        lambda r, h: without_border(h, 3, 2, 1),
    ),
    between(
        "average-ceil",
        lambda h: F.avg_pool2d(h, 3, 2, ceil_mode=True),
        lambda r, h: ceil_average(h, 3, 2),
    ),
    between(
        "average-adaptive-larger-than-the-map",
        lambda h: F.adaptive_avg_pool2d(h, (30, 30)),
        lambda r, h: adaptive(h, 30, 30),
    ),
    between(
        "lp-2",
        lambda h: F.lp_pool2d(h + 0.5, 2, 2),
        lambda r, h: lp(h + 0.5, 2),
    ),
    between(
        "blur-pool",
        lambda h: F.conv2d(h, torch.full((4, 1, 2, 2), 0.25, dtype=h.dtype), None, 2, groups=4),
        lambda r, h: avg_pool(h, 2),
    ),
    between("strided-slices", lambda h: h[:, :, ::2, 1::2], lambda r, h: h[:, :, ::2, 1::2]),
    between(
        "space-to-depth-and-back",
        lambda h: F.pixel_unshuffle(h[:, :1, :16, :22], 2),
        lambda r, h: torch.cat([s for _, _, s in windows(h[:, :1, :16, :22], 2, 2)], 1),
    ),
]
