"""Which maps the page shows, within a budget of bytes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from xai_core.report import gallery, previews
from xai_core.report.summary import Summary, frame

BUDGET = 12_000_000
"""Bytes of pictures in a page, as base64."""


@dataclass(frozen=True)
class Chosen:
    """What the page shows.

    Attributes:
        entries: one for each net and sample: their maps and numbers.
        samples: sample to its image and mask.
        there: how many nets and samples have previews, shown or not.
        size: of the images as the nets saw them; empty without previews.
    """

    entries: list[dict[str, Any]]
    samples: dict[str, dict[str, str]]
    there: int
    size: str


def choose(summary: Summary, folder: Path) -> Chosen:
    """First each method's best, median and worst sample on each net, then what else fits.

    Args:
        summary: of the run.
        folder: of the run's previews.
    """
    nothing = Chosen([], {}, 0, "")
    if not summary.records:
        return nothing
    table = frame(summary.records)
    size = gallery.shown_size(table, lambda net, sample: previews.load(folder, net, sample))
    if size is None:
        return nothing
    table = table[table["size"] == size]
    found = {
        (str(net), str(sample)): part
        for (net, sample), part in table.groupby(["net", "sample"], sort=True)
    }
    entries: list[dict[str, Any]] = []
    samples: dict[str, dict[str, str]] = {}
    left, there = BUDGET, 0
    for net, sample in dict.fromkeys([*_extremes(table, summary), *sorted(found, key=_shuffled)]):
        files = previews.files(folder, net, sample)
        if not all(file.is_file() for file in files):
            continue
        there += 1
        wanted = files[2:3] if sample in samples else files[:3]
        cost = sum(4 * file.stat().st_size // 3 for file in wanted)
        if cost > left or previews.load(folder, net, sample) is None:
            continue
        left -= cost
        samples[sample] = {"image": _base64(files[0]), "mask": _base64(files[1])}
        entries.append(_entry(found[net, sample], files[2], files[3]))
    entries.sort(key=lambda entry: (entry["net"], entry["sample"]))
    return Chosen(entries, samples, there, size)


def heat_colours() -> str:
    """256 RGB triples of the scale for heat, from 0 to 1, as base64."""
    ramp = np.arange(256, dtype=np.uint8)[np.newaxis]
    colours = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[0, :, ::-1]
    return base64.b64encode(np.ascontiguousarray(colours).tobytes()).decode()


def _extremes(table: pd.DataFrame, summary: Summary) -> Iterator[tuple[str, str]]:
    own = table[~table["method"].isin(list(summary.baselines))]
    for (net, _), part in own.groupby(["net", "method"], sort=True):
        for _, record in gallery.extremes(part):
            yield str(net), record["sample"]


def _shuffled(key: tuple[str, str]) -> str:
    """An order that prefers nothing, the same every time."""
    return hashlib.sha256("/".join(key).encode()).hexdigest()


def _entry(part: pd.DataFrame, maps: Path, legend: Path) -> dict[str, Any]:
    first = part.iloc[0]
    p = dict(zip(part["method"], part["concentration"].round(4), strict=True))
    shown = json.loads(legend.read_text("utf-8"))["maps"]
    return {
        "net": first["net"],
        "sample": first["sample"],
        "class": first["category"],
        "image_id": int(first["image_id"]),
        "rank": int(first["rank"]),
        "probability": round(float(first["probability"]), 4),
        "chance": round(float(first["chance"]), 4),
        "random": bool(first["weights_random"]),
        "maps": _base64(maps),
        "methods": [{**entry, "p": p.get(entry["method"])} for entry in shown],
    }


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
