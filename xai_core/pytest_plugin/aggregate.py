"""On the controller: what was planned, what became of it, and the report at the end."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from xai_core.files import printable
from xai_core.pytest_plugin.folder import discard, ensure_open
from xai_core.pytest_plugin.interrupts import has_line, held
from xai_core.pytest_plugin.provenance import provenance
from xai_core.pytest_plugin.run import Run
from xai_core.pytest_plugin.timing import nothing_compared
from xai_core.records import sorted_records
from xai_core.report.recognition import recognitions, unrecognised
from xai_core.report.summary import Gap, Summary, Timing, split
from xai_core.store import PARTS

if TYPE_CHECKING:
    from xai_core.pytest_plugin.gate import Gate

TIMING_PROPERTY = "engine_seconds"
CRASHED = "???"
"""The phase that pytest-xdist and pytest-forked give a test whose process died."""

NOT_TIMED = "no timing test ran"

PARAMETERS = ("net", "size", "sample", "method")
Cell = tuple[str, str, str, str]

SHOW_ONLY = (
    *("collectonly", "setupplan", "help", "markers"),
    *("showfixtures", "show_fixtures_per_test", "cacheshow"),
)


def is_dry(config: pytest.Config) -> bool:
    """Whether the session only shows what it would do, or nothing of the suite at all."""
    return any(getattr(config.option, option, False) for option in SHOW_ONLY)


def cell_of(item: pytest.Item) -> Cell | None:
    """The (net, size, sample, method) whose record an item judges; None for other items."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or "outcome" not in getattr(item, "fixturenames", ()):
        return None
    params = callspec.params
    if not params.keys() >= set(PARAMETERS):
        return None
    return params["net"], params["size"], params["sample"], params["method"]


class Aggregator:
    """Collects pytest's reports, checks that nothing planned went missing, writes the files."""

    def __init__(self, config: pytest.Config, run: Run, gate: Gate | None = None) -> None:
        self._config = config
        self._run = run
        self._gate = gate
        self._planned: dict[str, None] = {}
        self._explained: set[str] = set()
        self._asked = False  # for records, as far as this process knows
        self._cells = 0
        self._passed: set[Cell] = set()
        self._gaps: dict[Cell, tuple[str, str]] = {}  # cell: (skipped or failed, reason)
        self._broken: dict[str, str] = {}  # failed tests that judge no record: reason
        self._timings: list[Timing] = []
        self._no_timings = NOT_TIMED
        self._interrupted: str | None = None
        self._summary: Summary | None = None
        self._problem: str | None = None
        self._damaged: tuple[str, ...] = ()  # part files
        self._no_times_compared: str | None = None

    # ---- listening ---------------------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what will run in this process."""
        self._planned |= dict.fromkeys(item.nodeid for item in session.items)
        self._asked = any(cell_of(item) for item in session.items)
        if self._asked and not is_dry(self._config):
            self._open()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Remember what will run in the workers."""
        self._planned |= dict.fromkeys(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what became of an item."""
        self._explained.add(report.nodeid)
        self._cells = max(self._cells, getattr(report, "xai_planned", 0))
        cell: Cell | None = tuple(getattr(report, "xai_cell", ())) or None
        if cell and (report.failed or report.skipped):
            self._gaps[cell] = "failed" if report.failed else "skipped", _reason(report)
        elif cell and report.passed and report.when == "call":  # not one that is tried again
            self._passed.add(cell)
        elif report.failed:
            self._broken[report.nodeid] = _reason(report)
            if report.when == CRASHED:
                self._interrupted = "the process of a test crashed"
        for name, value in report.user_properties:
            if name != TIMING_PROPERTY or report.when != "call":
                continue
            if isinstance(value, dict):
                self._timings.append(Timing(**value))
            else:
                self._no_timings = str(value)

    @pytest.hookimpl(tryfirst=True)  # before the terminal's, which shows the traceback
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember that the user, or ``pytest.exit``, ended the run."""
        self._interrupted = f"interrupted: {printable(str(excinfo.value)) or excinfo.typename}"
        excinfo.traceback = excinfo.traceback.filter(has_line)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Remember that pytest or a plugin broke: tests may be lost."""
        last = str(excrepr).strip().splitlines()[-1]
        self._interrupted = f"internal error: {printable(last)}"

    # ---- at the end --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)  # before the junitxml file is written
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the report; a run that lost something without a word does not exit 0."""
        if is_dry(self._config):
            return
        unexplained = sorted(self._planned.keys() - self._explained)
        if self._interrupted is None and (session.shouldstop or session.shouldfail):
            self._interrupted = printable(str(session.shouldstop or session.shouldfail))
        has_parts = (self._run.folder / PARTS).is_dir()
        ended_early = (self._asked or self._interrupted) and has_parts
        if self._passed or self._gaps or ended_early:
            try:
                self._report(unexplained)
            except (OSError, pytest.UsageError) as error:
                self._problem = f"the report can't be written: {error}"
            except Exception as error:  # else Python would exit 1, as a failed gate does
                traceback.print_exc()
                self._problem = f"internal error, no report: {type(error).__name__}: {error}"
            except KeyboardInterrupt:
                again = f"python -m xai_core report {self._run.folder}"
                self._problem = f"interrupted while the report was written; again: {again}"
                session.exitstatus = pytest.ExitCode.INTERRUPTED
        else:
            if self._gate and self._gate.compares:
                self._problem = (
                    "no record was asked for: the gate has judged nothing"
                    if self._run.options.resume
                    else "no record was computed: the gate has nothing to compare"
                )
            if not (self._run.options.resume or has_parts):
                discard(self._run.folder)
        lost = self._passed - self._summary.cells if self._summary else ()
        if lost:
            self._problem = f"{len(lost)} records that passed are not in the part files"
        elif unexplained and session.exitstatus == pytest.ExitCode.OK:
            self._problem = f"{len(unexplained)} planned tests neither ran nor were skipped"
        elif self._interrupted and session.exitstatus == pytest.ExitCode.OK:
            self._problem = self._interrupted
        self._no_times_compared = nothing_compared(self._config) if self._is_ours() else None
        if session.exitstatus != pytest.ExitCode.OK:
            return
        if self._problem:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        elif self._gate and self._gate.status != pytest.ExitCode.OK:
            session.exitstatus = self._gate.status
        elif self._no_times_compared and self._config.getoption("benchmark_compare_fail", None):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Print the main table and where the rest is: last, even if another plugin raises."""
        try:
            return (yield)
        finally:
            self._print(terminalreporter)

    def _print(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        if self._no_times_compared:
            write(f"ERROR: no time was compared: {self._no_times_compared}", red=True)
        if self._summary and (self._summary.records or self._summary.recognition):
            from xai_core.report.terminal import render

            terminalreporter.section("concentration of attribution energy")
            write(render(self._summary))
        if self._gate and self._summary:
            terminalreporter.section("concentration gate")
            for line in self._gate.lines():
                write(line)
        if self._damaged:
            write(
                f"WARNING: {len(self._damaged)} damaged part file(s) left out, first "
                f"{printable(self._damaged[0])}",
                yellow=True,
            )
        if self._summary and not self._problem:
            from xai_core.report.build import main_file

            write(f"report: {main_file(self._run.folder)}")
        if self._problem:
            write(f"ERROR: {printable(self._problem)}", red=True)

    def _open(self) -> None:
        try:
            ensure_open(self._run)
        except pytest.UsageError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)

    def _report(self, unexplained: list[str]) -> None:
        from xai_core.report import build, step_summary
        from xai_core.report.verdict import outcome

        run = self._run
        with held():
            summary = self._summarised(unexplained)
            build.tables(summary, run.folder)
            step_summary.append(summary)
        if self._gate:
            whole = not (summary.partial or summary.broken)
            self._gate.finish(summary, run.folder, whole)
            if self._gate.verdict:
                self._record_property("concentration_gate", outcome(self._gate.verdict))
        if run.options.report == "full":
            try:
                build.pictures(summary, run.folder)
            except Exception as error:  # the tables must be shown, whatever happens to a picture
                reason = f"{type(error).__name__}: {error}"
                self._problem = f"charts, gallery and page can't be made: {reason}"

    def _summarised(self, unexplained: list[str]) -> Summary:
        """What the parts hold, and what became of the rest."""
        run = self._run
        ensure_open(run)  # under xdist nobody may have done so yet
        contents = run.store.contents()
        self._damaged = contents.damaged
        outcomes = {outcome.cell: outcome for outcome in contents.outcomes}
        records = sorted_records(outcomes.values())
        own, randomised = split(records)
        there = {record.cell for record in records}
        gaps = {cell: gap for cell, gap in self._gaps.items() if cell not in there}
        top = run.options.recognised
        for cell in gaps.keys() & unrecognised(outcomes.values()):  # ranks apart, for one reason
            gaps[cell] = "skipped", f"class not among the net's top {top}: --recognised {top}"
        summary = Summary(
            name=run.folder.name,
            records=own,
            randomised=randomised,
            planned=max(self._cells, len(there | gaps.keys())),
            titles={name: method.title for name, method in run.methods.items()},
            recognition=recognitions(outcomes.values(), run.specs, top) if top else (),
            skipped=_group(gaps, "skipped"),
            failed=_group(self._gaps, "failed"),
            broken=[Gap(test, reason, 0) for test, reason in sorted(self._broken.items())],
            unexplained=unexplained,
            interrupted=self._interrupted,
            timings=self._timings,
            no_timings=self._no_timings,
            provenance=provenance(run, self._config.invocation_params.args, records),
            session=run.place.session,
        )
        self._summary = summary
        return summary

    def _is_ours(self) -> bool:
        """Whether the session had items of this suite."""
        return bool(self._cells or self._timings or self._no_timings != NOT_TIMED)

    def _record_property(self, name: str, value: str) -> None:
        """Into the junitxml file, if one is written."""
        for plugin in self._config.pluginmanager.get_plugins():
            record = getattr(plugin, "add_global_property", None)
            if callable(record):
                record(name, value)


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return printable(str(report.longrepr[2]).removeprefix("Skipped: "))
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    first = text.strip().splitlines()[0] if text.strip() else "no reason"
    return printable(first.removeprefix("Failed: "))


def _group(gaps: dict[Cell, tuple[str, str]], kind: str) -> list[Gap]:
    counts = Counter(
        (f"{method} on {net}", reason)
        for (net, _, _, method), (found, reason) in gaps.items()
        if found == kind
    )
    return [Gap(what, reason, cells) for (what, reason), cells in sorted(counts.items())]
