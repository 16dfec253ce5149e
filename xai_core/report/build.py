"""All files of a run's report, written into the run's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from xai_core.files import write_atomically
from xai_core.report import exp_json, markdown, previews, saved
from xai_core.report.summary import Summary

TABLES = "concentration.md"
PAGE = "report.html"
CHARTS = "charts"
GALLERY = "gallery"


def tables(summary: Summary, folder: Path) -> None:
    """Write records and tables: what must not be lost, and takes no time. The records come first.

    Raises:
        OSError: a file can't be written.
    """
    for name, text in saved.dump(summary).items():
        write_atomically(folder / name, text.encode())
    write_atomically(folder / "exp.json", exp_json.render(summary.records).encode())
    write_atomically(folder / TABLES, _encoded(markdown.render(summary)))


def pictures(summary: Summary, folder: Path) -> None:
    """Write charts, gallery and page, instead of those that are there.

    Raises:
        OSError: a file can't be written.
    """
    # Imported here: matplotlib takes a second, and tables do without.
    from xai_core.report import charts, gallery, html

    (folder / PAGE).unlink(missing_ok=True)
    for name in (CHARTS, GALLERY):
        if (folder / name).is_symlink():  # what it leads to isn't ours
            (folder / name).unlink()
        shutil.rmtree(folder / name, ignore_errors=True)
    if not summary.records:
        return
    drawn = charts.draw(summary)
    for chart in drawn:
        charts.write(chart, folder / CHARTS)
    maps = folder / previews.FOLDER
    gallery.write(summary, maps, folder / GALLERY)
    page = html.render(summary, drawn, maps)
    write_atomically(folder / PAGE, _encoded(page))


def _encoded(text: str) -> bytes:
    """As UTF-8; what of a name is no text is written as it was escaped by Python."""
    return text.encode("utf-8", "backslashreplace")


def main_file(folder: Path) -> Path:
    """What to open first: the page, or the tables where there is none."""
    page = folder / PAGE
    return page if page.exists() else folder / TABLES
