"""The definitions again, slower and closer to the formulas, in plain loops and float64 numpy.

Nothing here calls xai_core. The net of `TinyNet` is conv - relu - maxpool - conv - relu (target
layer) - global average pooling - linear, given by its arrays.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np


@dataclass
class TinyNet:
    """conv1 (K1, 3, 3, 3) and conv2 (K2, K1, 3, 3) with padding 1; linear (classes, K2)."""

    conv1: np.ndarray
    bias1: np.ndarray
    conv2: np.ndarray
    bias2: np.ndarray
    linear: np.ndarray
    bias: np.ndarray

    def forward(self, x):
        self.z1 = convolve(x, self.conv1, self.bias1)
        self.pooled, self.switches = max_pool(np.maximum(self.z1, 0))
        self.z2 = convolve(self.pooled, self.conv2, self.bias2)
        self.f = np.maximum(self.z2, 0)
        return self.linear @ self.f.mean(axis=(1, 2)) + self.bias

    def backward(self, rule, c):
        """(dy_c/df, dy_c/dx) under a rule, after `forward`."""
        _, height, width = self.f.shape
        at_f = np.broadcast_to(self.linear[c][:, None, None] / (height * width), self.f.shape)
        g = relu_backward(rule, at_f, self.z2)
        g = convolve_backward(g, self.conv2)
        g = max_pool_backward(g, self.switches, self.z1.shape)
        return at_f, convolve_backward(relu_backward(rule, g, self.z1), self.conv1)


def relu_backward(rule, g, z):
    result = np.zeros_like(z)
    for i in np.ndindex(z.shape):
        if rule == "plain":
            result[i] = g[i] if z[i] > 0 else 0.0
        elif rule == "deconvolution":
            result[i] = g[i] if g[i] > 0 else 0.0
        else:
            result[i] = g[i] if g[i] > 0 and z[i] > 0 else 0.0
    return result


def convolve(x, weight, bias):
    channels, _, height, width = len(weight), None, *x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    result = np.zeros((channels, height, width))
    for k, i, j in np.ndindex(result.shape):
        result[k, i, j] = (weight[k] * padded[:, i : i + 3, j : j + 3]).sum() + bias[k]
    return result


def convolve_backward(g, weight):
    _, height, width = g.shape
    padded = np.zeros((weight.shape[1], height + 2, width + 2))
    for k, i, j in np.ndindex(g.shape):
        padded[:, i : i + 3, j : j + 3] += g[k, i, j] * weight[k]
    return padded[:, 1:-1, 1:-1]


def max_pool(x):
    channels, height, width = x.shape
    result = np.zeros((channels, height // 2, width // 2))
    switches = {}
    for k, i, j in np.ndindex(result.shape):
        window = [(2 * i + a, 2 * j + b) for a in (0, 1) for b in (0, 1)]
        switches[k, i, j] = max(window, key=lambda at: x[k][at])  # the first of equals
        result[k, i, j] = x[k][switches[k, i, j]]
    return result, switches


def max_pool_backward(g, switches, shape):
    result = np.zeros(shape)
    for at, (i, j) in switches.items():
        result[at[0], i, j] += g[at]
    return result


def grad_cam(f, at_f, size):
    """min-max of the upsampled ``relu(sum_k mean(dy/df_k) f_k)``."""
    coarse = np.zeros(f.shape[1:])
    for k in range(len(f)):
        coarse += at_f[k].sum() / at_f[k].size * f[k]
    return min_max(upsample(np.maximum(coarse, 0), size))


def cam(f, weights, size):
    coarse = np.zeros(f.shape[1:])
    for k in range(len(f)):
        coarse += weights[k] * f[k]
    return min_max(upsample(np.maximum(coarse, 0), size))


def upsample(coarse, size):
    """Bilinear with half-pixel centres; beyond the outermost centres the border's value."""
    result = np.zeros(size)
    for i, j in np.ndindex(*size):
        y = max((i + 0.5) * coarse.shape[0] / size[0] - 0.5, 0.0)
        x = max((j + 0.5) * coarse.shape[1] / size[1] - 0.5, 0.0)
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, coarse.shape[0] - 1), min(x0 + 1, coarse.shape[1] - 1)
        top = coarse[y0, x0] * (1 - (x - x0)) + coarse[y0, x1] * (x - x0)
        bottom = coarse[y1, x0] * (1 - (x - x0)) + coarse[y1, x1] * (x - x0)
        result[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return result


def min_max(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def concentration(values, mask):
    """(P, E, E_total), summed exactly."""
    squares = [
        (values[c, i, j] ** 2, mask[i, j])
        for c, i, j in itertools.product(*map(range, values.shape))
    ]
    total = math.fsum(square for square, _ in squares)
    inside = math.fsum(square for square, inside in squares if inside)
    return (inside / total if total else 0.0), inside, total


def dilate(mask, share):
    """Grow by all pixels of the next larger distance until the area is ``(1 + share)`` times."""
    inside = np.argwhere(mask)
    squared = np.array(
        [
            [min((i - a) ** 2 + (j - b) ** 2 for a, b in inside) for j in range(mask.shape[1])]
            for i in range(mask.shape[0])
        ]
    )
    for distance in sorted(set(squared.ravel().tolist())):
        grown = squared <= distance
        if grown.sum() * 10**6 >= round((1 + share) * 10**6) * mask.sum() or grown.all():
            return grown
    raise AssertionError("unreachable")


def resize_nearest(mask, height, width):
    result = np.zeros((height, width), bool)
    for i, j in np.ndindex(height, width):
        result[i, j] = mask[
            int((2 * i + 1) * mask.shape[0] / (2 * height)),
            int((2 * j + 1) * mask.shape[1] / (2 * width)),
        ]
    return result


METHODS = {
    "backprop": lambda net, c, size: net.backward("plain", c)[1],
    "deconvolution": lambda net, c, size: net.backward("deconvolution", c)[1],
    "guided_backprop": lambda net, c, size: net.backward("guided", c)[1],
    "cam": lambda net, c, size: cam(net.f, net.linear[c], size)[None],
    "grad_cam": lambda net, c, size: grad_cam(net.f, net.backward("plain", c)[0], size)[None],
    "guided_grad_cam": lambda net, c, size: (
        net.backward("guided", c)[1] * grad_cam(net.f, net.backward("plain", c)[0], size)
    ),
}
"""Method id to the function that gives its map, (C, H, W), after ``net.forward``."""

METRICS = {"concentration": concentration}
