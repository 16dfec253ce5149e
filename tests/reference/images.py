"""Resizing and normalising of images, written out."""

from __future__ import annotations

import numpy as np


def triangle(size: int, target: int) -> np.ndarray:
    """Bilinear weights, (target, size); shrinking widens their support, which is antialiasing."""
    scale = size / target
    support = max(scale, 1.0)
    weights = np.zeros((target, size))
    for i in range(target):
        for j in range(size):
            weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / support)
    return weights / weights.sum(axis=1, keepdims=True)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) in [0, 255] to (height, width, 3) in [0, 1]."""
    rows, columns = triangle(image.shape[0], height), triangle(image.shape[1], width)
    return np.stack([rows @ channel @ columns.T for channel in image.transpose(2, 0, 1) / 255], -1)
