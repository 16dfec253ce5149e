"""One colour per method, the same in every chart, gallery and page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

METHODS: Mapping[str, str] = {
    "guided_grad_cam": "#7A1F4F",
    "backprop": "#0063A6",
    "deconvolution": "#D0560A",
    "grad_cam": "#1FA187",
    "guided_backprop": "#6CBDEE",
    "cam": "#F0CB3A",
}
"""From dark to light: hues after Okabe and Ito (2008), the lightness moved so that no two methods
are the same grey."""

BASELINES: Mapping[str, str] = {
    "noise": "#4D4D4D",
    "edges": "#666666",
    "noise_grad_cam": "#808080",
    "edges_grad_cam": "#999999",
    "centre": "#B0B0B0",
    "uniform": "#C8C8C8",
}
"""Greys: what is there to be beaten keeps in the background."""

OTHERS = ("#332288", "#117733", "#AA4499", "#999933", "#CC6677", "#44AA99")
"""For methods that the project doesn't know: Paul Tol's muted scheme without the hues above."""

INK, QUIET, RULE = "#1A1A1A", "#5A5A5A", "#D9D9D9"
"""Text and marks, secondary text, and lines that only guide the eye; on white."""


def colour_of(method: str) -> str:
    """``#RRGGBB`` of a method id. An unknown id always gets the same one of `OTHERS`."""
    known = METHODS.get(method) or BASELINES.get(method)
    if known:
        return known
    return OTHERS[hashlib.sha256(method.encode()).digest()[0] % len(OTHERS)]


def lightened(colour: str, share: float) -> str:
    """The colour mixed with a share of white in [0, 1]: EPS has no transparency."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02X}" for part in parts)
