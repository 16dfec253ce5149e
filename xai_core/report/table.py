"""Cells and tables of markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from xai_core.files import printable


def number(value: object, digits: int = 3, *, signed: bool = False) -> str:
    """A number, or a dash where it is not defined."""
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    sign = "+" if signed and float(f"{value:.{digits}f}") > 0 else ""
    return f"{sign}{value:z.{digits}f}"  # z: no minus sign before a zero


def interval(low: float, high: float, digits: int = 3) -> str:
    """The ends of an interval, or a dash where it is not defined."""
    undefined = pd.isna(low) or pd.isna(high)
    return "-" if undefined else f"{low:z.{digits}f} to {high:z.{digits}f}"


def p_value(p: float) -> str:
    """Four decimals, or its order of magnitude."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.0e}"


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99
) -> str:
    """A table whose columns are right-aligned from ``numbers_from`` on."""
    escaped = [[escape(cell) for cell in row] for row in rows]
    align = ["left" if i < numbers_from else "right" for i in range(len(header))]
    return pd.DataFrame(escaped, columns=list(header)).to_markdown(
        index=False, disable_numparse=True, colalign=align if escaped else None
    )


def escape(text: str) -> str:
    """Keep a cell in its cell: tabulate passes ``|``, line breaks and HTML through."""
    for character, replacement in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(character, replacement)
    return printable(text)
