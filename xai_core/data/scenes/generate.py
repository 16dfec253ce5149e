"""Write the bundled data set: ``python -m xai_core.data.scenes.generate``.

The same seed gives the same bytes with the same versions of NumPy, OpenCV and Pillow.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from pycocotools import mask as rle

from xai_core.data.scenes import SCENES_DIR
from xai_core.data.scenes.compose import Instance, Scene, scene
from xai_core.data.scenes.polygons import polygons_of

SHIPPED_SEED: Final = 0
COUNT: Final = 34
CATEGORIES: Final = {
    "traffic light": (10, "outdoor"),
    "stop sign": (13, "outdoor"),
    "umbrella": (28, "accessory"),
    "banana": (52, "food"),
    "orange": (55, "food"),
    "clock": (85, "indoor"),
}
"""COCO's ids and supercategories."""

SIZES: Final = (
    (240, 320),
    (320, 240),
    (280, 280),
    (251, 333),
    (300, 400),
    (360, 270),
    (224, 336),
    (210, 410),
)
"""(height, width), in turn."""

JPEG_QUALITY: Final = 88


def size_of(index: int) -> tuple[int, int]:
    """(height, width) of the shipped scene with this index."""
    return SIZES[index % len(SIZES)]


def shipped_scene(index: int, seed: int = SHIPPED_SEED) -> Scene:
    """Main classes in turn; every seventh has a second class, two a heap as a crowd."""
    names = list(CATEGORIES)
    main = names[index % len(names)]
    categories = [main]
    if index % 7 == 3:
        categories.append(names[(index + 2 + index // 7) % len(names)])
    crowd = index in {4, 21}  # oranges, bananas
    return scene(seed, index, size_of(index), categories, crowd=crowd)


def annotation_of(instance: Instance, annotation_id: int, image_id: int) -> dict[str, Any]:
    """One annotation in COCO's format, exact to the pixel."""
    rows, columns = np.flatnonzero(instance.mask.any(1)), np.flatnonzero(instance.mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": CATEGORIES[instance.category][0],
        "segmentation": run_lengths(instance.mask)
        if instance.crowd
        else polygons_of(instance.mask),
        "area": int(instance.mask.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "iscrowd": int(instance.crowd),
    }


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """COCO's uncompressed RLE: lengths of runs down the columns, background first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    counts = counts[: len(counts) - (counts[-1] == 0)]
    encoded = {"size": [int(n) for n in mask.shape], "counts": [int(n) for n in counts]}
    decoded = rle.decode(rle.frPyObjects(encoded, *mask.shape))
    if not np.array_equal(decoded.astype(np.bool_), mask):
        raise ValueError("pycocotools does not give this mask back from its run lengths")
    return encoded


def write(folder: Path, seed: int = SHIPPED_SEED, count: int = COUNT) -> None:
    """Write ``annotations/instances_scenes.json`` and ``scenes/*.jpg`` under ``folder``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "scenes").mkdir(exist_ok=True)
    for index in range(count):
        made, image_id = shipped_scene(index, seed), index + 1
        name = f"{image_id:012d}.jpg"
        (folder / "scenes" / name).write_bytes(_jpeg(made.image))
        height, width = made.image.shape[:2]
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for instance in made.instances:
            annotations.append(annotation_of(instance, len(annotations) + 1, image_id))
    content = {
        "info": {
            "description": "xai-concentration scenes: drawn pictures with exact masks",
            "seed": seed,
        },
        "licenses": [{"id": 1, "name": "MIT"}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": category_id, "name": name, "supercategory": above}
            for name, (category_id, above) in CATEGORIES.items()
        ],
    }
    text = json.dumps(content, separators=(",", ":")) + "\n"
    (folder / "annotations" / "instances_scenes.json").write_text(text, encoding="utf-8")


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=SCENES_DIR)
    parser.add_argument("--seed", type=int, default=SHIPPED_SEED)
    parser.add_argument("--count", type=int, default=COUNT)
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed, arguments.count)


if __name__ == "__main__":
    main()
