"""What a gate found, one thing at a time, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LISTED = 10
"""Rows of a finding's table, at most."""

Row = Sequence[object]
Cell = tuple[str, str, str, str]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: a few words.
        failed: whether it fails the gate.
        sentence: what was found.
        header: of the table; empty without one.
        rows: of the table; at most `LISTED`.
        cells: the cells that the rows are about, for links to their pictures.
        judged: whether there was something to judge; what wasn't judged is not "ok".
    """

    what: str
    failed: bool
    sentence: str
    header: Sequence[str] = ()
    rows: Sequence[Row] = ()
    cells: Sequence[Cell] = ()
    judged: bool = True

    @property
    def mark(self) -> str:
        """``FAILED``, ``not judged`` or ``ok``."""
        if self.failed:
            return "FAILED"
        return "ok" if self.judged else "not judged"


@dataclass(frozen=True)
class Verdict:
    """All findings.

    Attributes:
        findings: in the order in which they were looked at.
        compared: number of records that both sides have.
        exact: whether everything that decides P is the same on both sides.
    """

    findings: Sequence[Finding] = field(default_factory=tuple)
    compared: int = 0
    exact: bool = False

    @property
    def failed(self) -> bool:
        """Whether any finding fails the gate."""
        return any(finding.failed for finding in self.findings)
