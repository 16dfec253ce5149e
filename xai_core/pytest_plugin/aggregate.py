"""On the controller: what was planned, what became of it, and the report at the end."""

from __future__ import annotations

import os
import platform
import shlex
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest

from xai_core.pytest_plugin.folder import MANIFEST, discard, ensure_open
from xai_core.pytest_plugin.run import Run
from xai_core.pytest_plugin.timing import nothing_compared
from xai_core.report.recognition import recognitions, unrecognised
from xai_core.report.summary import Gap, Summary, Timing, split
from xai_core.store import PARTS, sorted_records

if TYPE_CHECKING:
    from xai_core.pytest_plugin.gate import Gate
    from xai_core.types import Record

TIMING_PROPERTY = "engine_seconds"
CRASHED = "???"
"""The phase that pytest-xdist gives the test at which a worker died."""

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
        self._cells = 0
        self._passed: set[Cell] = set()
        self._gaps: dict[Cell, tuple[str, str]] = {}  # cell: (skipped or failed, reason)
        self._broken: dict[str, str] = {}  # failed tests that judge no record: reason
        self._timings: list[Timing] = []
        self._no_timings = NOT_TIMED
        self._interrupted: str | None = None
        self._summary: Summary | None = None
        self._problem: str | None = None
        self._no_times_compared: str | None = None

    # ---- listening ---------------------------------------------------------------------------

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember what will run in this process."""
        self._planned |= dict.fromkeys(item.nodeid for item in session.items)
        if any(cell_of(item) for item in session.items) and not is_dry(self._config):
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
        elif cell and report.when == "call":
            self._passed.add(cell)
        elif report.failed:
            self._broken[report.nodeid] = _reason(report)
            if report.when == CRASHED:
                self._interrupted = "a worker process crashed"
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
        self._interrupted = f"interrupted: {str(excinfo.value) or excinfo.typename}"
        excinfo.traceback = excinfo.traceback.filter(_has_line)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Remember that pytest or a plugin broke: tests may be lost."""
        self._interrupted = f"internal error: {str(excrepr).strip().splitlines()[-1]}"

    # ---- at the end --------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)  # before the junitxml file is written
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the report; a run that lost something without a word does not exit 0."""
        if is_dry(self._config):
            return
        unexplained = sorted(self._planned.keys() - self._explained)
        if self._interrupted is None and (session.shouldstop or session.shouldfail):
            self._interrupted = str(session.shouldstop or session.shouldfail)
        if self._passed or self._gaps or (self._run.folder / PARTS).is_dir():
            try:
                self._report(unexplained)
            except (OSError, pytest.UsageError) as error:
                self._problem = f"the report can't be written: {error}"
        else:
            if self._gate and self._gate.compares:
                self._problem = "no record was computed: the gate has nothing to compare"
            if not self._run.options.resume:
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
        elif (self._gate and self._gate.failed) or (
            self._no_times_compared and self._config.getoption("benchmark_compare_fail", None)
        ):
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
        if self._summary and not self._problem:
            from xai_core.report.build import main_file

            write(f"report: {main_file(self._run.folder)}")
        if self._problem:
            write(f"ERROR: {self._problem}", red=True)

    def _open(self) -> None:
        try:
            ensure_open(self._run)
        except pytest.UsageError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.USAGE_ERROR)

    def _report(self, unexplained: list[str]) -> None:
        from xai_core.report import build, step_summary
        from xai_core.report.verdict import outcome

        run = self._run
        ensure_open(run)  # under xdist nobody may have done so yet
        outcomes = {outcome.cell: outcome for outcome in run.store.all()}
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
            baselines=[name for name, method in run.methods.items() if method.baseline],
            recognition=recognitions(outcomes.values(), run.specs, top) if top else (),
            skipped=_group(gaps, "skipped"),
            failed=_group(self._gaps, "failed"),
            broken=[Gap(test, reason, 0) for test, reason in sorted(self._broken.items())],
            unexplained=unexplained,
            interrupted=self._interrupted,
            timings=self._timings,
            no_timings=self._no_timings,
            provenance=self._provenance(records),
        )
        self._summary = summary
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

    def _is_ours(self) -> bool:
        """Whether the session had items of this suite."""
        return bool(self._cells or self._timings or self._no_timings != NOT_TIMED)

    def _record_property(self, name: str, value: str) -> None:
        """Into the junitxml file, if one is written."""
        for plugin in self._config.pluginmanager.get_plugins():
            record = getattr(plugin, "add_global_property", None)
            if callable(record):
                record(name, value)

    def _provenance(self, records: Sequence[Record]) -> dict[str, str]:
        run, options = self._run, self._run.options
        samples = run.samples.values()
        classes = Counter(sample.category for sample in samples)
        seconds = (datetime.now().astimezone() - run.started).total_seconds()

        def distinct(field: str) -> str:
            return ", ".join(sorted({str(getattr(record, field)) for record in records}))

        return {
            "Command": f"`pytest {shlex.join(self._config.invocation_params.args)}`",
            "Started": f"{run.started:%Y-%m-%d %H:%M:%S %z}",
            "Duration": f"{seconds:.0f} s, {run.place.workers} process(es)",
            "Data": (
                f"{run.data.name}: {len(samples)} samples (image and class) in "
                f"{len({sample.image_id for sample in samples})} images; seed {options.seed}, at "
                f"most {options.per_class} per class, mask {options.min_area:.0%} to "
                f"{options.max_area:.0%} of the image; listed in {MANIFEST}"
            ),
            "Samples per class": ", ".join(f"{name} {n}" for name, n in sorted(classes.items())),
            **self._class_map(),
            "Mask": f"union of the class's instances, its area dilated by {options.dilation:.0%}",
            "CAM": "relu(M_c): evidence against the class is not counted",
            "Arithmetic": (
                f"engine {distinct('engine')}, {distinct('dtype')} on {distinct('device')}, "
                f"{distinct('threads')} thread(s), batch {distinct('batch_size')}"
            ),
            "Versions": _versions(),
            "Machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        }

    def _class_map(self) -> dict[str, str]:
        """What of the user's class map was used; nothing without one."""
        source = self._run.class_map.source
        used = {sample.category: sample.class_indices for sample in self._run.samples.values()}
        pairs = (f"{name} {', '.join(map(str, used[name]))}" for name in sorted(used))
        return {"Class map": f"{source}: {'; '.join(pairs)}"} if source else {}


def _versions() -> str:
    packages = ("torch", "torchvision", "numpy", "pytest", "pytest-benchmark", "pycocotools")
    found = [f"{package} {version(package)}" for package in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return text.strip().splitlines()[0].removeprefix("Failed: ") if text.strip() else "no reason"


def _group(gaps: dict[Cell, tuple[str, str]], kind: str) -> list[Gap]:
    counts = Counter(
        (f"{method} on {net}", reason)
        for (net, _, _, method), (found, reason) in gaps.items()
        if found == kind
    )
    return [Gap(what, reason, cells) for (what, reason), cells in sorted(counts.items())]


def _has_line(entry: Any) -> bool:
    """Whether this entry of a traceback is at a line.

    Python compiles a few instructions that belong to none. pytest 9.2 can't show a traceback that
    holds one: Ctrl-C there would end in a TypeError and exit code 1.
    """
    try:
        entry.lineno  # noqa: B018
    except TypeError:
        return False
    return True
