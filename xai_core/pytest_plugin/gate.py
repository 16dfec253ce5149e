"""The regression gate of a session."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xai_core.errors import BadInput, DataMissing, XaiError
from xai_core.files import write_atomically
from xai_core.gate import Baseline, Verdict, baseline_of, judge, parse_rules
from xai_core.pytest_plugin.options import Options
from xai_core.report import baselines, build, step_summary, verdict

if TYPE_CHECKING:
    from xai_core.pytest_plugin.run import Run
    from xai_core.report.summary import Summary

FILE = "gate.md"


class Gate:
    """What was asked for, looked up before anything runs; a plugin, for its last line.

    Args:
        config: of the session.
        options: for the folder of all runs.

    Raises:
        pytest.UsageError: a rule, baseline or claim that can't be used.
    """

    def __init__(self, config: pytest.Config, options: Options) -> None:
        get = config.getoption
        self._config = config
        self._folder = options.report_dir / baselines.FOLDER
        self._has_page = options.report == "full"
        self._here = config.invocation_params.dir
        self._update: bool = get("update_baseline")
        self._accept_new: bool = get("accept_new")
        self._autosave: bool = get("concentration_autosave")
        given: list[str] = get("concentration_compare_fail")
        named, save_as = get("concentration_compare"), get("concentration_save")
        self.compares = bool(named or given or self._update or get("thresholds"))
        self.verdict: Verdict | None = None
        self.status = pytest.ExitCode.OK
        self._failure = ""
        self._notes: list[str] = []
        try:
            self._rules = parse_rules(given)
            self._against: Path | None = None
            if self.compares:
                name = named if isinstance(named, str) else save_as if self._update else None
                self._against = self._found(name)
            self._target = self._replaced(save_as)
            self._before: Baseline = {}
            if self._against and self._against.exists():
                self._before = baselines.load(self._against)
            thresholds = self._here / get("thresholds") if get("thresholds") else None
            self._claims_file, self._claims = (
                baselines.read_claims(thresholds, self._against) if self._against else (None, [])
            )
            if self._autosave and options.resume:
                self._ensure_new(self._folder / options.resume.name)
        except XaiError as error:
            raise pytest.UsageError(str(error)) from error

    def check(self, run: Run) -> None:
        """Refuse claims on what neither the baselines nor the plan of the run know.

        Raises:
            pytest.UsageError: a claim names another net or method.
        """
        try:
            if self._claims:
                self._check_claims({*run.nets}, {*run.methods})
        except XaiError as error:
            raise pytest.UsageError(str(error)) from error

    def finish(self, summary: Summary, run_folder: Path, complete: bool) -> None:
        """Judge, write the verdict down, and save what was to be saved.

        Args:
            summary: of the run.
            run_folder: where the verdict goes.
            complete: whether all that was planned was computed and no test failed.

        Raises:
            OSError: a file can't be written.
        """
        try:
            after = baseline_of(summary.records)
            if self._before:
                self._judge(after, summary.name, run_folder)
            self._save(after, summary.name, complete)
        except BadInput as error:
            self._fail(f"the gate can't judge: {error}", pytest.ExitCode.USAGE_ERROR)
        except OSError:
            raise
        except Exception as error:  # must not end with the exit code of a failed gate
            self._notes += traceback.format_exc().splitlines()
            reason = f"internal error: {type(error).__name__}: {error}"
            self._fail(f"the gate has judged nothing: {reason}", pytest.ExitCode.INTERNAL_ERROR)

    def lines(self) -> list[str]:
        """For the terminal."""
        found: list[str] = []
        if self.verdict:
            found += verdict.lines(self.verdict)
            found.append(self._outcome())
            if self.verdict.failed and self._update:
                found.append("accepted: --update-baseline")
        found += self._notes
        failed = self.verdict and self.status == pytest.ExitCode.TESTS_FAILED
        if failed and self.verdict and os.environ.get("GITHUB_ACTIONS") == "true":
            found += verdict.github_commands(self.verdict)
        return found

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """A gate that failed says so last: pytest's own last line counts tests only."""
        try:
            return (yield)
        finally:
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            if self.status != pytest.ExitCode.OK and terminal is not None:
                terminal.write_line(self._failure, red=True)

    def _judge(self, after: Baseline, name: str, run_folder: Path) -> None:
        self._check_claims(
            {entry.net for entry in after.values()}, {entry.method for entry in after.values()}
        )
        self.verdict = judge(
            self._before,
            after,
            self._rules,
            claims=self._claims,
            accept_new=self._accept_new or self._update,
        )
        pages = {}
        if self._has_page:  # it is written later
            pages["After"] = build.PAGE
        if self._against and (self._against / build.PAGE).exists():
            page = self._against / build.PAGE
            pages = {"Before": Path(os.path.relpath(page, run_folder)).as_posix(), **pages}
        against = baselines.shown(self._against) if self._against else ""
        text = verdict.render(self.verdict, against, name, pages)
        write_atomically(run_folder / FILE, text.encode())
        step_summary.append_text(text)
        if self.verdict.failed and not self._update:
            self._fail(self._outcome(), pytest.ExitCode.TESTS_FAILED)

    def _save(self, after: Baseline, name: str, complete: bool) -> None:
        wanted = [self._target, self._folder / name if self._autosave else None]
        for target in dict.fromkeys(target for target in wanted if target):
            shown = baselines.shown(target)
            if not complete:
                self._notes.append(f"{shown} was not written: the run is not whole")
                continue
            before = baselines.load(target) if baselines.is_saved(target) else {}
            reason = baselines.refusal(before, after, self._accept_new)
            if reason:
                self._fail(f"{shown} was not written: {reason}", pytest.ExitCode.TESTS_FAILED)
                continue
            for path in baselines.save(after, target):
                self._notes.append(f"baseline: {baselines.shown(path)}")

    def _check_claims(self, nets: set[str], methods: set[str]) -> None:
        nets |= {entry.net for entry in self._before.values()}
        methods |= {entry.method for entry in self._before.values()}
        baselines.check_claims(self._claims, self._claims_file, nets, methods)

    def _fail(self, sentence: str, status: pytest.ExitCode) -> None:
        self.status, self._failure = status, sentence
        if status != pytest.ExitCode.TESTS_FAILED or not self.verdict or not self.verdict.failed:
            self._notes.append(sentence)

    def _outcome(self) -> str:
        against = baselines.shown(self._against) if self._against else ""
        return verdict.last_line(self.verdict, against) if self.verdict else ""

    def _found(self, name: str | None) -> Path:
        try:
            return baselines.find(name, self._folder, self._here)
        except DataMissing:
            if not self._update:
                raise
            return self._folder / (name or baselines.DEFAULT)  # the first of its name

    def _replaced(self, save_as: str | None) -> Path | None:
        """The baseline that the run shall become, if any; it replaces another one only on wish."""
        if save_as:
            if not re.fullmatch(r"\w[\w.-]*", save_as):
                raise BadInput(f"--concentration-save {save_as!r} can't name a folder")
            if not self._update:
                self._ensure_new(self._folder / save_as)
            return self._folder / save_as
        if not self._update or self._against is None:
            return None
        if self._against.exists() and not (
            self._against.is_dir() and baselines.is_saved(self._against)
        ):
            raise BadInput(
                f"--update-baseline replaces a saved baseline as a whole, and {self._against} is "
                "a run or a single file"
            )
        return self._against

    def _ensure_new(self, folder: Path) -> None:
        if baselines.is_saved(folder) and not self._update:
            raise BadInput(
                f"the baseline {baselines.shown(folder)} is there already: --update-baseline "
                "replaces it"
            )
