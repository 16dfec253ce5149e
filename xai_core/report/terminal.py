"""The main table for the terminal."""

from __future__ import annotations

from tabulate import tabulate

from xai_core.report.markdown import headline_rows
from xai_core.report.summary import Summary


def render(summary: Summary) -> str:
    """The main table, once for trained and once for random nets, and what is missing."""
    lines = []
    for caption, header, rows in headline_rows(summary):
        align = ["left", *["right"] * (len(header) - 1)]
        lines += [caption.replace("**", ""), ""]
        rows = [[row[0].strip("*"), *row[1:]] for row in rows]
        lines += [tabulate(rows, header, disable_numparse=True, colalign=align), ""]
    skipped, failed = (sum(gap.cells for gap in gaps) for gaps in (summary.skipped, summary.failed))
    state = "PARTIAL: " if summary.partial else ""
    lines.append(
        f"{state}{len(summary.records)} records of {summary.planned} planned, "
        f"{skipped} skipped, {failed} failed"
    )
    return "\n".join(lines)
