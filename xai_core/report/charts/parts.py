"""The parts of a run that have panels of their own, and what they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pandas as pd

from xai_core.report.charts.sheet import PanelTitle
from xai_core.report.charts.text import counted, listed
from xai_core.report.summary import Summary
from xai_core.types import ORIGINAL

FEW = 3
"""Names are listed up to this many, then counted."""


def methods_of(table: pd.DataFrame, summary: Summary) -> list[str]:
    """Those that have records, in the summary's order; those it doesn't know last."""
    present = set(table["method"])
    known = [method for method in summary.titles if method in present]
    return known + sorted(present - set(known))


def sizes_of(table: pd.DataFrame) -> list[str]:
    """Original size first, then growing."""
    return sorted(set(table["size"]), key=_by_pixels)


def by_training(table: pd.DataFrame) -> list[tuple[bool, pd.DataFrame]]:
    """(random, records) of trained nets, then of nets that were never trained; as far as any."""
    groups = table.groupby("weights_random", sort=True)
    return [(bool(random), part) for random, part in groups]


def by_net(table: pd.DataFrame) -> list[tuple[str, bool, pd.DataFrame]]:
    """(net, random, records), trained nets first."""
    groups = table.groupby(["weights_random", "net"], sort=True)
    return [(str(key[1]), bool(key[0]), part) for key, part in groups]


def source(table: pd.DataFrame) -> str:
    """``1,746 records: 291 samples in 130 images of scenes, vgg19 (trained), size 224``."""
    data = listed(sorted(set(table["data"])))
    return (
        f"{records(table)}: {counted(table['sample'].nunique(), 'sample')} in "
        f"{counted(table['image_id'].nunique(), 'image')} of {data}, {whose(table)}"
    )


def whose(table: pd.DataFrame) -> str:
    """``vgg19 (trained), size 224``; whether it was trained only where all nets agree."""
    weights = set(table["weights_random"])
    kind = f" ({training(bool(*weights)).lower()})" if len(weights) == 1 else ""
    return f"{nets(table)}{kind}, {sizes(table)}"


def records(table: pd.DataFrame) -> str:
    """``1,746 records``."""
    return counted(len(table), "record")


def nets(table: pd.DataFrame) -> str:
    """Their names, or their number if there are many."""
    names = sorted(cast(Sequence[str], table["net"].unique()))
    return listed(names) if len(names) <= FEW else counted(len(names), "net")


def sizes(table: pd.DataFrame) -> str:
    """``size 224``, ``original size``, ``sizes original and 224``."""
    names = sizes_of(table)
    if len(names) > 1:
        return f"sizes {listed(names)}"
    return "original size" if names[0] == ORIGINAL else f"size {names[0]}"


def training(random: bool) -> str:
    """Whether a panel's nets were trained, in its title."""
    return "Random weights" if random else "Trained"


def panel_title(random: bool, part: pd.DataFrame, panels: int) -> PanelTitle:
    """Of a panel that holds all nets that were trained, or all that were not.

    Alone it needs none: the chart's subtitle says the same.
    """
    if panels == 1:
        return PanelTitle("")
    return PanelTitle(training(random), f"{nets(part)}, {records(part)}")


def by_name(values: pd.Series[float]) -> dict[str, float]:
    """A series with methods as its index."""
    return {str(method): float(value) for method, value in values.items()}


def _by_pixels(size: str) -> tuple[int, str]:
    return (0, "") if size == ORIGINAL else (int(size) if size.isdecimal() else 10**9, size)
