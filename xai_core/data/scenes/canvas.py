"""A supersampled canvas on which one thing is drawn, and the shading that all things share.

Every step is either integer arithmetic, or float32 ``+ - * / sqrt`` (exact by IEEE 754), or
float64 rounded to float32, and OpenCV only ever touches integers. That keeps the shipped files
byte-identical on processors with other vector units, which plain float32 transcendentals and
float filters do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating[Any]]
Points = NDArray[np.float64]
Vector = tuple[float, float, float]

SUPERSAMPLE: Final = 2
_SHIFT: Final = 4


@dataclass(frozen=True)
class Sprite:
    """One drawn thing: ``rgb`` (h, w, 3) and ``alpha`` (h, w), both in [0, 1]."""

    rgb: Float
    alpha: Float


@dataclass(frozen=True)
class Pose:
    """How a thing is seen: pixels per local unit, rotation, foreshortening, light's direction."""

    radius: float
    angle: float = 0.0
    squash: tuple[float, float] = (1.0, 1.0)
    light: Vector = (-0.45, -0.6, 0.66)


class Canvas:
    """Local coordinates (x right, y down, origin in the middle) on a grid twice as fine."""

    def __init__(self, pose: Pose, reach: tuple[float, float]) -> None:
        """Makes an empty canvas that holds the local box ``[-reach, reach]`` under ``pose``."""
        cos, sin = math.cos(pose.angle), math.sin(pose.angle)
        self.unit = pose.radius * SUPERSAMPLE
        self.matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(pose.squash) * self.unit
        half_w, half_h = np.abs(self.matrix) @ np.array(reach)
        self.width, self.height = 2 * int(half_w + 3), 2 * int(half_h + 3)
        self.centre = np.array([self.width, self.height]) / 2.0
        lx, ly, lz = pose.light
        self.light: Vector = (cos * lx + sin * ly, cos * ly - sin * lx, lz)
        self.rgb: Float = np.zeros((self.height, self.width, 3), np.float32)
        self.alpha: Float = np.zeros((self.height, self.width), np.float32)

    def grid(self) -> tuple[Float, Float]:
        """Local x and y of every pixel, each (h, w)."""
        inverse = np.linalg.inv(self.matrix)
        x = np.arange(self.width)[None, :] - self.centre[0]
        y = np.arange(self.height)[:, None] - self.centre[1]
        u = inverse[0, 0] * x + inverse[0, 1] * y
        v = inverse[1, 0] * x + inverse[1, 1] * y
        return u.astype(np.float32), v.astype(np.float32)

    def edge(self, inside: Float) -> Float:
        """Antialiased coverage of where ``inside`` (local distance to the edge) is positive."""
        return clip(inside * np.float32(self.unit) + np.float32(0.5))

    def pixels(self, points: ArrayLike) -> NDArray[np.int32]:
        """Local points (n, 2) as OpenCV's fixed-point pixel coordinates."""
        moved = np.asarray(points, np.float64) @ self.matrix.T + self.centre
        return np.asarray(np.rint(moved * (1 << _SHIFT)), np.int32)

    def cover(self, polygons: Sequence[ArrayLike]) -> Float:
        """Coverage (h, w) of the union of polygons."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(mask, [self.pixels(polygon)], [255], cv2.LINE_AA, _SHIFT)
        return mask.astype(np.float32) / np.float32(255)

    def paint(self, cover: Float, colour: ArrayLike) -> None:
        """Lays ``colour``, (3,) or (h, w, 3), over the canvas where ``cover`` says."""
        tint = np.asarray(colour, np.float32)
        self.rgb += cover[..., None] * (tint - self.rgb)
        self.alpha += cover * (1 - self.alpha)

    def fill(self, polygons: Sequence[ArrayLike], colour: ArrayLike, opacity: float = 1.0) -> None:
        """Paints the union of polygons; touches only their bounding box."""
        outlines = [self.pixels(polygon) for polygon in polygons]
        stacked = np.concatenate(outlines) >> _SHIFT
        x0, y0 = np.maximum(stacked.min(0) - 2, 0)
        x1, y1 = np.minimum(stacked.max(0) + 3, (self.width, self.height))
        if x0 >= x1 or y0 >= y1:
            return
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        for outline in outlines:
            local = outline - np.array([x0, y0], np.int32) * (1 << _SHIFT)
            cv2.fillPoly(mask, [local.astype(np.int32)], [255], cv2.LINE_AA, _SHIFT)
        cover = mask.astype(np.float32) * np.float32(opacity / 255)
        tint = np.asarray(colour, np.float32)
        box = (slice(y0, y1), slice(x0, x1))
        target = self.rgb[box]
        target += cover[..., None] * ((tint[box] if tint.ndim == 3 else tint) - target)
        self.alpha[box] += cover * (1 - self.alpha[box])

    def darken(
        self, cover: Float, sigma: float, shift: tuple[float, float], strength: float
    ) -> None:
        """Casts the soft shadow of ``cover`` on what is painted so far; lengths in local units."""
        soft = blur(cover, sigma * self.unit)
        dx, dy = (round(step * self.unit) for step in shift)
        moved = np.roll(soft, (dy, dx), (0, 1))
        self.rgb *= (1 - np.float32(strength) * moved)[..., None]

    def sprite(self) -> Sprite:
        """Averages the canvas down to final resolution, cut to what is drawn."""
        rows, columns = np.flatnonzero(self.alpha.any(1)), np.flatnonzero(self.alpha.any(0))
        y0, y1 = rows[0] // 2 * 2, rows[-1] // 2 * 2 + 2
        x0, x1 = columns[0] // 2 * 2, columns[-1] // 2 * 2 + 2
        alpha = self.alpha[y0:y1, x0:x1]
        small = _halve(alpha)
        rgb = _halve(self.rgb[y0:y1, x0:x1] * alpha[..., None])
        return Sprite(clip(rgb / np.maximum(small, np.float32(1e-6))[..., None]), small)


def _halve(image: Float) -> Float:
    rows = image[0::2] + image[1::2]
    return np.asarray((rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25))


def clip(values: Float) -> Float:
    """Values held to [0, 1]."""
    return np.clip(values, np.float32(0), np.float32(1))


def smoothstep(low: float, high: float, values: Float) -> Float:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = clip((values - np.float32(low)) / np.float32(high - low))
    return t * t * (3 - 2 * t)


def blur(cover: Float, sigma: float) -> Float:
    """Gaussian blur of values in [0, 1], done on 8-bit integers (bit-exact in OpenCV)."""
    levels = np.rint(cover * np.float32(255)).astype(np.uint8)
    soft = cv2.GaussianBlur(levels, (0, 0), max(sigma, 0.3))
    return np.asarray(soft).astype(np.float32) / np.float32(255)


def angle_of(y: Float, x: Float) -> Float:
    """``arctan2`` in double precision."""
    return np.arctan2(y.astype(np.float64), x.astype(np.float64)).astype(np.float32)


def lambert(normal: tuple[Float, Float, Float], light: Vector) -> Float:
    """Diffuse light on a surface with unit ``normal``, in [0, 1]."""
    nx, ny, nz = normal
    return clip(nx * np.float32(light[0]) + ny * np.float32(light[1]) + nz * np.float32(light[2]))


def gloss(normal: tuple[Float, Float, Float], light: Vector, doublings: int = 5) -> Float:
    """Blinn highlight with exponent ``2 ** doublings`` for a viewer straight above."""
    length = math.sqrt(light[0] ** 2 + light[1] ** 2 + (light[2] + 1) ** 2)
    shine = lambert(normal, (light[0] / length, light[1] / length, (light[2] + 1) / length))
    for _ in range(doublings):
        shine = shine * shine
    return shine


def value_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    cell: float,
    octaves: int = 1,
    stretch: float = 1.0,
) -> Float:
    """Smooth noise (height, width) in [0, 1], mean 0.5.

    Its knots are ``cell`` pixels apart, ``stretch`` times that vertically.
    """
    total = np.zeros((height, width), np.float32)
    weight, norm = 1.0, 0.0
    for _ in range(octaves):
        total += np.float32(weight) * _octave(rng, height, width, max(cell, 1.0), stretch)
        norm += weight
        weight, cell = weight * 0.55, cell / 2
    return total / np.float32(norm)


def _octave(
    rng: np.random.Generator, height: int, width: int, cell: float, stretch: float
) -> Float:
    y0, ty = _knots(rng, height, max(cell * stretch, 1.0))
    x0, tx = _knots(rng, width, cell)
    grid = rng.random((int(y0[-1]) + 2, int(x0[-1]) + 2), np.float32)
    rows = grid[:, x0] + (grid[:, x0 + 1] - grid[:, x0]) * tx
    return np.asarray(rows[y0] + (rows[y0 + 1] - rows[y0]) * ty[:, None])


def _knots(rng: np.random.Generator, length: int, cell: float) -> tuple[NDArray[np.intp], Float]:
    position = np.arange(length) / cell + rng.random()
    knot = position.astype(np.intp)
    t = (position - knot).astype(np.float32)
    return knot, t * t * (3 - 2 * t)


def vary(rng: np.random.Generator, colour: ArrayLike, amount: float = 0.06) -> Float:
    """A colour moved a little in every channel."""
    moved = np.asarray(colour, np.float64) + rng.uniform(-amount, amount, 3)
    return np.clip(moved, 0.02, 0.98).astype(np.float32)


def tinted(colour: ArrayLike, shade: Float) -> Float:
    """``colour`` (3,) or (h, w, 3) times a grey ``shade`` (h, w)."""
    return np.asarray(np.asarray(colour, np.float32) * shade[..., None])
