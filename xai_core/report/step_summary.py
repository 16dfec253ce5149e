"""The tables on the summary page of a GitHub Actions job."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xai_core.report import markdown
from xai_core.report.summary import Summary

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 1024 * 1024
"""Bytes that GitHub shows of one step; a longer summary is dropped as a whole."""


def append(summary: Summary) -> None:
    """Append the report to the file that ``$GITHUB_STEP_SUMMARY`` names, if it is set.

    Raises:
        OSError: the file can't be written.
    """
    append_text(markdown.render(summary))


def append_text(text: str) -> None:
    """Append markdown in the same way.

    Raises:
        OSError: the file can't be written.
    """
    name = os.environ.get(VARIABLE)
    text = text.encode("utf-8", "backslashreplace").decode()
    if name:
        with Path(name).open("ab") as file:
            file.write(shortened(text).encode())


def shortened(text: str, limit: int = LIMIT) -> str:
    """The text's first sections, as many as fit into so many bytes."""
    if len(text.encode()) <= limit:
        return text
    note = "\n\nToo long for this page: the rest is in the run's `concentration.md`.\n"
    left = limit - len(note.encode())
    kept = ""
    for section in re.split(r"(?m)^(?=##? )", text):
        if len((kept + section).encode()) > left:
            break
        kept += section
    return kept.rstrip() + note
