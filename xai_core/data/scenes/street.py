"""Stop signs and traffic lights."""

from __future__ import annotations

import math

import numpy as np

from xai_core.data.scenes.canvas import (
    Canvas,
    Float,
    Pose,
    Sprite,
    Vector,
    clip,
    smoothstep,
    tinted,
    value_noise,
    vary,
)
from xai_core.data.scenes.outlines import box, ellipse, regular, rotated, text

_LENSES = ((0.93, 0.10, 0.08), (1.0, 0.70, 0.08), (0.10, 0.82, 0.42))
_HOUSINGS = ((0.10, 0.11, 0.11), (0.10, 0.20, 0.15), (0.86, 0.62, 0.07), (0.20, 0.21, 0.23))


def stop_sign(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """The sign's plate: a red octagon with a white border and the word STOP."""
    pose = Pose(radius, rng.normal(0, 0.10), (rng.uniform(0.72, 1.0), 1.0), light)
    canvas = Canvas(pose, (1.1, 1.1))
    turn = math.pi / 8
    rim = (0.035 * light[0], 0.035)
    canvas.fill([regular(8, 1.0, turn) + np.array(rim)], (0.33, 0.33, 0.35))
    canvas.fill([regular(8, 1.0, turn)], vary(rng, (0.93, 0.93, 0.91), 0.03))
    canvas.fill([regular(8, 0.925, turn)], vary(rng, (0.76, 0.07, 0.10), 0.05))
    letters = text("STOP", rng.uniform(0.62, 0.72), rng.uniform(0.17, 0.21), 0.14)
    canvas.fill([points * np.array([0.78, 1.0]) for points in letters], (0.94, 0.94, 0.92))
    for y in (-0.72, 0.72):
        canvas.fill([ellipse(0.01, y + 0.015, 0.045, 0.045)], (0.25, 0.05, 0.06), 0.7)
        canvas.fill([ellipse(0, y, 0.038, 0.038)], (0.70, 0.70, 0.72))
    canvas.rgb = _weathered(rng, canvas, rng.uniform(0.02, 0.3))
    return canvas.sprite()


def _weathered(rng: np.random.Generator, canvas: Canvas, dirt: float) -> Float:
    """Uneven sheen, grime and a soft reflection over a flat plate."""
    u, v = canvas.grid()
    h, w = u.shape
    slope = np.float32(0.10) * (u * np.float32(canvas.light[0]) + v * np.float32(canvas.light[1]))
    grime = value_noise(rng, h, w, canvas.unit * 0.8, 4)
    shade = (0.78 + 0.3 * canvas.light[2]) + slope - np.float32(dirt) * smoothstep(0.45, 0.8, grime)
    where, tilt = rng.uniform(-0.8, 0.8), rng.uniform(-0.7, 0.7)
    band = 1 - smoothstep(0.05, 0.75, np.abs(u + np.float32(tilt) * v - np.float32(where)))
    return clip(tinted(canvas.rgb, shade) + (band * np.float32(rng.uniform(0.02, 0.14)))[..., None])


def traffic_light(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A housing with three hooded lamps, one lit; now and then with two, or lying on its side."""
    lamps = 3 if rng.random() < 0.88 else 2
    lying = rng.random() < 0.12
    angle = rng.normal(0, 0.06) + (math.pi / 2 if lying else 0.0)
    squash = (rng.uniform(0.82, 1.0), 1.0)
    canvas = Canvas(Pose(radius, angle, squash, light), (0.75, 1.25))
    base = vary(rng, _HOUSINGS[int(rng.choice(4, p=[0.45, 0.15, 0.3, 0.1]))], 0.03)
    half = 0.32 * lamps
    if rng.random() < 0.3:
        _backplate(rng, canvas, half, base)
    _housing(rng, canvas, half, base)
    lit = int(rng.integers(lamps))
    order = (0, 1, 2) if lamps == 3 else (0, 2)
    for k in range(lamps):
        y = (k - (lamps - 1) / 2) * 0.62
        _lamp(rng, canvas, y, np.array(_LENSES[order[k]], np.float32), k == lit)
        _hood(canvas, y, base)
    return canvas.sprite()


def _backplate(rng: np.random.Generator, canvas: Canvas, half: float, base: Float) -> None:
    edge = (0.92, 0.92, 0.90) if rng.random() < 0.5 else (0.90, 0.75, 0.12)
    canvas.fill([box(-0.62, -half - 0.24, 0.62, half + 0.24, 0.12)], edge)
    canvas.fill([box(-0.57, -half - 0.19, 0.57, half + 0.19, 0.09)], base * np.float32(0.6))


def _housing(rng: np.random.Generator, canvas: Canvas, half: float, base: Float) -> None:
    """The box: its side in shadow, then a front whose brightness runs across with a bevel."""
    side = -0.09 if canvas.light[0] > 0 else 0.09
    for step in (1.0, 0.66, 0.33):
        body = box(-0.36, -half, 0.36, half, 0.08) + np.array([side * step, 0.02 * step])
        canvas.fill([body], base * np.float32(0.55))
    u, v = canvas.grid()
    h, w = u.shape
    wear = value_noise(rng, h, w, canvas.unit * 0.3, 3) - np.float32(0.5)
    shade = 0.95 + 0.35 * (u * np.float32(canvas.light[0]) + v * np.float32(canvas.light[1] * 0.3))
    front = clip(tinted(base, shade + 0.25 * wear) + np.float32(0.02))
    canvas.fill([box(-0.36, -half, 0.36, half, 0.08)], clip(front + np.float32(0.10)))
    canvas.fill([box(-0.335, -half + 0.025, 0.335, half - 0.025, 0.06)], front)
    for k in range(1, round(half / 0.32)):
        y = -half + k * 0.64
        canvas.fill([box(-0.36, y - 0.012, 0.36, y + 0.012)], base * np.float32(0.5))


def _lamp(rng: np.random.Generator, canvas: Canvas, y: float, tint: Float, lit: bool) -> None:
    u, v = canvas.grid()
    far = np.sqrt(u * u + (v - np.float32(y)) ** 2) / np.float32(0.26)
    canvas.fill([ellipse(0, y, 0.295, 0.295)], (0.05, 0.05, 0.05))
    pitch = np.float32(1 / 0.055)
    cells = np.abs(u * pitch - np.rint(u * pitch)) + np.abs(v * pitch - np.rint(v * pitch))
    if lit:
        core = 1 - smoothstep(0.0, 1.0, far)
        glow = tint + (1 - tint) * (core * np.float32(0.75))[..., None]
        glow = glow * (0.86 + 0.20 * cells[..., None]) * (1.08 - 0.25 * clip(far))[..., None]
    else:
        sheen = 1 - smoothstep(
            0.0, 0.7, np.sqrt((u + 0.07) ** 2 + (v - np.float32(y) + 0.10) ** 2) / 0.26
        )
        glow = tint * np.float32(rng.uniform(0.22, 0.34)) * (0.8 + 0.3 * cells[..., None])
        glow = glow + (sheen * np.float32(0.16))[..., None]
    cover = canvas.edge((1 - far) * np.float32(0.26))
    canvas.paint(cover * (canvas.alpha > 0), clip(glow))


def _hood(canvas: Canvas, y: float, base: Float) -> None:
    """A half-round visor above the lamp and the shadow below its brim."""
    turn = np.linspace(math.pi * 1.02, math.pi * 1.98, 24)
    outer = np.stack([0.325 * np.cos(turn), y + 0.05 + 0.36 * np.sin(turn)], 1)
    inner = np.stack([0.275 * np.cos(turn), y + 0.02 + 0.20 * np.sin(turn)], 1)
    shadow = inner + np.array([0.0, 0.05])
    canvas.fill([np.concatenate([outer, shadow[::-1]])], (0.0, 0.0, 0.0), 0.5)
    canvas.fill([np.concatenate([outer, inner[::-1]])], base * np.float32(0.72))
    rim = outer * np.array([0.97, 1.0]) + np.array([0.0, 0.025])
    bright = clip(base * np.float32(1.25) + np.float32(0.09))
    canvas.fill([np.concatenate([outer, rim[::-1]])], bright)


def pole(rng: np.random.Generator, width: float, length: float, light: Vector) -> Sprite:
    """An upright metal or wooden post, lit like a cylinder."""
    canvas = Canvas(
        Pose(length / 2, rng.normal(0, 0.01), (1, 1), light), (width / length * 1.3, 1.02)
    )
    u, _ = canvas.grid()
    half = np.float32(width / length)
    across = np.clip(u / half, np.float32(-1), np.float32(1))
    round_shade = across * np.float32(light[0]) + np.sqrt(1 - across * across) * np.float32(
        light[2]
    )
    colours = ((0.55, 0.56, 0.58), (0.36, 0.38, 0.40), (0.22, 0.30, 0.25), (0.45, 0.33, 0.22))
    base = vary(rng, colours[int(rng.integers(4))], 0.04)
    h, w = u.shape
    wear = value_noise(rng, h, w, 6, 2, stretch=6) - np.float32(0.5)
    colour = clip(tinted(base, 0.42 + 0.85 * clip(round_shade) + 0.2 * wear))
    canvas.paint(canvas.cover([box(-width / length, -1, width / length, 1)]), colour)
    return canvas.sprite()


def blank_sign(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """Another sign: round, triangular, square or diamond, with an arrow or a bar."""
    pose = Pose(radius, rng.normal(0, 0.10), (rng.uniform(0.72, 1.0), 1.0), light)
    canvas = Canvas(pose, (1.15, 1.15))
    shapes = (regular(40, 0.95), regular(3, 1.1, -math.pi / 2), box(-0.8, -0.8, 0.8, 0.8, 0.1),
              regular(4, 1.08), box(-0.7, -0.95, 0.7, 0.95, 0.1))  # fmt: skip
    paints = ((0.10, 0.28, 0.62), (0.80, 0.10, 0.12), (0.95, 0.76, 0.10), (0.12, 0.45, 0.28),
              (0.92, 0.92, 0.90), (0.92, 0.46, 0.08))  # fmt: skip
    shape = shapes[int(rng.integers(len(shapes)))]
    face, border = (paints[i] for i in rng.choice(len(paints), 2, replace=False))
    canvas.fill([shape + np.array([0.035 * light[0], 0.035])], (0.33, 0.33, 0.35))
    canvas.fill([shape], border)
    canvas.fill([shape * rng.uniform(0.80, 0.93)], vary(rng, face, 0.04))
    mark = (0.93, 0.93, 0.92) if sum(face) < 1.7 else (0.08, 0.08, 0.09)
    if rng.random() < 0.5:
        canvas.fill([rotated(box(-0.45, -0.11, 0.45, 0.11), rng.choice([0.0, 0.78, 1.57]))], mark)
    else:
        arrow = np.array([[-0.1, 0.5], [-0.1, -0.05], [-0.32, -0.05], [0, -0.5], [0.32, -0.05],
                          [0.1, -0.05], [0.1, 0.5]])  # fmt: skip
        canvas.fill([rotated(arrow * 0.9, rng.choice([0.0, 1.57, -1.57, 0.78]))], mark)
    canvas.rgb = _weathered(rng, canvas, rng.uniform(0.02, 0.3))
    return canvas.sprite()
