"""What a report is made from, and the records as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from xai_core.report.recognition import Recognition
from xai_core.types import Record

if TYPE_CHECKING:
    import pandas as pd

CHANCE = "Chance"


@dataclass(frozen=True)
class Gap:
    """Cells without a record that share a reason.

    Attributes:
        what: e.g. ``cam on vgg19``.
        reason: one sentence.
        cells: how many.
    """

    what: str
    reason: str
    cells: int


@dataclass(frozen=True)
class Timing:
    """One benchmark of one method alone on one image, in seconds.

    Attributes:
        net: id of the net.
        size: ``original`` or N.
        method: id of the method.
        median: median over the rounds.
        iqr: interquartile range.
        rounds: number of timed rounds.
    """

    net: str
    size: str
    method: str
    median: float
    iqr: float
    rounds: int


@dataclass(frozen=True)
class Summary:
    """One run, ready to be rendered.

    Attributes:
        name: of the run.
        records: sorted.
        planned: number of records that the run set out to compute.
        titles: method id to its name in the literature, in the order of tables and charts.
        randomised: records of nets whose weights went through a cascading randomisation.
        recognition: by net and size, if only samples that a net recognises were asked for.
        skipped: cells whose method is not defined there, or that the user left out.
        failed: cells that went wrong.
        broken: failed tests that judge no single record, invariants for example.
        unexplained: planned tests of which nothing is known.
        interrupted: why the run ended early; None if it didn't.
        timings: of single methods, from pytest-benchmark.
        no_timings: why there are none.
        provenance: heading to sentence or value, in order.
        session: of the run that wrote this: 1, and one more each time that it was resumed.
    """

    name: str
    records: Sequence[Record]
    planned: int
    titles: Mapping[str, str]
    randomised: Sequence[Record] = ()
    recognition: Sequence[Recognition] = ()
    skipped: Sequence[Gap] = ()
    failed: Sequence[Gap] = ()
    broken: Sequence[Gap] = ()
    unexplained: Sequence[str] = ()
    interrupted: str | None = None
    timings: Sequence[Timing] = ()
    no_timings: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    session: int = 1

    @property
    def cells(self) -> set[tuple[str, str, str, str]]:
        """(net, size, sample, method) of every record."""
        return {record.cell for record in [*self.records, *self.randomised]}

    @cached_property
    def baselines(self) -> list[str]:
        """Ids of the reference methods, as the records say, sorted."""
        both = [*self.records, *self.randomised]
        return sorted({record.method for record in both if record.reference})

    @property
    def computed(self) -> int:
        """How many records there are."""
        return len(self.records) + len(self.randomised)

    @property
    def partial(self) -> bool:
        """Whether records are missing that no skip explains."""
        return bool(
            self.failed
            or self.unexplained
            or self.interrupted
            or self.computed + sum(gap.cells for gap in self.skipped) < self.planned
        )


def split(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Records of the nets themselves, and of their randomised copies."""
    own = [record for record in records if not record.randomised]
    return own, [record for record in records if record.randomised]


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record, one column a field or metric."""
    import pandas as pd  # here: a run that only starts has no use for it

    return pd.DataFrame([record.row() for record in records])


def by_method(table: pd.DataFrame, keys: Sequence[str] = ("method",)) -> pd.DataFrame:
    """Concentration by the given columns, in the style of the study's Table 7.1.

    Columns: records, sum, mean and median of P (a map of zeros counts as P = 0), chance (mean share
    of the dilated mask), gain (mean P / chance), below_chance (share of records whose P is below
    their own chance), zero_energy and dead_logit (counts), mean_alive (mean P without maps of
    zeros; NaN if there is no other).
    """
    import pandas as pd

    below = table["concentration"] < table["chance"] * (1 - 1e-6)  # uniform maps are not below
    groups = table.assign(below_chance=below).groupby(list(keys), sort=True)
    result = pd.DataFrame(
        {
            "records": groups.size(),
            "sum_p": groups["concentration"].sum(),
            "mean_p": groups["concentration"].mean(),
            "median_p": groups["concentration"].median(),
            "chance": groups["chance"].mean(),
            "below_chance": groups["below_chance"].mean(),
            "zero_energy": groups["zero_energy"].sum(),
            "dead_logit": groups["dead_logit"].sum(),
        }
    )
    result["gain"] = result["mean_p"] / result["chance"]
    alive = table[~table["zero_energy"].astype(bool)].groupby(list(keys))["concentration"].mean()
    result["mean_alive"] = alive.reindex(result.index)
    return result.reset_index()
