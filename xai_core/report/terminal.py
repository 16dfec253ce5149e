"""The main table for the terminal."""

from __future__ import annotations

from tabulate import tabulate

from xai_core.files import printable
from xai_core.report.markdown import headline_rows
from xai_core.report.recognition import nothing_recognised, sentences
from xai_core.report.summary import Summary

LEFT_OUT = {"Median P", "Below chance"}
"""Columns that the report has and a terminal has no room for."""


def render(summary: Summary) -> str:
    """The main table, once for trained and once for random nets, and what is missing."""
    lines = sentences(summary.recognition)
    nothing = nothing_recognised(summary.recognition)
    lines += [nothing] if nothing else []
    lines += [""] if lines else []
    for caption, header, rows in headline_rows(summary) if summary.records else ():
        kept = [at for at, name in enumerate(header) if name not in LEFT_OUT]
        align = ["left", *["right"] * (len(kept) - 1)]
        lines += [caption.replace("**", ""), ""]
        rows = [[row[0].strip("*"), *(row[at] for at in kept[1:])] for row in rows]
        header = [header[at] for at in kept]
        lines += [tabulate(rows, header, disable_numparse=True, colalign=align), ""]
    skipped, failed = (sum(gap.cells for gap in gaps) for gaps in (summary.skipped, summary.failed))
    reason = f" ({summary.interrupted})" if summary.interrupted else ""
    state = f"PARTIAL{reason}: " if summary.partial else ""
    lines.append(
        f"{state}{summary.computed} records of {summary.planned} planned, "
        f"{skipped} skipped, {failed} failed"
        + (f", {len(summary.unexplained)} unexplained" if summary.unexplained else "")
    )
    return "\n".join(printable(line) for text in lines for line in text.split("\n"))
