"""Umbrellas and wall clocks."""

from __future__ import annotations

import math

import cv2
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
from xai_core.data.scenes.outlines import box, ellipse, ribbon, rotated, rounded, text

_FABRICS = ((0.80, 0.10, 0.14), (0.10, 0.24, 0.55), (0.95, 0.78, 0.16), (0.10, 0.45, 0.36),
            (0.93, 0.92, 0.88), (0.12, 0.12, 0.14), (0.58, 0.20, 0.50), (0.93, 0.45, 0.12),
            (0.30, 0.62, 0.80), (0.88, 0.48, 0.58))  # fmt: skip
_CASES = ((0.12, 0.12, 0.13), (0.75, 0.76, 0.78), (0.45, 0.27, 0.14), (0.70, 0.12, 0.13),
          (0.12, 0.30, 0.50), (0.88, 0.87, 0.84), (0.72, 0.55, 0.22))  # fmt: skip
_ROMAN = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")


class _Dome:
    """The canopy in 3-D: panels between ribs, tilted towards or away from the viewer."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.panels = int(rng.choice([8, 8, 8, 10, 6]))
        self.rise = rng.uniform(0.42, 0.75)
        self.turn = rng.uniform(0, 2 * math.pi / self.panels)
        self.tilt = rng.uniform(-0.75, 0.55)
        self.sag = rng.uniform(0.10, 0.2)

    def project(self, phi: Points, rho: Points) -> Points:
        """Points (..., 3): screen x, screen y, depth towards the viewer."""
        bow = np.abs(np.sin(phi * self.panels / 2)) * rho**2
        reach = rho * (1 - 0.07 * bow)
        lift = -self.rise * np.cos(rho * math.pi / 2 * 0.96) - 0.35 * self.sag * bow
        x, z = reach * np.cos(phi + self.turn), reach * np.sin(phi + self.turn)
        return np.stack(list(self.tip(x, lift, z)), -1)

    def tip(self, x: Points, y: Points, z: Points) -> tuple[Points, Points, Points]:
        """Tilts points: a negative tilt shows the inside."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return x, y * cos + z * sin, z * cos - y * sin

    def axis(self, y: float) -> tuple[float, float]:
        """Screen position of the shaft at height ``y`` (negative is up)."""
        zero = np.zeros(1)
        sx, sy, _ = self.tip(zero, zero + y, zero)
        return float(sx[0]), float(sy[0])


def umbrella(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """An open umbrella with ribs, shaft and handle, at any tilt."""
    dome = _Dome(rng)
    canvas = Canvas(Pose(radius, rng.normal(0, 0.35), (1, 1), light), (1.15, 1.75))
    first, second = (np.array(_FABRICS[i]) for i in rng.choice(len(_FABRICS), 2, replace=False))
    if rng.random() < 0.5:
        second = first
    rings = 7
    fine = 6 * dome.panels
    phi = np.asarray(np.arange(fine + 1) * (2 * math.pi / fine), np.float64)
    mesh = dome.project(phi[:, None], np.linspace(0, 1, rings + 1)[None, :])
    quads, facing, shade = _shaded(mesh, canvas.light)
    stripe = (np.arange(fine) // 6) % 2
    albedo = np.where(stripe[:, None, None] == 0, first, second)
    band = rng.random() < 0.25
    colours = np.broadcast_to(albedo, (fine, rings, 3)).copy()
    if band:
        colours[:, rings - 1] = np.array(_FABRICS[int(rng.integers(len(_FABRICS)))])
    colours *= np.where(facing > 0, 1.0, 0.62)[..., None] * shade[..., None]
    _cloth(canvas, quads[facing <= 0], colours[facing <= 0])
    _spokes(canvas, dome, mesh, inside=True)
    _shaft(rng, canvas, dome)
    _cloth(canvas, quads[facing > 0], colours[facing > 0])
    _spokes(canvas, dome, mesh, inside=False)
    return canvas.sprite()


def _shaded(mesh: Points, light: Vector) -> tuple[Points, Points, Points]:
    """Quads (n, m, 4, 2), which way each faces, and its brightness."""
    a, b, c, d = mesh[:-1, :-1], mesh[:-1, 1:], mesh[1:, 1:], mesh[1:, :-1]
    quads = np.stack([a, b, c, d], 2)[..., :2]
    normal = np.cross(c - a, d - b)
    normal /= np.maximum(np.sqrt((normal**2).sum(-1)), 1e-9)[..., None]
    facing = normal[..., 2]
    toward = normal * np.where(facing > 0, 1.0, -1.0)[..., None]
    lit = np.clip(toward @ np.array(light), 0, 1)
    return quads, facing, 0.42 + 0.72 * lit


def _cloth(canvas: Canvas, quads: Points, colours: Points) -> None:
    """Fills quads, smooths the facets, and keeps the outline sharp."""
    if not len(quads):
        return
    paint = np.zeros((canvas.height, canvas.width, 3), np.uint8)
    cover = np.zeros((canvas.height, canvas.width), np.uint8)
    tints = np.clip(colours * 255, 1, 255).astype(int)
    for quad, tint in zip(quads, tints, strict=True):
        points = canvas.pixels(quad)
        cv2.fillConvexPoly(paint, points, tint.tolist(), cv2.LINE_8, 4)
        cv2.fillConvexPoly(cover, points, [255], cv2.LINE_AA, 4)
    grown = cv2.dilate(paint, np.ones((5, 5), np.uint8))
    paint = np.where(paint.any(-1, keepdims=True), paint, grown)
    kernel = max(3, int(canvas.unit * 0.05) | 1)
    smooth = np.asarray(cv2.GaussianBlur(paint, (kernel, kernel), 0)).astype(np.float32)
    weight = blur_mask(np.asarray(paint.any(-1), np.bool_), kernel)
    colour = clip(smooth / np.float32(255) / weight[..., None])
    canvas.paint(cover.astype(np.float32) / np.float32(255), colour)


def blur_mask(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], kernel: int) -> Float:
    """Weight by which a blur of masked colours has to be divided."""
    levels = np.asarray(cv2.GaussianBlur(mask.astype(np.uint8) * 255, (kernel, kernel), 0))
    weight = levels.astype(np.float32) / np.float32(255)
    return np.asarray(np.maximum(weight, np.float32(0.05)), np.float32)


def _spokes(canvas: Canvas, dome: _Dome, mesh: Points, inside: bool) -> None:
    """Ribs: thin steel seen from inside, seams from outside."""
    _, facing, _ = _shaded(mesh, canvas.light)
    lines = []
    for k in range(dome.panels):
        toward = float(facing[(6 * k) % len(facing), -3:].mean())
        if (toward <= 0) == inside:
            lines.append(ribbon(mesh[6 * k, :, :2], 0.022))
    if lines:
        canvas.fill(
            lines, (0.74, 0.74, 0.76) if inside else (0.05, 0.05, 0.06), 0.85 if inside else 0.35
        )
    if not inside and dome.tilt > -0.35:
        top = np.array([dome.axis(-dome.rise - 0.10), dome.axis(-dome.rise + 0.02)])
        canvas.fill([ribbon(top, 0.05)], (0.25, 0.25, 0.27))


def _shaft(rng: np.random.Generator, canvas: Canvas, dome: _Dome) -> None:
    """Steel shaft with a hooked or straight handle."""
    end = dome.axis(rng.uniform(0.75, 1.0))
    top = dome.axis(-dome.rise)
    line = np.array([top, end])
    canvas.fill([ribbon(line, 0.05)], (0.30, 0.30, 0.32))
    canvas.fill([ribbon(line - np.array([0.008, 0]), 0.018)], (0.78, 0.78, 0.80))
    wood = vary(rng, ((0.50, 0.28, 0.12), (0.10, 0.10, 0.11))[int(rng.integers(2))], 0.03)
    x, y = end
    side = rng.choice([-1.0, 1.0])
    hook = [
        [x, y - 0.18],
        [x, y + 0.1],
        [x + 0.02 * side, y + 0.28],
        [x + 0.24 * side, y + 0.28],
        [x + 0.24 * side, y + 0.1],
    ]
    path = rounded(hook) if rng.random() < 0.7 else np.array([[x, y - 0.05], [x, y + 0.2]])
    canvas.fill([ribbon(path, 0.085)], wood * np.float32(0.8))
    canvas.fill(
        [ribbon(path - np.array([0.012, 0]), 0.03)],
        clip(wood * np.float32(1.5) + np.float32(0.08)),
        0.8,
    )


def clock(rng: np.random.Generator, radius: float, light: Vector) -> Sprite:
    """A wall clock: case, dial with ticks or numerals, two or three hands, glass."""
    pose = Pose(radius, rng.normal(0, 0.08), (rng.uniform(0.78, 1.0), 1.0), light)
    canvas = Canvas(pose, (1.12, 1.12))
    case = vary(rng, _CASES[int(rng.integers(len(_CASES)))], 0.03)
    dial = vary(
        rng,
        ((0.95, 0.94, 0.90), (0.95, 0.90, 0.76), (0.13, 0.14, 0.17))[
            int(rng.choice(3, p=[0.6, 0.25, 0.15]))
        ],
        0.03,
    )
    ink = np.array((0.07, 0.07, 0.09) if dial.sum() > 1.5 else (0.92, 0.90, 0.84), np.float32)
    inner = rng.uniform(0.80, 0.89)
    _case(rng, canvas, case, inner, square=rng.random() < 0.2)
    _dial(rng, canvas, dial, inner)
    _marks(rng, canvas, ink, inner)
    _hands(rng, canvas, ink, inner)
    _glass(rng, canvas, inner)
    return canvas.sprite()


def _case(
    rng: np.random.Generator, canvas: Canvas, base: Float, inner: float, square: bool
) -> None:
    """The ring around the dial, rounded like a torus."""
    u, v = canvas.grid()
    rho = np.sqrt(u * u + v * v) + np.float32(1e-6)
    across = np.clip((rho - np.float32((1 + inner) / 2)) / np.float32((1 - inner) / 2), -1, 1)
    slope = across * np.float32(0.9)
    normal = (slope * u / rho, slope * v / rho, np.sqrt(1 - slope * slope))
    h, w = u.shape
    grain = value_noise(rng, h, w, canvas.unit * 0.12, 2, stretch=0.3) - np.float32(0.5)
    shade = 0.35 + 0.8 * lambert(normal, canvas.light) + 0.15 * grain
    shine = gloss(normal, canvas.light, 4) * np.float32(0.5)
    colour = clip(tinted(base, shade) + shine[..., None])
    if square:
        canvas.fill(
            [box(-1, -1, 1, 1, 0.16)],
            clip(tinted(base, 0.95 + 0.2 * (u * canvas.light[0] + v * canvas.light[1]))),
        )
        canvas.fill([box(-0.95, -0.95, 0.95, 0.95, 0.13)], clip(tinted(base, 0.82 + 0.1 * grain)))
    canvas.paint(canvas.edge(1 - rho), colour)


def _dial(rng: np.random.Generator, canvas: Canvas, base: Float, inner: float) -> None:
    u, v = canvas.grid()
    rho = np.sqrt(u * u + v * v)
    lx, ly = canvas.light[0], canvas.light[1]
    # The rim throws its shadow on the side that faces the light.
    offset = np.sqrt((u + np.float32(0.09 * lx)) ** 2 + (v + np.float32(0.09 * ly)) ** 2)
    shadow = smoothstep(inner - 0.10, inner + 0.02, offset) * np.float32(0.42)
    h, w = u.shape
    age = value_noise(rng, h, w, canvas.unit * 0.7, 3) - np.float32(0.5)
    shade = 0.93 + 0.06 * (u * np.float32(lx) + v * np.float32(ly)) + 0.08 * age - shadow
    canvas.paint(canvas.edge(np.float32(inner) - rho), clip(tinted(base, shade)))


def _marks(rng: np.random.Generator, canvas: Canvas, ink: Float, inner: float) -> None:
    """Ticks, and numerals on three dials of four."""
    style = rng.choice(["all", "quarters", "roman", "none"], p=[0.45, 0.15, 0.2, 0.2])
    edge = inner - 0.05
    ticks = []
    for k in range(60):
        full = k % 5 == 0
        if not full and canvas.unit < 40:
            continue
        length, width = (0.11, 0.035) if full else (0.05, 0.012)
        if full and style == "none":
            length, width = 0.2, 0.055
        ticks.append(rotated(box(-width / 2, -edge, width / 2, -edge + length), k * math.pi / 30))
    canvas.fill(ticks, ink)
    if style == "none":
        return
    at = edge - 0.23
    numerals = []
    for hour in range(0, 12, 3 if style == "quarters" else 1):
        angle = hour * math.pi / 6
        where = (at * math.sin(angle), -at * math.cos(angle))
        if style == "roman":
            strokes = text(_ROMAN[hour], 0.19, 0.13, 0.06)
            numerals += [
                rotated(points * np.array([0.75, 1.0]), angle, where) for points in strokes
            ]
        else:
            size = 0.30 if style == "quarters" else 0.21
            numerals += [
                points + np.array(where) for points in text(str(hour or 12), size, 0.17, 0.16)
            ]
    canvas.fill(numerals, ink)


def _hands(rng: np.random.Generator, canvas: Canvas, ink: Float, inner: float) -> None:
    minute = rng.integers(60)
    hour = rng.integers(12) + minute / 60
    drop = np.array([-0.03 * canvas.light[0], -0.03 * canvas.light[1]])
    taper = rng.random() < 0.5
    hands = []
    for turn, length, width in (
        (hour * math.pi / 6, 0.52, 0.085),
        (minute * math.pi / 30, 0.80, 0.06),
    ):
        half = width / 2
        tip = half * (0.2 if taper else 1.0)
        reach = length * inner
        shape = np.array(
            [
                [-half, 0.14],
                [half, 0.14],
                [half, -0.1],
                [tip, -reach],
                [-tip, -reach],
                [-half, -0.1],
            ]
        )
        hands.append(rotated(shape, turn))
    canvas.fill([hand + drop for hand in hands], (0.0, 0.0, 0.0), 0.3)
    canvas.fill(hands, ink)
    if rng.random() < 0.7:
        second = rotated(box(-0.010, -0.82 * inner, 0.010, 0.2), rng.integers(60) * math.pi / 30)
        canvas.fill([second + drop], (0, 0, 0), 0.25)
        canvas.fill([second], (0.80, 0.10, 0.10))
    canvas.fill([ellipse(0, 0, 0.06, 0.06)], ink)
    canvas.fill([ellipse(-0.012, -0.015, 0.025, 0.025)], (0.7, 0.7, 0.72), 0.8)


def _glass(rng: np.random.Generator, canvas: Canvas, inner: float) -> None:
    """A crescent of reflected light on the side of the lamp."""
    u, v = canvas.grid()
    rho = np.sqrt(u * u + v * v)
    aim = math.atan2(canvas.light[1], canvas.light[0])
    cos, sin = np.float32(math.cos(aim)), np.float32(math.sin(aim))
    across, lengthwise = u * cos + v * sin, v * cos - u * sin
    turn = np.abs(angle_of(lengthwise, across))
    arc = smoothstep(inner * 0.55, inner * 0.95, rho) * (1 - smoothstep(0.5, 1.1, turn))
    arc *= canvas.edge(np.float32(inner * 0.97) - rho) * np.float32(rng.uniform(0.0, 0.35))
    canvas.rgb += arc[..., None] * (1 - canvas.rgb)
