"""The methods written out in float64 for one small net: no autograd, no xai_core.

    conv 3x3 -> relu -> max-pool 2x2 -> conv 3x3 -> relu -> global average -> linear

The target layer is the second ReLU. Images are (3, H, W) with H and W even.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray


@dataclass(frozen=True)
class Parameters:
    conv1: Array  # (K1, 3, 3, 3)
    bias1: Array
    conv2: Array  # (K2, K1, 3, 3)
    bias2: Array
    linear: Array  # (classes, K2)
    bias3: Array


def random_parameters(seed: int, k1: int = 4, k2: int = 5, classes: int = 3) -> Parameters:
    normal = np.random.default_rng(seed).normal
    return Parameters(
        normal(size=(k1, 3, 3, 3)),
        normal(size=k1),
        normal(size=(k2, k1, 3, 3)),
        normal(size=k2),
        normal(size=(classes, k2)),
        normal(size=classes),
    )


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """3x3, padding 1: out[o, u, v] = b[o] + sum_i,dy,dx w[o, i, dy, dx] x[i, u+dy-1, v+dx-1]."""
    _, height, width = x.shape
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for u in range(height):
        for v in range(width):
            for dy in range(3):
                for dx in range(3):
                    y, z = u + dy - 1, v + dx - 1
                    if 0 <= y < height and 0 <= z < width:
                        out[:, u, v] += weight[:, :, dy, dx] @ x[:, y, z]
    return out


def convolve_back(g: Array, weight: Array) -> Array:
    """Each output position gives its signal back to the nine inputs that it read."""
    _, height, width = g.shape
    back = np.zeros((weight.shape[1], height, width))
    for u in range(height):
        for v in range(width):
            for dy in range(3):
                for dx in range(3):
                    y, z = u + dy - 1, v + dx - 1
                    if 0 <= y < height and 0 <= z < width:
                        back[:, y, z] += weight[:, :, dy, dx].T @ g[:, u, v]
    return back


def max_pool(x: Array) -> tuple[Array, Array]:
    """2x2, stride 2: the maxima, and where in its window each was (the switches)."""
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2))
    switches = np.zeros((*out.shape, 2), dtype=int)
    for k, u, v in np.ndindex(out.shape):
        window = x[k, 2 * u : 2 * u + 2, 2 * v : 2 * v + 2]
        dy, dx = divmod(int(window.argmax()), 2)  # the first of equals
        out[k, u, v], switches[k, u, v] = window[dy, dx], (2 * u + dy, 2 * v + dx)
    return out, switches


def max_pool_back(g: Array, switches: Array) -> Array:
    channels, height, width = g.shape
    back = np.zeros((channels, 2 * height, 2 * width))
    for k, u, v in np.ndindex(g.shape):
        back[(k, *switches[k, u, v])] += g[k, u, v]
    return back


def relu_back(rule: str, g: Array, z: Array) -> Array:
    if rule == "plain":
        return np.where(z > 0, g, 0.0)
    if rule == "deconvolution":
        return np.where(g > 0, g, 0.0)
    return np.where((g > 0) & (z > 0), g, 0.0)


@dataclass(frozen=True)
class Forward:
    z1: Array
    switches: Array
    z2: Array
    f: Array
    logits: Array


def forward(p: Parameters, image: Array) -> Forward:
    z1 = convolve(image, p.conv1, p.bias1)
    pooled, switches = max_pool(np.maximum(z1, 0))
    z2 = convolve(pooled, p.conv2, p.bias2)
    f = np.maximum(z2, 0)
    return Forward(z1, switches, z2, f, p.linear @ f.mean(axis=(1, 2)) + p.bias3)


def gradient_at_target(p: Parameters, seen: Forward, c: int) -> Array:
    """dy_c / df_k(u, v) = w_k^c / Z: the mean hands an equal share to each position."""
    positions = seen.f[0].size
    return np.broadcast_to(p.linear[c][:, None, None] / positions, seen.f.shape)


def signal_at_image(p: Parameters, image: Array, c: int, rule: str) -> Array:
    seen = forward(p, image)
    g = relu_back(rule, gradient_at_target(p, seen, c), seen.z2)
    g = max_pool_back(convolve_back(g, p.conv2), seen.switches)
    return convolve_back(relu_back(rule, g, seen.z1), p.conv1)


def backprop(p: Parameters, image: Array, c: int) -> Array:
    return signal_at_image(p, image, c, "plain")


def deconvolution(p: Parameters, image: Array, c: int) -> Array:
    return signal_at_image(p, image, c, "deconvolution")


def guided_backprop(p: Parameters, image: Array, c: int) -> Array:
    return signal_at_image(p, image, c, "guided")


def weighted_sum(weights: Array, f: Array) -> Array:
    total = np.zeros(f.shape[1:])
    for k, u, v in np.ndindex(f.shape):
        total[u, v] += weights[k] * f[k, u, v]
    return np.maximum(total, 0)


def coarse_cam(p: Parameters, image: Array, c: int) -> Array:
    return weighted_sum(p.linear[c], forward(p, image).f)


def coarse_grad_cam(p: Parameters, image: Array, c: int) -> Array:
    seen = forward(p, image)
    gradient = gradient_at_target(p, seen, c)
    alpha = [sum(channel.flat) / channel.size for channel in gradient]
    return weighted_sum(np.array(alpha), seen.f)


def upsample(coarse: Array, height: int, width: int) -> Array:
    """Bilinear between the centres of the cells; beyond the outermost centres, their value."""
    rows, columns = coarse.shape
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            dy, dx = v - top, u - left
            out[y, x] = (1 - dy) * ((1 - dx) * coarse[top, left] + dx * coarse[top, right]) + dy * (
                (1 - dx) * coarse[bottom, left] + dx * coarse[bottom, right]
            )
    return out


def min_max(values: Array) -> Array:
    low, high = values.min(), values.max()
    return np.zeros_like(values) if low == high else (values - low) / (high - low)


def cam(p: Parameters, image: Array, c: int) -> Array:
    return min_max(upsample(coarse_cam(p, image, c), *image.shape[1:]))[None]


def grad_cam(p: Parameters, image: Array, c: int) -> Array:
    return min_max(upsample(coarse_grad_cam(p, image, c), *image.shape[1:]))[None]


def guided_grad_cam(p: Parameters, image: Array, c: int) -> Array:
    return guided_backprop(p, image, c) * grad_cam(p, image, c)


def uniform(p: Parameters, image: Array, c: int) -> Array:
    return np.ones((1, *image.shape[1:]))


def centre(p: Parameters, image: Array, c: int) -> Array:
    """An eighth of the image's side is one standard deviation."""
    _, height, width = image.shape
    values = np.empty((1, height, width))
    for y, x in np.ndindex(height, width):
        u, v = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5
        values[0, y, x] = math.exp(-(u * u + v * v) / (2 * 0.125**2))
    return values


def edges(p: Parameters, image: Array, c: int) -> Array:
    """Sobel's two slopes, by hand; beyond the border the image continues as it ends."""
    grey = image.mean(axis=0)
    height, width = grey.shape

    def at(y: int, x: int) -> float:
        return float(grey[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])

    values = np.empty((1, height, width))
    for y, x in np.ndindex(height, width):
        across = down = 0.0
        for offset, weight in ((-1, 1), (0, 2), (1, 1)):
            across += weight * (at(y + offset, x + 1) - at(y + offset, x - 1))
            down += weight * (at(y + 1, x + offset) - at(y - 1, x + offset))
        values[0, y, x] = math.hypot(across, down)
    return values


def noise(p: Parameters, image: Array, c: int) -> Array:
    """The seed's values are torch's to give."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(image.shape, generator=generator, dtype=torch.float64).numpy()


def noise_grad_cam(p: Parameters, image: Array, c: int) -> Array:
    return noise(p, image, c) * grad_cam(p, image, c)


def edges_grad_cam(p: Parameters, image: Array, c: int) -> Array:
    return edges(p, image, c) * grad_cam(p, image, c)


TWINS: dict[str, Callable[[Parameters, Array, int], Array]] = {
    "backprop": backprop,
    "cam": cam,
    "centre": centre,
    "deconvolution": deconvolution,
    "edges": edges,
    "edges_grad_cam": edges_grad_cam,
    "grad_cam": grad_cam,
    "guided_backprop": guided_backprop,
    "guided_grad_cam": guided_grad_cam,
    "noise": noise,
    "noise_grad_cam": noise_grad_cam,
    "uniform": uniform,
}
"""One for each built-in method: (parameters, image, class) to (channels, H, W)."""
