"""The regression gate of a session."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xai_core.errors import BadInput, DataMissing
from xai_core.files import write_atomically
from xai_core.gate import Baseline, Claim, Verdict, baseline_of, judge, load_claims, parse_rules
from xai_core.pytest_plugin.options import Options
from xai_core.report import baselines, build, step_summary, verdict

if TYPE_CHECKING:
    from xai_core.report.summary import Summary

FILE = "gate.md"
FOLDER = "baseline"


class Gate:
    """What was asked for, looked up before anything runs.

    Args:
        config: of the session.
        options: for the folder of all runs.

    Raises:
        pytest.UsageError: a rule, baseline or claim that can't be used.
    """

    def __init__(self, config: pytest.Config, options: Options) -> None:
        get = config.getoption
        self._folder = options.report_dir / FOLDER
        self._update = get("update_baseline")
        self._accept_new = get("accept_new")
        self._autosave = get("concentration_autosave")
        self._save_as: str | None = get("concentration_save")
        named = get("concentration_compare")
        given: list[str] = get("concentration_compare_fail")
        self.compares = bool(named or given or self._update or get("thresholds"))
        here = config.invocation_params.dir
        try:
            self._rules = parse_rules(given)
            if self._save_as and not re.fullmatch(r"[\w.-]*\w[\w.-]*", self._save_as):
                raise BadInput(f"--concentration-save {self._save_as!r} can't name a folder")
            self._target: Path | None = None
            if self.compares:
                name = named if isinstance(named, str) else None
                self._target = self._found(name, here)
            self._before: Baseline = {}
            if self._target and self._target.exists():
                self._before = baselines.load(self._target)
            self._claims = self._read_claims(get("thresholds"), here) if self.compares else []
        except (BadInput, DataMissing) as error:
            raise pytest.UsageError(str(error)) from error
        self.verdict: Verdict | None = None
        self.notes: list[str] = []

    def finish(self, summary: Summary, run_folder: Path, complete: bool) -> None:
        """Judge, write the verdict down, and save what was to be saved.

        Args:
            summary: of the run.
            run_folder: where the verdict goes.
            complete: whether all that was planned was computed and no test failed.

        Raises:
            OSError: a file can't be written.
        """
        after = baseline_of(summary.records)
        if self._exists():
            self.verdict = judge(
                self._before,
                after,
                self._rules,
                claims=self._claims,
                baselines=summary.baselines,
                accept_new=self._accept_new or self._update,
            )
            pages = {}
            if (run_folder / build.PAGE).exists():
                pages["After"] = build.PAGE
            if self._target and (self._target / build.PAGE).exists():
                page = self._target / build.PAGE
                pages = {"Before": Path(os.path.relpath(page, run_folder)).as_posix(), **pages}
            text = verdict.render(self.verdict, str(self._target), summary.name, pages)
            write_atomically(run_folder / FILE, text.encode())
            step_summary.append_text(text)
        names = [self._save_as, summary.name if self._autosave else None]
        targets = [self._folder / name for name in names if name]
        if self._update and self._target:
            targets.append(self._target)
        for target in targets:
            if not complete:
                self.notes.append(f"{target} was not written: the run is not whole")
                continue
            for path in baselines.save(after, target):
                self.notes.append(f"baseline: {path}")

    @property
    def failed(self) -> bool:
        """Whether the run must fail."""
        return self.verdict is not None and self.verdict.failed and not self._update

    def lines(self) -> list[str]:
        """For the terminal."""
        found: list[str] = []
        if self.verdict:
            found += [f"gate {verdict.outcome(self.verdict)}, against {self._target}"]
            found += verdict.lines(self.verdict)
            if self.verdict.failed and self._update:
                found.append("accepted: --update-baseline")
        found += self.notes
        if self.failed and self.verdict and os.environ.get("GITHUB_ACTIONS") == "true":
            found += verdict.github_commands(self.verdict)
        return found

    def _exists(self) -> bool:
        return self._target is not None and self._target.exists()

    def _found(self, name: str | None, here: Path) -> Path:
        try:
            return baselines.find(name, self._folder, here)
        except DataMissing:
            if not self._update:
                raise
            return self._folder / (name or baselines.DEFAULT)  # the first of its name

    def _read_claims(self, name: str | None, here: Path) -> list[Claim]:
        path = here / name if name else self._folder / baselines.THRESHOLDS
        return load_claims(path) if name or path.is_file() else []
