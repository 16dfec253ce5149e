"""A scene: background, things behind, objects, things in front, and a camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from xai_core.data.scenes.backgrounds import background
from xai_core.data.scenes.canvas import Float, Sprite, Vector, blur, clip
from xai_core.data.scenes.distractors import DISTRACTORS
from xai_core.data.scenes.fruit import banana, orange
from xai_core.data.scenes.household import clock, umbrella
from xai_core.data.scenes.street import stop_sign, traffic_light

Draw = Callable[[np.random.Generator, float, Vector], Sprite]

OBJECTS: Final[dict[str, tuple[Draw, float]]] = {
    "banana": (banana, 0.62),
    "clock": (clock, 1.0),
    "orange": (orange, 0.95),
    "stop sign": (stop_sign, 1.0),
    "traffic light": (traffic_light, 1.15),
    "umbrella": (umbrella, 1.0),
}
"""COCO category to its drawing and the scale that makes all about equally large."""

LEAST_VISIBLE: Final = 0.35
"""Share of an object that must stay in view; a scene that hides more of one is drawn anew."""


@dataclass(frozen=True)
class Instance:
    """One object, or a heap of them.

    Attributes:
        category: COCO's name.
        mask: the pixels in which it is seen, (H, W).
        crowd: whether it stands for several that are not told apart.
    """

    category: str
    mask: NDArray[np.bool_]
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: uint8 RGB, (H, W, 3).
        instances: the objects; at least one.
    """

    image: NDArray[np.uint8]
    instances: tuple[Instance, ...]


@dataclass
class _Stage:
    """The picture while things are put into it, back to front."""

    picture: Float
    light: Vector
    masks: list[tuple[str, NDArray[np.bool_], int]] = field(default_factory=list)

    def put(self, sprite: Sprite, x: int, y: int, category: str | None = None) -> None:
        """Lay a sprite with its shadow over the picture, its middle at (x, y)."""
        height, width = self.picture.shape[:2]
        h, w = sprite.alpha.shape
        top, left = y - h // 2, x - w // 2
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + h, height), min(left + w, width)
        if y0 >= y1 or x0 >= x1:
            return
        part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        alpha = np.zeros((height, width), np.float32)
        alpha[y0:y1, x0:x1] = sprite.alpha[part]
        self._shadow(alpha, max(h, w))
        view = self.picture[y0:y1, x0:x1]
        view += sprite.alpha[part][..., None] * (sprite.rgb[part] - view)
        covered = alpha >= np.float32(0.5)
        self.masks = [(name, mask & ~covered, area) for name, mask, area in self.masks]
        if category is not None:
            self.masks.append((category, covered, int((sprite.alpha >= 0.5).sum())))

    def _shadow(self, alpha: Float, size: int) -> None:
        reach = max(1, round(0.06 * size))
        shift = (round(-self.light[1] * reach), round(-self.light[0] * reach))
        soft = np.roll(blur(alpha, 0.045 * size + 0.5), shift, (0, 1))
        self.picture *= (1 - np.float32(0.45) * soft)[..., None]


def scene(
    seed: int,
    index: int,
    size: tuple[int, int] | None = None,
    categories: Sequence[str] | None = None,
    crowd: bool = False,
) -> Scene:
    """The scene with this seed and index: the same on every call.

    Args:
        seed: of the set of scenes.
        index: within the set.
        size: (height, width); random where None.
        categories: what it shows, main class first; random where None.
        crowd: add a heap of the main class, annotated as one crowd.
    """
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, index, attempt])
        found = _attempt(rng, size, categories, crowd)
        if found is not None:
            return found
        attempt += 1


def _attempt(
    rng: np.random.Generator,
    size: tuple[int, int] | None,
    categories: Sequence[str] | None,
    crowd: bool,
) -> Scene | None:
    height, width = size or (int(rng.integers(144, 257)), int(rng.integers(144, 257)))
    if categories is None:
        number = 1 if rng.random() < 0.85 else 2
        categories = [str(name) for name in rng.choice(sorted(OBJECTS), number, replace=False)]
    light = _light(rng)
    stage = _Stage(background(rng, height, width), light)
    side = math.sqrt(height * width)
    for _ in range(int(rng.integers(0, 4))):
        _distract(rng, stage, side * rng.uniform(0.06, 0.2))
    heap = _heap(rng, stage, categories[0], side) if crowd else 0
    for i, category in enumerate(categories):
        _instances(rng, stage, category, side, main=i == 0)
    for _ in range(int(rng.integers(0, 3))):
        _distract(rng, stage, side * rng.uniform(0.05, 0.13))
    instances = _annotate(stage, heap)
    if not _acceptable(instances, categories, height * width):
        return None
    return Scene(_camera(rng, stage.picture), instances)


def _light(rng: np.random.Generator) -> Vector:
    x = rng.choice([-1, 1]) * rng.uniform(0.2, 0.5)
    y, z = -rng.uniform(0.3, 0.6), 0.7
    length = math.sqrt(x * x + y * y + z * z)
    return float(x / length), float(y / length), float(z / length)


def _place(rng: np.random.Generator, stage: _Stage) -> tuple[int, int]:
    height, width = stage.picture.shape[:2]
    return int(width * rng.uniform(0.08, 0.92)), int(height * rng.uniform(0.08, 0.92))


def _distract(rng: np.random.Generator, stage: _Stage, radius: float) -> None:
    draw = DISTRACTORS[int(rng.integers(len(DISTRACTORS)))]
    stage.put(draw(rng, max(radius, 6.0), stage.light), *_place(rng, stage))


def _instances(
    rng: np.random.Generator, stage: _Stage, category: str, side: float, main: bool
) -> None:
    draw, scale = OBJECTS[category]
    count = int(rng.choice([1, 2, 3], p=[0.66, 0.22, 0.12])) if main else 1
    largest = 0.40 if count == 1 and main else 0.24
    for _ in range(count):
        radius = side * rng.uniform(0.13, largest) * scale
        stage.put(draw(rng, radius, stage.light), *_place(rng, stage), category)


def _heap(rng: np.random.Generator, stage: _Stage, category: str, side: float) -> int:
    """A pile of small ones; the number that were put."""
    draw, scale = OBJECTS[category]
    x, y = _place(rng, stage)
    count = int(rng.integers(9, 14))
    for _ in range(count):
        dx, dy = rng.uniform(-0.16, 0.16, 2) * side
        radius = side * rng.uniform(0.055, 0.075) * scale
        stage.put(draw(rng, radius, stage.light), int(x + dx), int(y + 0.6 * dy), category)
    return count


def _annotate(stage: _Stage, heap: int) -> tuple[Instance, ...]:
    instances = []
    if heap:
        pile = np.logical_or.reduce([mask for _, mask, _ in stage.masks[:heap]])
        instances.append(Instance(stage.masks[0][0], pile, crowd=True))
    for category, mask, area in stage.masks[heap:]:
        share = int(mask.sum()) / max(area, 1)
        instances.append(Instance(category, mask if share >= LEAST_VISIBLE else mask[:0]))
    return tuple(instances)


def _acceptable(instances: Sequence[Instance], categories: Sequence[str], pixels: int) -> bool:
    """Every object well in view, every class of a fair size, the main one not too large."""
    if any(instance.mask.size == 0 for instance in instances):
        return False
    for i, category in enumerate(categories):
        masks = [instance.mask for instance in instances if instance.category == category]
        share = int(np.logical_or.reduce(masks).sum()) / pixels
        if not 0.02 <= share <= (0.45 if i == 0 else 0.25):
            return False
    return True


def _camera(rng: np.random.Generator, picture: Float) -> NDArray[np.uint8]:
    """Colour cast, exposure, vignette, a soft lens and a noisy sensor."""
    height, width = picture.shape[:2]
    cast = rng.uniform(0.93, 1.07, 3).astype(np.float32) * np.float32(rng.uniform(0.8, 1.15))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = 1 - np.float32(rng.uniform(0, 0.22)) * (x * x + y * y)
    developed = clip(picture * cast * vignette[..., None])
    levels = np.rint(developed * np.float32(255)).astype(np.uint8)
    soft = cv2.GaussianBlur(levels, (0, 0), float(rng.uniform(0.3, 0.7))).astype(np.float32)
    # The mean of four uniforms is near a normal, and exact on every processor.
    noise = rng.random((4, height, width, 3), np.float32).sum(axis=0) - np.float32(2)
    strength = np.float32(rng.uniform(1.0, 6.0))
    return np.asarray(np.clip(np.rint(soft + strength * noise), 0, 255), dtype=np.uint8)
