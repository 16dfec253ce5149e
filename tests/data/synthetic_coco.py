"""An annotation file of train2017's size, made up: 118,000 images with 860,000 annotations.

``python tests/data/synthetic_coco.py FILE`` writes it (about 460 MB, as COCO's own). Keys, their
order and the share of the categories are like COCO's; the outlines are random stars.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGES, ANNOTATIONS = 118_000, 860_000
WIDTH, HEIGHT = 640, 480
OUTLINES = 2000
CROWD = json.dumps({"counts": [WIDTH * HEIGHT // 2, WIDTH * HEIGHT // 2], "size": [HEIGHT, WIDTH]})


def write(
    path: Path,
    categories: dict[int, str],
    images: int = IMAGES,
    annotations: int = ANNOTATIONS,
    seed: int = 0,
) -> None:
    """Write the file.

    Args:
        path: where to.
        categories: id to name; the first is a third of all annotations, as person is in COCO.
        images: how many.
        annotations: how many.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    outlines = [_star(rng) for _ in range(OUTLINES)]
    ids = list(categories)
    shares = np.array([1 / 3] + [2 / 3 / (len(ids) - 1)] * (len(ids) - 1))
    of_image = np.sort(rng.integers(0, images, annotations)) + 1
    of_category = rng.choice(ids, annotations, p=shares)
    of_outline = rng.integers(0, OUTLINES, annotations)
    crowds = rng.random(annotations) < 0.01

    def lines() -> Iterator[str]:
        for i in range(annotations):
            outline, box = outlines[of_outline[i]]
            crowd = bool(crowds[i])
            yield (
                f'{{"segmentation": {CROWD if crowd else outline},"area": 2765.14865,'
                f'"iscrowd": {crowd:d},"image_id": {of_image[i]},"bbox": {box},'
                f'"category_id": {of_category[i]},"id": {i + 1}}}'
            )

    pictures = (
        f'{{"license": 3,"file_name": "{i:012}.jpg",'
        f'"coco_url": "http://images.cocodataset.org/train2017/{i:012}.jpg",'
        f'"height": {HEIGHT},"width": {WIDTH},"date_captured": "2013-11-14 11:18:45",'
        f'"flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",'
        f'"id": {i}}}'
        for i in range(1, images + 1)
    )
    named = ({"supercategory": "thing", "id": i, "name": name} for i, name in categories.items())
    with path.open("w") as file:
        file.write('{"info": {"description": "made up"},"licenses": [],"images": [')
        _join(file, pictures)
        file.write('],"annotations": [')
        _join(file, lines())
        file.write('],"categories": ' + json.dumps(list(named)) + "}")


def _join(file, parts: Iterator[str]) -> None:
    for i, part in enumerate(parts):
        file.write(part if i == 0 else f",{part}")


def _star(rng: np.random.Generator) -> tuple[str, str]:
    corners = int(rng.integers(8, 50))
    angles = np.sort(rng.random(corners)) * 2 * np.pi
    radii = rng.uniform(0.3, 1, corners) * rng.uniform(10, 200)
    x = np.clip(rng.uniform(0, WIDTH) + radii * np.cos(angles), 0, WIDTH).round(2)
    y = np.clip(rng.uniform(0, HEIGHT) + radii * np.sin(angles), 0, HEIGHT).round(2)
    outline = [np.stack([x, y], 1).ravel().tolist()]
    box = [round(v, 2) for v in (x.min(), y.min(), np.ptp(x), np.ptp(y))]
    return json.dumps(outline), json.dumps([float(v) for v in box])


if __name__ == "__main__":
    from xai_core.data.classes import _entries

    write(Path(sys.argv[1]), {entry["coco_id"]: name for name, entry in _entries().items()})
