"""The gate's verdict, as markdown and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from xai_core.gate import Finding, Verdict
from xai_core.report.table import markdown_table


def render(
    verdict: Verdict, before: str, after: str, pages: Mapping[str, str] | None = None
) -> str:
    """The verdict, with a table for each finding that has one.

    Args:
        verdict: what was found.
        before: what the run was held against.
        after: the run.
        pages: column heading to the address of a report's page, for links to pictures.
    """
    parts = [f"# Gate: {outcome(verdict)}", f"{after} against {before}."]
    for finding in verdict.findings:
        parts.append(f"## {finding.mark}: {finding.what}")
        parts.append(finding.sentence)
        if finding.rows:
            parts.append(_table(finding, pages or {}))
    return "\n\n".join(parts) + "\n"


def outcome(verdict: Verdict) -> str:
    """``passed`` or ``FAILED``, how many records were compared, and what wasn't judged."""
    left = sum(not finding.judged for finding in verdict.findings if not finding.failed)
    return (
        f"{'FAILED' if verdict.failed else 'passed'}, {verdict.compared} records compared"
        f"{f', {left} not judged' if left else ''}"
    )


def last_line(verdict: Verdict, against: str) -> str:
    """What a terminal ends with."""
    return f"gate {outcome(verdict)}, against {against}"


def lines(verdict: Verdict) -> list[str]:
    """One line a finding, and the tables of those that failed."""
    found = []
    for finding in verdict.findings:
        found.append(f"{finding.mark}  {finding.what}: {finding.sentence}")
        if finding.failed and finding.rows:
            found += ["", _table(finding, {}), ""]
    return found


def github_commands(verdict: Verdict) -> list[str]:
    """GitHub's commands that show each failure beside the commit."""
    return [
        f"::error title={_command(f'concentration gate, {finding.what}', ':,')}::"
        f"{_command(finding.sentence, '')}"
        for finding in verdict.findings
        if finding.failed
    ]


def _table(finding: Finding, pages: Mapping[str, str]) -> str:
    shown = pages if len(finding.cells) == len(finding.rows) else {}
    rows = [[_text(value) for value in row] for row in finding.rows]
    for row, (net, _, sample, _) in zip(rows, finding.cells if shown else (), strict=False):
        row += [f"[map]({page}#map={quote(f'{net}/{sample}', safe='')})" for page in shown.values()]
    return markdown_table([*finding.header, *shown], rows)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _command(text: str, more: Sequence[str]) -> str:
    """Characters that mean something in GitHub's commands, escaped as its toolkit does."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text
