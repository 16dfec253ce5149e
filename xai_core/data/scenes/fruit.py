"""Oranges and bananas."""

from __future__ import annotations

import math

import numpy as np

from xai_core.data.scenes.canvas import (
    Canvas,
    Float,
    Points,
    Pose,
    Sprite,
    Vector,
    angle_of,
    clip,
    gloss,
    lambert,
    smoothstep,
    tinted,
    value_noise,
    vary,
)
from xai_core.data.scenes.outlines import ellipse, ribbon, rotated

_PEEL = (0.97, 0.52, 0.07)
_STEM_GREEN = (0.34, 0.40, 0.14)
_PROFILE_T = (-1.34, -1.30, -1.12, -1.0, -0.9, -0.7, -0.4, 0.0, 0.4, 0.7, 0.87, 0.96, 1.01, 1.05)
_PROFILE_W = (0.25, 0.25, 0.21, 0.30, 0.52, 0.84, 0.97, 1.0, 0.96, 0.80, 0.55, 0.33, 0.20, 0.0)


def orange(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A whole orange, sometimes with a leaf, or one cut in half."""
    if rng.random() < 0.25:
        return _half_orange(rng, radius, light)
    angle = rng.uniform(-math.pi, math.pi)
    squash = (1.0, rng.uniform(0.92, 1.0))
    canvas = Canvas(Pose(radius, angle, squash, light), (1.5, 1.5))
    u, v = canvas.grid()
    inside = 1 - np.sqrt(u * u + v * v)
    canvas.paint(canvas.edge(inside), _peel(rng, canvas, u, v, vary(rng, _PEEL, 0.03)))
    distance, turn = rng.uniform(0.25, 0.75), rng.uniform(0, 2 * math.pi)
    at = (distance * math.cos(turn), distance * math.sin(turn))
    if rng.random() < 0.8:
        _navel(rng, canvas, at, turn, math.sqrt(1 - distance**2))
    if rng.random() < 0.4:
        for side in rng.choice([-1.0, 1.0], rng.integers(1, 3), replace=False):
            _leaf(rng, canvas, at, turn + side * rng.uniform(0.2, 0.8), rng.uniform(0.7, 1.0))
    return canvas.sprite()


def _peel(rng: np.random.Generator, canvas: Canvas, u: Float, v: Float, base: Float) -> Float:
    """Colour of a dimpled sphere: bumps tilt the normal, which breaks the highlight up."""
    h, w = u.shape
    bump = value_noise(rng, h, w, canvas.unit * 0.07, 2) - np.float32(0.5)
    tilt = np.float32(0.9)
    nz = np.sqrt(np.maximum(1 - u * u - v * v, np.float32(0)))
    nx = u + tilt * (bump - np.roll(bump, 1, 1)) * nz
    ny = v + tilt * (bump - np.roll(bump, 1, 0)) * nz
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-6)
    normal = (nx / length, ny / length, nz / length)
    patches = value_noise(rng, h, w, canvas.unit * 0.6, 2)
    diffuse = lambert(normal, canvas.light)
    shade = 0.30 + 0.80 * diffuse + 0.10 * (1 - nz) * (1 - diffuse)
    albedo = base * (0.92 + 0.16 * patches[..., None])
    albedo[..., 1] *= 0.82 + 0.18 * nz + 0.06 * diffuse
    shine = gloss(normal, canvas.light, 5) * (0.30 + 0.5 * (bump + np.float32(0.5)))
    return clip(tinted(albedo, shade) + shine[..., None] * np.float32(0.75))


def _navel(
    rng: np.random.Generator, canvas: Canvas, at: tuple[float, float], turn: float, depth: float
) -> None:
    size = rng.uniform(0.07, 0.11)

    def flat(points: Points) -> Points:
        return rotated(points * np.array([depth, 1.0]), turn, at)

    u, v = canvas.grid()
    far = np.sqrt((u - np.float32(at[0])) ** 2 + (v - np.float32(at[1])) ** 2)
    canvas.rgb *= (1 - 0.28 * (1 - smoothstep(0.02, 0.30, far)))[..., None]
    canvas.fill([flat(ellipse(0, 0, size * 1.3, size * 1.3))], vary(rng, (0.80, 0.62, 0.2)), 0.45)
    star = []
    for k in range(7):
        reach = size * rng.uniform(0.9, 1.5)
        spike = np.array([[0.0, -0.25 * size], [reach, 0.0], [0.0, 0.25 * size]])
        star.append(flat(rotated(spike, k * 2 * math.pi / 7)))
    canvas.fill(star, vary(rng, _STEM_GREEN), 0.9)
    canvas.fill([flat(ellipse(0, 0, size * 0.42, size * 0.42))], (0.30, 0.24, 0.12))


def _leaf(
    rng: np.random.Generator, canvas: Canvas, at: tuple[float, float], turn: float, length: float
) -> None:
    green = vary(rng, (0.22, 0.42, 0.13))
    bend = rng.uniform(-0.15, 0.15)
    t = np.linspace(0, 1, 15)
    spine = np.stack([t * length, bend * np.sin(t * math.pi)], 1)
    width = 0.44 * length * np.sin(t * math.pi) ** 0.8 * (1 - 0.3 * t)
    outline = rotated(ribbon(spine, width), turn, at)
    canvas.darken(canvas.cover([outline]), 0.05, (-0.05 * canvas.light[0], 0.06), 0.4)
    canvas.fill([outline], green)
    lower = rotated(np.concatenate([spine, ribbon(spine, width)[15:]]), turn, at)
    canvas.fill([lower], green * np.float32(0.74))
    veins = [rotated(ribbon(spine, 0.025), turn, at)]
    for i in range(3, 13, 2):
        for side in (-1, 1):
            tip = spine[i] + np.array([0.16 * length, side * width[i] * 0.4])
            veins.append(rotated(ribbon(np.stack([spine[i], tip]), 0.012), turn, at))
    canvas.fill(veins, clip(green * np.float32(1.5)), 0.7)


def _half_orange(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    tilt = rng.uniform(0.5, 0.97)
    angle = rng.uniform(-0.6, 0.6)
    canvas = Canvas(Pose(radius, angle, (1.0, 1.0), light), (1.05, 1.05))
    u, v = canvas.grid()
    base = vary(rng, _PEEL, 0.03)
    face_v = v / np.float32(tilt)
    face = 1 - np.sqrt(u * u + face_v * face_v)
    body = np.where(v > 0, 1 - np.sqrt(u * u + v * v), face)
    canvas.paint(canvas.edge(body), _peel(rng, canvas, u, v, base))
    canvas.paint(canvas.edge(face), _flesh(rng, canvas, u, face_v, base))
    return canvas.sprite()


def _flesh(rng: np.random.Generator, canvas: Canvas, u: Float, v: Float, base: Float) -> Float:
    """Cut face: rind, pith, wedges with radial fibres, core."""
    count = int(rng.integers(9, 12))
    rho, phi = np.sqrt(u * u + v * v), angle_of(v, u)
    turns = phi * np.float32(count / (2 * math.pi)) + np.float32(100 + rng.random())
    offset = turns - np.floor(turns) - np.float32(0.5)
    to_wall = (0.5 - np.abs(offset)) * rho * np.float32(2 * math.pi / count)
    fibres = value_noise(rng, 64, 512, 3, 2, stretch=4)
    row = (clip(rho) * 63).astype(np.intp)
    column = ((phi + np.float32(math.pi)) * np.float32(511 / (2 * math.pi))).astype(np.intp)
    grain = fibres[row, np.clip(column, 0, 511)]
    pulp = clip(base * np.array([1.0, 1.02, 1.0], np.float32) * (0.72 + 0.5 * grain[..., None]))
    pith = np.array([0.98, 0.90, 0.70], np.float32)
    rounding = smoothstep(0.0, 0.05, 0.84 - rho)
    wedge = smoothstep(0.008, 0.035, to_wall) * rounding * smoothstep(0.06, 0.12, rho)
    colour = pith + wedge[..., None] * (pulp - pith)
    rind = smoothstep(0.91, 0.95, rho)
    colour = colour + rind[..., None] * (base - colour)
    wet = smoothstep(0.72, 0.86, grain) * wedge * np.float32(0.3)
    light = 0.72 + 0.35 * canvas.light[2] - 0.12 * v
    return clip(tinted(colour, light) + wet[..., None])


def banana(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """One banana or a bunch of up to five."""
    ripe = rng.random()
    base = np.float32(1 - ripe) * np.array([0.86, 0.80, 0.22]) + np.float32(ripe) * np.array(
        [0.98, 0.80, 0.14]
    )
    bend = rng.uniform(0.8, 1.3)
    if rng.random() < 0.45:
        canvas = Canvas(Pose(radius, rng.uniform(-math.pi, math.pi), (1, 1), light), (1.5, 0.85))
        _banana(rng, canvas, (0.0, 0.3), 0.0, vary(rng, base, 0.03), bend, 1.0)
        return canvas.sprite()
    count = int(rng.integers(2, 6))
    spread = rng.uniform(0.20, 0.30)
    canvas = Canvas(Pose(radius, rng.uniform(-math.pi, math.pi), (1, 1), light), (2.6, 2.6))
    for k in range(count):
        fan = (k - (count - 1) / 2) * spread
        scale = rng.uniform(0.92, 1.05)
        stem = rotated([[-1.24, -0.46]], 0)[0] * scale
        shift = -rotated([stem], fan)[0] + np.array([-1.1, -0.5])
        _banana(rng, canvas, (shift[0], shift[1]), fan, vary(rng, base, 0.03), bend, scale)
    return canvas.sprite()


def _banana(
    rng: np.random.Generator,
    canvas: Canvas,
    origin: tuple[float, float],
    fan: float,
    base: Float,
    bend: float,
    scale: float,
) -> None:
    """Paints one banana: an arc of radius 1/bend whose cross-section has three faces."""
    u, v = canvas.grid()
    u, v = u - np.float32(origin[0]), v - np.float32(origin[1])
    cos, sin = np.float32(math.cos(fan) / scale), np.float32(math.sin(fan) / scale)
    u, v = u * cos + v * sin, v * cos - u * sin
    arc = np.float32(1 / bend)
    rho, phi = np.sqrt(u * u + (v + arc) ** 2), angle_of(u, v + arc)
    along = phi * arc / np.float32(1.02)
    table = np.convolve(
        np.interp(np.linspace(-1.4, 1.1, 251), _PROFILE_T, _PROFILE_W), np.ones(9) / 9, "same"
    )
    index = np.clip((along + np.float32(1.4)) * 100, 0, 250).astype(np.intp)
    width = table.astype(np.float32)[index] * np.float32(0.25 * rng.uniform(0.9, 1.1))
    inside = np.minimum(width - np.abs(rho - arc), np.minimum(along + 1.33, 1.04 - along) + 0.0)
    cover = canvas.edge(inside * np.float32(scale))
    across = np.clip((rho - arc) / np.maximum(width, np.float32(1e-3)), -1, 1)
    colour = _banana_skin(rng, canvas, along, across, phi + np.float32(fan), base)
    canvas.darken(cover, 0.07, (-0.10 * canvas.light[0], -0.10 * canvas.light[1]), 0.55)
    canvas.paint(cover, colour)


def _banana_skin(
    rng: np.random.Generator, canvas: Canvas, along: Float, across: Float, turn: Float, base: Float
) -> Float:
    h, w = along.shape
    ridges = rng.uniform(-0.45, -0.2), rng.uniform(0.3, 0.6)
    face = np.where(across < ridges[0], -0.75, np.where(across < ridges[1], 0.05, 0.85))
    radial = 0.5 * across + 0.5 * face.astype(np.float32)
    radial = np.clip(radial, np.float32(-0.97), np.float32(0.97))
    angle = turn.astype(np.float64)
    sin, cos = np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
    normal = (radial * sin, radial * cos, np.sqrt(1 - radial * radial))
    shade = 0.40 + 0.68 * lambert(normal, canvas.light)
    colour = np.broadcast_to(base, (h, w, 3)).copy()
    green = smoothstep(0.55, 1.05, np.abs(along)) * np.float32(rng.uniform(0.1, 0.7))
    colour += green[..., None] * (np.array([0.62, 0.66, 0.22], np.float32) - colour)
    for ridge in ridges:
        line = 1 - smoothstep(0.0, 0.12, np.abs(across - np.float32(ridge)))
        colour *= (1 - 0.13 * line)[..., None]
    spots = value_noise(rng, h, w, canvas.unit * 0.06, 2) * value_noise(
        rng, h, w, canvas.unit * 0.4
    )
    limit = rng.uniform(0.36, 0.62)
    brown = np.array([0.36, 0.22, 0.07], np.float32)
    mark = smoothstep(limit, limit + 0.05, spots) * np.float32(0.85)
    tip = np.maximum(smoothstep(0.95, 1.0, along), smoothstep(1.27, 1.32, -along))
    stem = smoothstep(1.0, 1.2, -along) * np.float32(0.45)
    mark = np.maximum(np.maximum(mark, tip), stem)
    colour += mark[..., None] * (brown - colour)
    shine = gloss(normal, canvas.light, 4) * (
        0.16 + 0.1 * value_noise(rng, h, w, canvas.unit * 0.1)
    )
    return clip(tinted(colour, shade) + shine[..., None] * (1 - mark[..., None]))
