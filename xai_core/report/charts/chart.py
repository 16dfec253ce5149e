"""A chart, and its files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from xai_core.files import write_atomically

DPI = 200

STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 7.0,
    "text.parse_math": False,  # a net or class may be named with "$"
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "xai-concentration",  # element ids that don't change from run to run
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "ps.fonttype": 3,  # Type 42 takes matplotlib 2 s a file
}

_UNDATED: Mapping[str, Mapping[str, None]] = {
    "png": {},
    "svg": {"Date": None},
    "eps": {},
    "pdf": {"CreationDate": None},
}


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes:
        id: name of its files; letters, digits and ``-``.
        title: what it shows.
        alt: one to three sentences with the main numbers, for those who don't see it.
        figure: complete; has no pyplot state.
    """

    id: str
    title: str
    alt: str
    figure: Figure


def write(chart: Chart, folder: Path) -> list[Path]:
    """``FOLDER/ID.png`` (200 dpi), ``.svg``, ``.eps`` and ``.pdf``, the same bytes every time.

    Raises:
        OSError: a file can't be written.
    """
    paths = []
    for kind in _UNDATED:
        path = folder / f"{chart.id}.{kind}"
        write_atomically(path, _rendered(chart.figure, kind))
        paths.append(path)
    return paths


def svg(chart: Chart) -> str:
    """An ``<svg>`` element for an HTML page: labelled, its ids unlike those of other charts."""
    text = _rendered(chart.figure, "svg").decode("utf-8")
    element = text[text.index("<svg") :]
    element = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.id}-", element)
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(chart.alt)}"', 1)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in the format that the path's suffix names."""
    write_atomically(path, _rendered(figure, path.suffix.removeprefix(".")))
    return path


@contextmanager
def _as_vectors(figure: Figure) -> Iterator[None]:
    """Nothing is rasterised: pixels in EPS are opaque, and white ones hide what lies below."""
    rasterised = figure.findobj(lambda artist: bool(artist.get_rasterized()))
    for artist in rasterised:
        artist.set_rasterized(False)
    try:
        yield
    finally:
        for artist in rasterised:
            artist.set_rasterized(True)


def _rendered(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    with rc_context(STYLE), _as_vectors(figure) if kind == "eps" else nullcontext():
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=dict(_UNDATED[kind]))
    content = buffer.getvalue()
    if kind == "eps":  # matplotlib dates EPS files, and has no option against it
        content = re.sub(rb"%%CreationDate:[^\n]*\n", b"", content, count=1)
    return content
