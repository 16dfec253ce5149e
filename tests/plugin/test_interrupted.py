"""Runs that are killed, lose something, or are resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from xai_core.pytest_plugin.interrupts import held

PER_CHUNK = 6
"""Records in a chunk of one sample: one for each method."""


def start(suite, *arguments: str, slow: float = 0.5) -> subprocess.Popen[str]:
    return suite.start("--size=32,original", *arguments, SLOW=str(slow))


def parts(suite) -> list[Path]:
    return sorted(suite.path.glob("reports/*/parts/*.jsonl"))


def wait_for_parts(suite, process: subprocess.Popen[str], number: int) -> None:
    suite.wait(process, until=lambda: len(parts(suite)) >= number)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """xdist's workers: the Python children of the controller."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("arguments", [(), ("-n2",)])
def test_an_interrupted_run_keeps_what_was_computed_and_is_completed_later(
    suite, monkeypatch, tmp_path, arguments
):
    process = start(suite, *arguments)
    wait_for_parts(suite, process, 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    finished = len(parts(suite))
    assert 3 <= finished < 8
    reported = len(suite.records())
    # A worker may end the chunk that it is at after the report: the part is there to be resumed.
    late = range(3 if arguments else 1)
    assert reported in [PER_CHUNK * (finished - parts) for parts in late]
    assert "> **PARTIAL** (interrupted: KeyboardInterrupt)" in suite.report
    assert f"{reported} records of 48 planned" in suite.report

    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    result = suite.run("--size=32,original", f"--resume={suite.folder}")
    result.assert_outcomes(passed=48)
    assert len(calls.read_text().splitlines()) == 8 - finished
    assert len(suite.records()) == 48
    assert "PARTIAL" not in suite.report


def test_an_interruption_between_two_lines_is_one_like_any_other(suite):
    (suite.path / "between.py").write_text(
        "def interrupt():\n"
        "    raise KeyboardInterrupt\n"
        "\n"
        "interrupt.__code__ = interrupt.__code__.replace(co_linetable=b'')\n"
        "\n"
        "def pytest_runtest_call(item):\n"
        "    if 'grad_cam' in item.name:\n"
        "        interrupt()\n"
    )
    result = suite.process("-p", "between")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in f"{result.outlines}{result.errlines}"
    result.stdout.fnmatch_lines(["*!!! KeyboardInterrupt !!!*"])
    assert "> **PARTIAL** (interrupted: KeyboardInterrupt)" in suite.report


LATE = """
import os
import signal
import xai_core.report.markdown as markdown

body = markdown.body


def interrupted(summary):
    os.kill(os.getpid(), signal.SIGINT)
    return body(summary)


markdown.body = interrupted
"""


def test_ctrl_c_while_the_report_is_written_leaves_records_and_tables(suite):
    (suite.path / "late.py").write_text(LATE)
    process = suite.start("-p", "late", "--method=cam", "--report=full")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "Traceback" not in output
    assert "ERROR: interrupted while the report was written; again: " in output
    assert len(suite.records()) == 4
    assert "| CAM " in suite.report
    assert not (suite.folder / "charts").exists()


@pytest.fixture
def _interruptible():
    """Tests that run in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_is_held_once():
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        done = True
    assert done
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done = False
    assert done
    assert signal.getsignal(signal.SIGINT) is before
    with held():
        pass


def test_a_killed_run_leaves_whole_parts_that_resume(suite):
    process = start(suite)
    wait_for_parts(suite, process, 3)
    process.kill()
    process.wait()
    for part in parts(suite):
        lines = part.read_text().splitlines()[1:]
        assert [list(json.loads(line)) for line in lines] == [["record"]] * PER_CHUNK
    folder = suite.folder
    suite.run("--size=32,original", f"--resume={folder}").assert_outcomes(passed=48)
    assert suite.folder == folder


def test_a_killed_worker_costs_the_test_that_it_was_at(suite):
    process = start(suite, "-n2")
    wait_for_parts(suite, process, 3)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED, output
    # One more passes where the worker died after its test's call and before its end.
    assert re.search(r"= 1 failed, 4[78] passed in ", output), output
    # The crashed test is failed, even where the worker that took over computed its chunk again.
    assert "crashed while running" in suite.report
    assert "PARTIAL" in suite.report
    assert len(suite.records()) >= 48 - PER_CHUNK


def test_resuming_under_other_settings_is_refused(suite):
    suite.run()
    before = (suite.folder / "records.jsonl").read_bytes()
    result = suite.run(f"--resume={suite.folder}", "--dilation=0.5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR:*was made with other settings (dilation: 0.2)*"])
    assert (suite.folder / "records.jsonl").read_bytes() == before


LOSES_A_REPORT = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    if "000000000002-orange-cam" in item.nodeid:
        return True  # claims to have run it, and reports nothing
"""

LOSES_A_PART = """
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session):
    next(session.config.rootpath.glob("reports/*/parts/*.jsonl")).unlink()
    return (yield)
"""


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        (LOSES_A_REPORT, "1 planned tests neither ran nor were skipped"),
        (LOSES_A_PART, "6 records that passed are not in the part files"),
    ],
)
def test_what_is_lost_without_a_word_is_not_green(suite, plugin, sentence):
    (suite.path / "losing.py").write_text(plugin)
    result = suite.run("-p", "losing")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert sentence in result.stdout.str()
    assert "PARTIAL" in suite.report
