"""The charts of a report: records in, matplotlib figures out."""

from __future__ import annotations

from matplotlib import rc_context

from xai_core.report.charts import area, distribution, means, ranks, time
from xai_core.report.charts.chart import STYLE, Chart, svg, write
from xai_core.report.summary import Summary, frame

__all__ = ["Chart", "draw", "svg", "write"]


def draw(summary: Summary) -> list[Chart]:
    """All charts that the run's records can fill, in the order in which a reader needs them.

    ``mean`` (the study's figure 7.6), ``nets-SIZE`` for each size (7.7 and 7.9; left out where a
    run of one net at one size would repeat ``mean``), ``distribution``, ``area``, ``ranks`` (left
    out where there are too few methods or images for the test), and ``time`` (left out without
    timings). Nets that were never trained have panels of their own.
    """
    if not summary.records:
        return []
    table = frame(summary.records)
    table["weights_random"] = table["weights_random"].astype(bool)
    with rc_context(STYLE):
        charts = [
            means.over_all(table, summary),
            *means.per_net(table, summary),
            distribution.draw(table, summary),
            area.draw(table, summary),
            ranks.draw(table, summary),
            time.draw(summary),
        ]
    return [chart for chart in charts if chart is not None]
