"""The methods' ranks over images: one rule for tables and charts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from xai_core import stats

CELL = ["image_id", "net", "size", "sample"]


@dataclass(frozen=True)
class Blocks:
    """Mean P of each method on each image, over the cells (net, size, sample) that all have.

    Attributes:
        means: one row an image, one column a method; equal where they differ by rounding alone.
        table: the records behind it.
        without: methods left out, because they share no cell with all others.
    """

    means: pd.DataFrame
    table: pd.DataFrame
    without: tuple[str, ...]

    @property
    def ranks(self) -> pd.Series[float]:
        """Mean rank over images by method, 1 = highest P; methods that tie share their rank."""
        return self.means.rank(axis=1, ascending=False).mean()


def blocks(table: pd.DataFrame) -> Blocks:
    """Images as blocks; methods that leave no cell to all others are left out, rarest first."""
    cells = table.pivot_table(index=CELL, columns="method", values="concentration")
    without: list[str] = []
    while len(cells.columns) > 1 and cells.dropna().empty:
        rarest = str(cells.count().idxmin())
        without.append(rarest)
        cells = cells.drop(columns=rarest)
    cells = cells.dropna()
    kept = table[~table["method"].isin(without)].merge(cells.index.to_frame(index=False), on=CELL)
    means = cells.groupby("image_id").mean()
    tied = pd.DataFrame(stats.tied(means.to_numpy()), means.index, means.columns)
    return Blocks(tied, kept, tuple(without))


def in_order(means: pd.Series[float]) -> pd.Series[float]:
    """Values of P by method, highest first; those that tie are equal, in their own order."""
    tied = pd.Series(stats.tied(np.asarray(means, dtype=np.float64)), means.index)
    return tied.sort_values(ascending=False, kind="stable")
