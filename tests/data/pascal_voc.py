"""A Pascal VOC folder of two drawn images, written where a test wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from xai_core.data.voc import CATEGORIES, VOID

HEIGHT, WIDTH = 40, 48
BOXES = {
    "2007_000032": {"aeroplane": (4, 20, 6, 30), "person": (24, 34, 2, 12)},
    "000005": {"dog": (8, 28, 10, 40)},
}
"""VOC's id to the box of each class: top, bottom, left, right."""


def labels(boxes: dict[str, tuple[int, int, int, int]]) -> np.ndarray:
    """Class indices; each box has a border of void, one pixel wide, around it."""
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    for category, (top, bottom, left, right) in boxes.items():
        indices[top - 1 : bottom + 1, left - 1 : right + 1] = VOID
        indices[top:bottom, left:right] = 1 + CATEGORIES.index(category)
    return indices


def save_labels(path: Path, indices: np.ndarray) -> None:
    """As a palette PNG whose colours are another order than its indices."""
    image = PIL.Image.fromarray(indices)
    image.putpalette([255 - i // 3 for i in range(768)])
    image.save(path)


def write_voc(folder: Path, boxes=BOXES, lists=("trainval",)) -> Path:
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    for name in lists:
        text = "\n".join(boxes) + "\n"
        (folder / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)
    for seed, (voc_id, of_image) in enumerate(boxes.items()):
        pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "JPEGImages" / f"{voc_id}.jpg")
        save_labels(folder / "SegmentationClass" / f"{voc_id}.png", labels(of_image))
    return folder
