"""Text that fits: its width before it is drawn, and where to break it."""

from __future__ import annotations

import re
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

TITLE, BODY, SMALL = 8.0, 7.0, 6.2
"""Font sizes in points."""


@lru_cache(maxsize=4096)
def width(text: str, size: float = BODY, bold: bool = False) -> float:
    """Of one line, in inches."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(points) / 72


def wrapped(text: str, room: float, size: float = BODY, bold: bool = False) -> list[str]:
    """The text in lines of at most `room` inches, broken at spaces, after ``_`` or anywhere."""
    lines = [""]
    for piece in re.findall(r"\s*[^\s_]*_?", text):
        if width((lines[-1] + piece).strip(), size, bold) <= room:
            lines[-1] += piece
            continue
        lines.append(piece.strip())
        while width(lines[-1], size, bold) > room and len(lines[-1]) > 1:
            whole = lines.pop()
            keep = max(
                n for n in range(1, len(whole)) if n == 1 or width(whole[:n], size, bold) <= room
            )
            lines += [whole[:keep], whole[keep:]]
    return [line.strip() for line in lines if line.strip()]


def shortened(text: str, room: float, size: float = BODY) -> str:
    """The text, its end replaced by an ellipsis if it is wider than `room` inches."""
    if width(text, size) <= room:
        return text
    while len(text) > 1 and width(text + "…", size) > room:
        text = text[:-1].rstrip()
    return text + "…"


def counted(number: int, noun: str) -> str:
    """``1 image``, ``3 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
