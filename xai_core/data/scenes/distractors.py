"""Things that are none of the six classes, in the same colours and sizes as those that are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from xai_core.data.scenes.canvas import (
    Canvas,
    Float,
    Pose,
    Sprite,
    Vector,
    clip,
    gloss,
    lambert,
    smoothstep,
    tinted,
    value_noise,
    vary,
)
from xai_core.data.scenes.outlines import box, ellipse, regular, ribbon, rounded
from xai_core.data.scenes.street import blank_sign, pole

_COLOURS: Final = (
    (0.93, 0.50, 0.06),
    (0.96, 0.82, 0.15),
    (0.80, 0.10, 0.12),
    (0.15, 0.42, 0.75),
    (0.18, 0.55, 0.30),
    (0.90, 0.90, 0.87),
    (0.12, 0.13, 0.14),
    (0.55, 0.30, 0.60),
)


def _colour(rng: np.random.Generator) -> Float:
    return vary(rng, _COLOURS[int(rng.integers(len(_COLOURS)))], 0.06)


def ball(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A smooth ball, plain or with stripes: an orange's outline without its skin."""
    canvas = Canvas(Pose(radius, rng.uniform(-math.pi, math.pi), (1, 1), light), (1.05, 1.05))
    u, v = canvas.grid()
    depth = np.sqrt(clip(1 - u * u - v * v))
    colour = np.broadcast_to(_colour(rng), (*u.shape, 3))
    if rng.random() < 0.6:
        stripe = smoothstep(0.30, 0.34, np.abs(v + np.float32(rng.uniform(-0.3, 0.3)) * depth))
        colour = colour + stripe[..., None] * (_colour(rng) - colour)
    normal = (u, v, depth)
    lit = tinted(colour, np.float32(0.30) + np.float32(0.75) * lambert(normal, canvas.light))
    shine = np.float32(0.7) * gloss(normal, canvas.light)
    inside = np.float32(1) - np.sqrt(u * u + v * v)
    canvas.paint(canvas.edge(inside), clip(lit + shine[..., None]))
    return canvas.sprite()


def plate(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A plate seen from above: a clock's rim and face, with nothing on it."""
    pose = Pose(radius, rng.uniform(-math.pi, math.pi), (rng.uniform(0.7, 1.0), 1.0), light)
    canvas = Canvas(pose, (1.1, 1.1))
    base = _colour(rng)
    canvas.fill([ellipse(0.02, 0.04, 1.0, 1.0)], base * np.float32(0.45))
    canvas.fill([ellipse(0, 0, 1.0, 1.0)], base)
    canvas.fill([ellipse(0, 0, 0.93, 0.93)], vary(rng, base, 0.05))
    canvas.fill([ellipse(0.015, 0.02, 0.66, 0.66)], base * np.float32(0.72))
    canvas.fill([ellipse(0, 0, 0.63, 0.63)], vary(rng, base, 0.03))
    _sheen(rng, canvas)
    return canvas.sprite()


def carton(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A box with a lighter top side and a label."""
    canvas = Canvas(Pose(radius, rng.normal(0, 0.12), (1, 1), light), (1.2, 1.3))
    base, half = _colour(rng), rng.uniform(0.5, 1.0)
    lift = rng.uniform(0.15, 0.4)
    top = np.array(
        [[-half, -0.7], [half, -0.7], [half - 0.25, -0.7 - lift], [0.25 - half, -0.7 - lift]]
    )
    canvas.fill([box(-half, -0.7, half, 0.9)], base * np.float32(0.8))
    canvas.fill([top], clip(base * np.float32(1.15)))
    canvas.fill([box(-half * 0.7, -0.3, half * 0.7, 0.35, 0.05)], _colour(rng))
    for y in (-0.15, 0.0, 0.15):
        canvas.fill([box(-half * 0.5, y - 0.03, half * 0.4, y + 0.03)], (0.2, 0.2, 0.22), 0.7)
    _sheen(rng, canvas)
    return canvas.sprite()


def book(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A closed book with its pages at one side."""
    pose = Pose(radius, rng.uniform(-0.6, 0.6), (1, 1), light)
    canvas = Canvas(pose, (1.0, 1.15))
    base = _colour(rng)
    canvas.fill([box(-0.72, -0.98, 0.80, 1.04, 0.03)], base * np.float32(0.5))
    canvas.fill([box(-0.72, -0.96, 0.77, 1.00)], (0.90, 0.88, 0.80))
    canvas.fill([box(-0.78, -1.0, 0.70, 0.96, 0.03)], base)
    canvas.fill([box(-0.78, -1.0, -0.62, 0.96)], base * np.float32(0.75))
    canvas.fill([box(-0.42, -0.62, 0.5, -0.42)], _colour(rng))
    canvas.fill([box(-0.42, -0.30, 0.3, -0.22)], (0.92, 0.9, 0.85), 0.8)
    _sheen(rng, canvas)
    return canvas.sprite()


def leaf(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A big leaf, green to yellow: a banana's bow without its body."""
    canvas = Canvas(Pose(radius, rng.uniform(-math.pi, math.pi), (1, 1), light), (1.15, 0.75))
    t = np.linspace(0, math.pi, 24)
    wide = rng.uniform(0.3, 0.6)
    upper = np.stack([-np.cos(t), -wide * np.sin(t) ** 1.3], axis=1)
    lower = np.stack([np.cos(t), 0.8 * wide * np.sin(t) ** 1.3], axis=1)
    green = vary(rng, ((0.22, 0.46, 0.14), (0.72, 0.66, 0.14))[int(rng.integers(2))], 0.06)
    canvas.fill([np.concatenate([upper, lower])], green)
    vein = clip(green * np.float32(1.35))
    canvas.fill([ribbon([[-1.05, 0], [0.95, 0]], 0.035)], vein)
    for x in np.linspace(-0.7, 0.6, 7):
        for side in (-1, 1):
            line = rounded([[x, 0], [x + 0.14, side * wide * 0.3], [x + 0.25, side * wide * 0.55]])
            canvas.fill([ribbon(line, 0.02)], vein, 0.7)
    _sheen(rng, canvas)
    return canvas.sprite()


def cone(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A traffic cone: the colours of the street without its signs."""
    canvas = Canvas(Pose(radius, rng.normal(0, 0.08), (1, 1), light), (0.95, 1.15))
    base = vary(rng, _COLOURS[int(rng.integers(3))], 0.05)
    canvas.fill([box(-0.8, 0.84, 0.8, 1.05, 0.06)], base * np.float32(0.6))
    canvas.fill([_trapeze(0.10, 0.58, -1.0, 0.9)], base)
    for low in (-0.45, 0.15):
        w0, w1 = 0.10 + 0.2526 * (low + 1), 0.10 + 0.2526 * (low + 1.3)
        canvas.fill([_trapeze(w0, w1, low, low + 0.3)], (0.93, 0.93, 0.91))
    u, _ = canvas.grid()
    side = np.float32(0.75) + np.float32(0.45) * smoothstep(-0.6, 0.6, u * np.float32(light[0] * 4))
    canvas.rgb = clip(canvas.rgb * side[..., None])
    return canvas.sprite()


def post(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A post of a sign or lamp, three times as long as other things."""
    return pole(rng, radius * rng.uniform(0.12, 0.22), radius * 3, light)


def _trapeze(top: float, bottom: float, y0: float, y1: float) -> list[list[float]]:
    return [[-top, y0], [top, y0], [bottom, y1], [-bottom, y1]]


def _sheen(rng: np.random.Generator, canvas: Canvas) -> None:
    """Uneven light over a flat thing."""
    u, v = canvas.grid()
    slope = u * np.float32(canvas.light[0]) + v * np.float32(canvas.light[1])
    h, w = u.shape
    wear = value_noise(rng, h, w, canvas.unit * 0.5, 3) - np.float32(0.5)
    shade = np.float32(0.95) + np.float32(0.14) * slope + np.float32(0.22) * wear
    canvas.rgb = clip(canvas.rgb * shade[..., None])


def hexagon(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A flat tile with a border: a stop sign's shape without its word."""
    pose = Pose(radius, rng.uniform(-math.pi, math.pi), (rng.uniform(0.7, 1.0), 1.0), light)
    canvas = Canvas(pose, (1.1, 1.1))
    sides = int(rng.integers(5, 9))
    canvas.fill([regular(sides, 1.0) + np.array([0.03, 0.04])], (0.3, 0.3, 0.32))
    canvas.fill([regular(sides, 1.0)], _colour(rng))
    canvas.fill([regular(sides, 0.88)], _colour(rng))
    _sheen(rng, canvas)
    return canvas.sprite()


DISTRACTORS: Final[tuple[Callable[[np.random.Generator, float, Vector], Sprite], ...]] = (
    ball,
    plate,
    carton,
    book,
    leaf,
    cone,
    post,
    blank_sign,
    hexagon,
)
"""Each draws one thing of about ``radius`` pixels."""
