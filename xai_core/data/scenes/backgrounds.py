"""Where things stand: textured, out of focus, and independent of what will be put there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from xai_core.data.scenes.canvas import Float, blur, clip, smoothstep, tinted, value_noise, vary

Rng = np.random.Generator


def background(rng: Rng, height: int, width: int) -> Float:
    """One of the kinds below, (height, width, 3) in [0, 1], a little out of focus."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    picture = kind(rng, height, width)
    return _defocus(picture, float(rng.uniform(0.2, 1.8)) * min(height, width) / 224)


def _defocus(picture: Float, sigma: float) -> Float:
    return np.stack([blur(picture[..., c], sigma) for c in range(3)], axis=-1)


def _grain(rng: Rng, height: int, width: int, cell: float, octaves: int, strength: float) -> Float:
    """A grey shade around 1."""
    noise = value_noise(rng, height, width, cell, octaves) - np.float32(0.5)
    return np.float32(1) + np.float32(strength) * noise


def wall(rng: Rng, height: int, width: int) -> Float:
    """Plaster: one colour, stains, light from one side."""
    base = vary(rng, rng.uniform(0.25, 0.85) + rng.uniform(-0.12, 0.12, 3), 0.02)
    shade = _grain(rng, height, width, width / 3, 5, 0.35) * _grain(rng, height, width, 3, 2, 0.12)
    return clip(tinted(base, shade * _slope(rng, height, width, 0.4)))


def bricks(rng: Rng, height: int, width: int) -> Float:
    """Courses of bricks, each of its own colour, with mortar between."""
    course = max(8, round(height * rng.uniform(0.06, 0.12)))
    length = round(course * rng.uniform(1.8, 2.8))
    rows = np.arange(height) // course
    columns = (np.arange(width)[None, :] + (rows[:, None] % 2) * (length // 2)) // length
    tones = rng.uniform(0.65, 1.15, (rows[-1] + 1, columns.max() + 1)).astype(np.float32)
    x = (np.arange(width)[None, :] + (rows[:, None] % 2) * (length // 2)) % length
    y = (np.arange(height) % course)[:, None]
    joint = (np.minimum(x, y) < max(1, course // 8)).astype(np.float32)
    base = vary(rng, ((0.55, 0.27, 0.20), (0.62, 0.52, 0.42), (0.5, 0.5, 0.5))[rng.integers(3)])
    colour = tinted(base, tones[rows[:, None], columns])
    colour = colour + joint[..., None] * (np.float32(0.66) - colour)
    return clip(colour * _grain(rng, height, width, 5, 3, 0.35)[..., None])


def planks(rng: Rng, height: int, width: int) -> Float:
    """Boards with grain, as on a table or a fence."""
    board = max(12, round(height * rng.uniform(0.12, 0.3)))
    rows = np.arange(height) // board
    tone = rng.uniform(0.75, 1.1, rows[-1] + 1).astype(np.float32)[rows][:, None]
    grain = value_noise(rng, height, width, width / 2, 4, stretch=0.05) - np.float32(0.5)
    gap = (np.arange(height) % board < max(1, board // 25)).astype(np.float32)[:, None]
    shade = tone * (1 + np.float32(0.7) * grain) * (1 - np.float32(0.6) * gap)
    base = vary(rng, ((0.55, 0.38, 0.22), (0.70, 0.56, 0.38), (0.36, 0.26, 0.20))[rng.integers(3)])
    picture = clip(tinted(base, shade * _slope(rng, height, width, 0.3)))
    return picture if rng.random() < 0.6 else np.ascontiguousarray(picture[:, ::-1])


def outdoors(rng: Rng, height: int, width: int) -> Float:
    """Sky with clouds over distant greenery or houses, and ground."""
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    top, low = vary(rng, (0.42, 0.60, 0.85), 0.1), vary(rng, (0.80, 0.86, 0.92), 0.06)
    clouds = smoothstep(0.45, 0.75, value_noise(rng, height, width, width / 2.5, 5, 0.5))
    sky = top + (low - top) * y[..., None] * np.ones((1, width, 1), np.float32)
    sky = sky + (np.float32(0.94) - sky) * clouds[..., None]
    horizon = np.float32(rng.uniform(0.35, 0.8))
    ridge = horizon + np.float32(0.25) * (
        value_noise(rng, 1, width, width / 6, 4) - np.float32(0.5)
    )
    far = vary(rng, ((0.20, 0.33, 0.16), (0.45, 0.42, 0.40), (0.30, 0.36, 0.30))[rng.integers(3)])
    trees = tinted(far, _grain(rng, height, width, 14, 4, 1.2))
    ground = tinted(
        vary(rng, ((0.34, 0.34, 0.35), (0.30, 0.42, 0.18), (0.58, 0.52, 0.42))[rng.integers(3)]),
        _grain(rng, height, width, 4, 3, 0.6) * _grain(rng, height, width, width / 4, 3, 0.3),
    )
    picture = np.where((y > ridge)[..., None], trees, sky)
    return clip(np.where((y > horizon + np.float32(0.12))[..., None], ground, picture))


def bokeh(rng: Rng, height: int, width: int) -> Float:
    """A dim room or street far out of focus: blurred discs of light."""
    base = tinted(
        vary(rng, rng.uniform(0.1, 0.5, 3)), _grain(rng, height, width, width / 2, 4, 0.9)
    )
    canvas = np.ascontiguousarray(np.rint(clip(base) * 255).astype(np.uint8))
    for _ in range(int(rng.integers(15, 45))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radius = max(2, int(min(height, width) * rng.uniform(0.015, 0.09)))
        layer = canvas.copy()
        colour = [int(c) for c in rng.integers(60, 256, 3)]
        cv2.circle(layer, centre, radius, colour, -1, cv2.LINE_AA)
        # 45 % of the disc in whole numbers: OpenCV's blend rounds differently on other processors.
        mixed = (9 * layer.astype(np.uint16) + 11 * canvas.astype(np.uint16) + 10) // 20
        canvas = mixed.astype(np.uint8)
    return canvas.astype(np.float32) / np.float32(255)


def pattern(rng: Rng, height: int, width: int) -> Float:
    """A tablecloth or tiles: checks or stripes in two colours."""
    cell = max(6, round(min(height, width) * rng.uniform(0.06, 0.2)))
    y, x = np.arange(height)[:, None] // cell, np.arange(width)[None, :] // cell
    odd = ((x + y * int(rng.integers(2))) % 2).astype(np.float32)[..., None]
    one, two = vary(rng, rng.uniform(0.2, 0.9, 3)), vary(rng, rng.uniform(0.2, 0.9, 3))
    mixed = one + odd * (one + np.float32(0.6) * (two - one) - one)
    weave = _grain(rng, height, width, 2, 2, 0.25) * _slope(rng, height, width, 0.35)
    return clip(mixed * (weave * _grain(rng, height, width, width / 3, 3, 0.3))[..., None])


def _slope(rng: Rng, height: int, width: int, strength: float) -> Float:
    """Light that falls off in a random direction: a grey shade around 1."""
    dx, dy = rng.uniform(-1, 1, 2).astype(np.float32)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    return np.asarray(np.float32(1) + np.float32(strength) * (dx * x + dy * y), np.float32)


_KINDS: Final[tuple[Callable[[Rng, int, int], Float], ...]] = (
    wall,
    bricks,
    planks,
    outdoors,
    bokeh,
    pattern,
)
