"""The report as one page that needs no network: tables, charts, maps and all records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from xai_core.report import markdown
from xai_core.report.charts import svg
from xai_core.report.html import pictures, rows
from xai_core.report.html.prose import to_html

if TYPE_CHECKING:
    from xai_core.report.charts import Chart
    from xai_core.report.summary import Summary

FORMATS = ("png", "svg", "pdf", "eps")


def render(summary: Summary, charts: Sequence[Chart], previews: Path) -> str:
    """The page.

    Args:
        summary: of the run.
        charts: drawn from it.
        previews: folder of the run's previews; those that fit are taken into the page.
    """
    environment = Environment(
        loader=PackageLoader("xai_core.report.html", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader
    assert source is not None

    def text(name: str) -> Markup:
        return Markup(source.get_source(environment, name)[0])

    chosen = pictures.choose(summary, previews)
    return environment.get_template("page.html.j2").render(
        title=summary.name,
        head=to_html(markdown.head(summary)),
        body=to_html(markdown.body(summary)),
        charts=[(chart, Markup(svg(chart))) for chart in charts],
        formats=FORMATS,
        style=text("page.css"),
        script=text("page.js"),
        data={
            "titles": {m: summary.titles.get(m, m) for m in _methods(summary)},
            "baselines": list(summary.baselines),
            "records": rows.columns(summary),
            "pictures": chosen.entries,
            "samples": chosen.samples,
            "heat": pictures.heat_colours(),
        },
        chosen=chosen,
        methods=[(m, summary.titles.get(m, m)) for m in _methods(summary)],
        nets=sorted({str(entry["net"]) for entry in chosen.entries}),
        records=len(summary.records),
    )


def _methods(summary: Summary) -> list[str]:
    there = {record.method for record in summary.records}
    known = [method for method in summary.titles if method in there]
    ordered = [*known, *sorted(there - set(known))]
    return sorted(ordered, key=lambda method: method in summary.baselines)
