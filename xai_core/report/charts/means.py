"""Mean P as bars: over all records (the study's figure 7.6), and per net (7.7 and 7.9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from xai_core.files import file_name
from xai_core.report.charts import marks, parts
from xai_core.report.charts.chart import Chart
from xai_core.report.charts.sheet import (
    PanelTitle,
    Rows,
    Sheet,
    label_room,
    label_rows,
    method_rows,
    sheet,
)
from xai_core.report.charts.text import SMALL, counted, listed, width
from xai_core.report.palette import INK, colour_of, lightened
from xai_core.report.ranking import in_order
from xai_core.report.summary import Summary

ROW, BAR = 0.168, 0.74
"""Height of a row in inches, and of a bar in rows."""

NUMBER = width("0.000", SMALL) + 0.08
"""Room for a number behind a bar, in inches."""

MANY = 4
"""Panels whose best method the alternative text names."""

ONE_IMAGE = "One image: no interval."
INTERVAL = "Whiskers: 95 % bootstrap interval over images."
HATCHED = "Hatched: random weights, never trained; their P is the architecture's own level."


@dataclass(frozen=True)
class Panel:
    """The bars of one part of a run.

    Attributes:
        title: above it.
        where: which nets, within a sentence.
        random: whether its nets were never trained.
        bars: index method; columns records, images, mean_p, low, high, chance.
    """

    title: PanelTitle
    where: str
    random: bool
    bars: pd.DataFrame


def over_all(table: pd.DataFrame, summary: Summary) -> Chart:
    """One bar a method; trained and random nets apart."""
    groups = parts.by_training(table)
    panels = [
        Panel(
            parts.panel_title(random, part, len(groups)),
            parts.training(random).lower(),
            random,
            _bars(part),
        )
        for random, part in groups
    ]
    return _chart("mean", "Mean concentration P of each method", panels, table, summary)


def per_net(table: pd.DataFrame, summary: Summary) -> list[Chart]:
    """One chart a size, one panel a net; none where `over_all` shows the same."""
    if len(table[["net", "size"]].drop_duplicates()) == 1:
        return []
    charts = []
    for size in parts.sizes_of(table):
        part = table[table["size"] == size]
        panels = [
            Panel(
                PanelTitle(net, f"{parts.training(random).lower()}, {parts.records(own)}"),
                f"{net} (random weights)" if random else net,
                random,
                _bars(own),
            )
            for net, random, own in parts.by_net(part)
        ]
        title = f"Mean concentration P per net, {parts.sizes(part)}"
        charts.append(_chart(f"nets-{file_name(size)}", title, panels, part, summary))
    return charts


def _bars(part: pd.DataFrame) -> pd.DataFrame:
    from xai_core.report.statistics import intervals

    bars: pd.DataFrame = intervals(part).set_index("method")
    bars["chance"] = part.groupby("method")["chance"].mean()
    return bars


def _chart(
    id: str, title: str, panels: Sequence[Panel], table: pd.DataFrame, summary: Summary
) -> Chart:
    rows = method_rows(parts.methods_of(table, summary), summary.titles, set(summary.baselines))
    room = label_room(rows)
    page = sheet(
        title,
        f"{parts.source(table)}. {_whiskers(panels)}",
        [panel.title for panel in panels],
        rows.count * ROW,
        room,
        notes=_notes(panels, summary),
        above=SMALL * 1.35 / 72,
    )
    highest = max(
        float(np.nanmax(panel.bars[["mean_p", "high", "chance"]].to_numpy())) for panel in panels
    )
    limit = max(highest, 0.01) / (1 - NUMBER / page.panel_width)
    for panel, axis, first, lowest in zip(
        panels, page.panels, page.first, page.bottom, strict=True
    ):
        _draw(axis, panel, rows, limit, page)
        label_rows(axis, rows, room, page, first)
        if lowest:
            axis.set_xlabel("mean P", fontsize=SMALL, color=INK, labelpad=1.5)
    return Chart(id, title, _alt(title, panels, summary), page.figure)


def _draw(axis: Axes, panel: Panel, rows: Rows, limit: float, page: Sheet) -> None:
    marks.grid(axis, marks.steps(min(limit, 1.0)))
    axis.set_xlim(0, limit)
    pad = 0.035 / page.panel_width * limit
    for row in rows.rows:
        if row.method not in panel.bars.index:
            marks.absent(axis, row.at)
            continue
        mean, low, high = (
            float(panel.bars[column][row.method]) for column in ("mean_p", "low", "high")
        )
        colour = colour_of(row.method)
        axis.barh(
            row.at,
            mean,
            height=BAR,
            color=lightened(colour, 0.72) if panel.random else colour,
            edgecolor=lightened(colour, 0.1) if panel.random else colour,
            hatch="//////" if panel.random else None,
            linewidth=0.6,
            zorder=2,
        )
        end = mean
        if np.isfinite(low) and np.isfinite(high):
            axis.plot(
                [low, high],
                [row.at, row.at],
                color=INK,
                linewidth=0.9,
                solid_capstyle="butt",
                path_effects=marks.HALO,
                zorder=3,
            )
            end = max(end, high)
        axis.text(
            end + pad,
            row.at,
            f"{mean:.3f}",
            fontsize=SMALL,
            color=INK,
            va="center_baseline",
            zorder=5,
            bbox=marks.PLATE,
        )
    marks.chance_line(axis, rows, parts.by_name(panel.bars["chance"]), page.panel_width)


def _whiskers(panels: Sequence[Panel]) -> str:
    defined = [bool(panel.bars["low"].notna().all()) for panel in panels]
    if all(defined):
        return INTERVAL
    return f"{INTERVAL} {ONE_IMAGE}" if any(defined) else ONE_IMAGE


def _notes(panels: Sequence[Panel], summary: Summary) -> list[str]:
    """What a reader must know to compare the bars."""
    notes = [HATCHED] if any(panel.random for panel in panels) else []
    fewer: Mapping[str, str] = {
        summary.titles.get(str(method), str(method)): (
            f"{int(records):,} of {int(panel.bars['records'].max()):,}"
        )
        for panel in panels
        for method, records in panel.bars["records"].items()
        if records < panel.bars["records"].max()
    }
    if fewer:
        each = listed([f"{name} ({share} records)" for name, share in fewer.items()])
        notes.append(f"Fewer records: {each}; compare per net.")
    return notes


def _alt(title: str, panels: Sequence[Panel], summary: Summary) -> str:
    """What the chart says, in few words also where there are many panels."""
    if len(panels) <= MANY:
        best = "; ".join(f"{_highest(panel, summary)}, {panel.where}" for panel in panels)
    else:
        names = Counter(_name(in_order(panel.bars["mean_p"]).index[0], summary) for panel in panels)
        best = "; ".join(f"{name} in {n} of {len(panels)} nets" for name, n in names.most_common())
    chance = np.mean([panel.bars["chance"].mean() for panel in panels])
    count = counted(max(len(panel.bars) for panel in panels), "method")
    return f"{title}, bars of {count}. Highest mean P: {best}. Chance is {chance:.3f}."


def _highest(panel: Panel, summary: Summary) -> str:
    means = in_order(panel.bars["mean_p"])
    if len(means) > 1 and means.nunique() == 1:
        return f"all methods {means.iloc[0]:.3f}"
    best = str(means.index[0])
    bar = panel.bars.loc[best]
    figures = f"{_name(best, summary)} {bar['mean_p']:.3f}"
    if np.isfinite(bar["low"]):
        figures += f" ({bar['low']:.3f} to {bar['high']:.3f})"
    return figures


def _name(method: object, summary: Summary) -> str:
    return summary.titles.get(str(method), str(method))
