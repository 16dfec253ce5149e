"""How a session is asked for, and what it leaves behind: options, switches, folders, part files."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from xai_core.pytest_plugin import folder as run_folder

USAGE = pytest.ExitCode.USAGE_ERROR
LOST = pytest.ExitCode.INTERNAL_ERROR


def counted(records, field):
    return dict(Counter(r[field] for r in records))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method=cam,backprop", "bench/test_concentration.py"],
        ["--method", "cam", "bench/test_concentration.py", "--method", "backprop"],
        ["bench/test_concentration.py", "--method=cam, backprop,", "--method=cam"],
    ],
    ids=["commas", "repeated", "both, with gaps and repeats"],
)
def test_lists_may_be_given_in_any_way_and_any_place(suite, arguments):
    suite.run(*arguments).assert_outcomes(passed=8)
    assert counted(suite.records(), "method") == {"backprop": 4, "cam": 4}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--metrics=iou"], "unrecognized arguments: --metrics=iou"),
        (["--metric=iou"], "unknown metric 'iou'; known: concentration"),
        (["--threads=0"], "--threads '0' must be a whole number, 1 or more"),
        (["--rounds=x"], "--rounds 'x' must be a whole number, 1 or more"),
        (["--batch-size=1.5"], "--batch-size '1.5' must be a whole number, 1 or more"),
        (["--seed=-1"], "--seed '-1' must be a whole number, 0 or more"),
        (["--max-area=2"], "--max-area '2' must be a number from 0 to 1"),
        (["--weights=tiny=."], "the weights for tiny should be a file, and . is a folder"),
        (["--net=tinynet:SPEC,tinynet:TWIN"], "and another net are both called 'tiny'"),
        (["--data=x", "--coco=coco"], "give --coco or --data, not both"),
        (["--classes=banana", "--image-ids=2"], "unknown image id '2'; known: 1, 3"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_a_usage_error_before_anything_is_written(suite, options, sentence):
    with (suite.path / "tinynet.py").open("a") as file:
        file.write("TWIN = NetSpec('tiny', lambda: Tiny(gap=False), 'features.4')\n")
    result = suite.run(*options)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == USAGE
    assert sentence in text
    assert "Traceback" not in text
    assert not list(suite.path.glob("reports/*"))


def test_choices_narrow_the_samples(suite):
    suite.run("--classes=banana", "--per-class=1", "--seed=3", "--method=cam")
    assert counted(suite.records(), "category") == {"banana": 1}
    suite.run("--image-ids=2,4", "--image-ids=1", "--method=cam")
    assert counted(suite.records(), "image_id") == {1: 1, 2: 1, 4: 1}


def test_no_dilation_leaves_the_mask(suite):
    suite.run("--dilation=0", "--method=cam")
    assert all(r["chance"] == r["mask_share"] for r in suite.records())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--collect-only"],
        ["--setup-plan"],
        ["-k", "nothing_of_this_name"],
        ["--fixtures"],
    ],
    ids=" ".join,
)
def test_a_session_without_records_leaves_no_folder_of_a_run(suite, arguments):
    result = suite.run("bench", *arguments)
    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert not list(suite.path.glob("reports/*"))


def test_other_tests_leave_none_either_with_our_options(suite):
    (suite.path / "test_other.py").write_text("def test_it(): pass\n")
    result = suite.pytester.runpytest_inprocess(
        "test_other.py", "--coco=coco", "--net=tinynet:SPEC"
    )
    result.assert_outcomes(passed=1)
    assert not list(suite.path.glob("reports/*"))


@pytest.mark.parametrize("name", ["outcome", "net", "sample", "method"])
def test_other_tests_may_use_the_names_of_our_fixtures(suite, name):
    (suite.path / "test_other.py").write_text(
        f"import pytest\n@pytest.mark.parametrize('{name}', [1, 2])\ndef test_it({name}): pass\n"
    )
    result = suite.pytester.runpytest_inprocess("test_other.py", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=2)


def test_sessions_of_the_same_second_take_folders_of_their_own(suite, monkeypatch):
    class Noon(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 23, 12, tzinfo=tz)

    monkeypatch.setattr(run_folder, "datetime", Noon)
    # Another session takes the first name between our look and our claim.
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) and path.parent.name != "reports")
    (suite.path / "reports" / "2026-11-23-120000-coco").mkdir(parents=True)
    suite.run("--method=cam").assert_outcomes(passed=4)
    monkeypatch.undo()
    found = {path.name: len(list(path.iterdir())) for path in suite.path.glob("reports/*")}
    assert found == {"2026-11-23-120000-coco": 0, "2026-11-23-120000-coco-2": 7}


def test_without_pytest_benchmark_only_the_timings_are_skipped(suite):
    result = suite.run("bench", "-p", "no:benchmark", "-rs")
    result.assert_outcomes(passed=27, skipped=6)
    result.stdout.fnmatch_lines(["SKIPPED*pytest-benchmark is not loaded"])


def test_no_warnings_are_ours(suite):
    result = suite.process("bench", "-W", "error", "--rounds=1")
    result.assert_outcomes(passed=33)


def test_only_what_failed_runs_again_in_a_run_of_its_own(suite):
    picture = suite.coco / "train2017" / "2.jpg"
    content = picture.read_bytes()
    picture.write_bytes(b"no picture")
    suite.run("-p", "cacheprovider").assert_outcomes(passed=18, failed=6)
    first = suite.folder
    picture.write_bytes(content)
    suite.run("-p", "cacheprovider", "--lf").assert_outcomes(passed=6)
    (second,) = set(suite.path.glob("reports/*")) - {first}
    assert {r["image_id"] for r in suite.records(second)} == {2}
    assert "PARTIAL" not in (second / "concentration.md").read_text()


@pytest.mark.parametrize("option", ["-x", "--maxfail=2"])
def test_a_run_that_stops_early_says_so(suite, option):
    (suite.coco / "train2017" / "2.jpg").unlink()
    assert suite.run(option).ret == pytest.ExitCode.TESTS_FAILED
    assert "> **PARTIAL** (stopping after " in suite.report
    assert "6 records of 24 planned" in suite.report


# ---- resuming --------------------------------------------------------------------------------


def calls_of(suite, monkeypatch, *options):
    """(result, number of forward passes)."""
    calls = suite.path / "calls"
    calls.unlink(missing_ok=True)
    monkeypatch.setenv("CALLS", str(calls))
    result = suite.run(*options)
    return result, len(calls.read_text().splitlines()) if calls.exists() else 0


def test_a_complete_run_is_resumed_without_computing(suite, monkeypatch):
    suite.run()
    before = suite.records()
    result, calls = calls_of(suite, monkeypatch, f"--resume={suite.folder}")
    result.assert_outcomes(passed=24)
    assert calls == 0
    assert suite.records() == before


def test_resuming_tries_again_what_failed(suite, monkeypatch):
    """Even under the same key: memory may have been short, the disk full."""
    import tinynet

    forward = tinynet.Tiny.forward

    def fail(self, x):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(tinynet.Tiny, "forward", fail)
    suite.run().assert_outcomes(failed=24)
    monkeypatch.setattr(tinynet.Tiny, "forward", forward)
    suite.run(f"--resume={suite.folder}").assert_outcomes(passed=24)
    assert "PARTIAL" not in suite.report


def test_a_changed_image_is_computed_again_and_its_old_record_gone(suite, monkeypatch):
    suite.run("--method=backprop")
    before = {r["image_id"]: r["concentration"] for r in suite.records()}
    (suite.coco / "train2017" / "1.jpg").write_bytes(
        (suite.coco / "train2017" / "2.jpg").read_bytes()
    )
    _, calls = calls_of(suite, monkeypatch, "--method=backprop", f"--resume={suite.folder}")
    after = {r["image_id"]: r["concentration"] for r in suite.records()}
    assert calls == 1
    assert after[1] != before[1]
    assert {i: after[i] for i in (2, 3, 4)} == {i: before[i] for i in (2, 3, 4)}


def test_maps_that_are_missing_are_made_up_for(suite, monkeypatch):
    suite.run("--method=cam")
    _, calls = calls_of(
        suite, monkeypatch, "--method=cam", "--save-maps", f"--resume={suite.folder}"
    )
    assert calls == 4
    assert len(list(suite.folder.rglob("*.npy"))) == 4


def test_weights_that_were_replaced_are_other_settings(suite):
    import tinynet
    import torch

    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(tinynet.SPEC.build().state_dict(), suite.path / "w.pth")
        options = ["--method=cam", "--weights=tiny=w.pth"]
        if seed == 0:
            suite.run(*options).assert_outcomes(passed=4)
            suite.run(*options, f"--resume={suite.folder}").assert_outcomes(passed=4)
    result = suite.run(*options, f"--resume={suite.folder}")
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["ERROR:*other settings (nets: *w.pth sha256:*"])


def test_resuming_under_another_arithmetic_is_refused_by_name(suite):
    suite.run("--method=cam")
    path = suite.folder / "settings.json"
    before = path.read_bytes()
    for options, name in ((["--threads=2"], "threads: 1"), (["--dtype=float64"], "dtype: float32")):
        result = suite.run("--method=cam", f"--resume={suite.folder}", *options)
        assert result.ret == USAGE
        result.stderr.fnmatch_lines([f"ERROR:*was made with other settings ({name})*"])
    path.write_bytes(before.replace(b'"precision": "full"', b'"precision": "bf16"'))
    result = suite.run("--method=cam", f"--resume={suite.folder}")
    result.stderr.fnmatch_lines(["ERROR:*was made with other settings (precision: bf16)*"])


def test_what_failed_and_was_mended_counts_though_the_clock_was_set_back(suite):
    picture = suite.coco / "train2017" / "2.jpg"
    content = picture.read_bytes()
    picture.write_bytes(b"no picture")
    suite.run("--method=cam").assert_outcomes(passed=3, failed=1)
    picture.write_bytes(content)
    for part in suite.folder.glob("parts/*"):
        os.utime(part, (4e9, 4e9))
    for _ in range(2):
        result = suite.run("--method=cam", f"--resume={suite.folder}")
        result.assert_outcomes(passed=4)
        assert result.ret == pytest.ExitCode.OK
        assert len(suite.records()) == 4
        assert "PARTIAL" not in suite.report
        os.utime(suite.folder / "records.jsonl", (1, 1))


def test_a_selection_of_nothing_leaves_the_run_as_it_was_and_passes_no_gate(suite):
    suite.run("--method=cam", "--concentration-save=main")
    folder = suite.folder
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    (suite.path / "test_other.py").write_text("def test_it(): pass\n")
    asked = ("--method=cam", f"--resume={folder}", "--concentration-compare", "-k")
    nothing = suite.run(*asked, "nothing_of_this_name")
    others = suite.run("bench/test_concentration.py", "test_other.py", *asked, "test_it")
    for result, code in ((nothing, pytest.ExitCode.NO_TESTS_COLLECTED), (others, LOST)):
        assert result.ret == code
        result.stdout.fnmatch_lines(["ERROR: *the gate has judged nothing"])
        result.stdout.no_fnmatch_line("*gate passed*")
    before.pop(folder / "settings.json")  # counts the sessions
    assert before.items() <= {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}.items()


@pytest.mark.parametrize("content", ["", "[]", "7", "{}"])
def test_a_folder_that_holds_no_run_is_not_resumed(suite, content):
    (suite.path / "odd").mkdir()
    (suite.path / "odd" / "settings.json").write_text(content)
    result = suite.run("--resume=odd")
    assert result.ret == USAGE
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stderr.re_match_lines([r"ERROR: .*odd(:| can't be resumed)"])


def damage(change):
    def apply(part: Path) -> None:
        lines = part.read_text().splitlines()
        part.write_text("".join(f"{line}\n" for line in change(lines)))

    return apply


DAMAGES = {
    "a digit": damage(
        lambda lines: [re.sub(r'"rank": \d+', '"rank": 77777', line) for line in lines]
    ),
    "a line short": damage(lambda lines: lines[:-1]),
    "no text": lambda part: part.write_bytes(b"\xff\xfe\x00"),
    "a folder": lambda part: (part.unlink(), part.mkdir()),
}


@pytest.mark.parametrize("what", [what for what in DAMAGES if what != "a folder"])
def test_parts_that_are_damaged_are_computed_again(suite, monkeypatch, what):
    suite.run("--method=cam,backprop")
    before = [(r["sample"], r["method"], r["concentration"]) for r in suite.records()]
    DAMAGES[what](sorted(suite.folder.glob("parts/*"))[0])
    result, calls = calls_of(
        suite, monkeypatch, "--method=cam,backprop", f"--resume={suite.folder}"
    )
    result.assert_outcomes(passed=8)
    assert calls == 1
    after = [(r["sample"], r["method"], r["concentration"]) for r in suite.records()]
    assert after == before


def test_a_part_that_can_t_be_written_is_said(suite):
    suite.run("--method=cam")
    part = sorted(suite.folder.glob("parts/*"))[0]
    DAMAGES["a folder"](part)
    result = suite.run("--method=cam", f"--resume={suite.folder}")
    result.assert_outcomes(passed=3, failed=1)
    assert "the result can't be written: " in suite.report


# ---- other plug-ins --------------------------------------------------------------------------


def test_items_that_are_repeated_are_planned_once(suite):
    result = suite.run("--method=cam", "--count=2", "--concentration-save=main")
    result.assert_outcomes(passed=8)
    assert "4 records of 4 planned" in result.stdout.str()
    assert len(list(suite.path.glob("reports/baseline/main/*.csv"))) == 1


def test_what_fails_in_every_attempt_has_failed(suite):
    (suite.coco / "train2017" / "2.jpg").write_bytes(b"no picture")
    result = suite.run("--method=cam", "--reruns=2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["PARTIAL: 3 records of 4 planned, 0 skipped, 1 failed", "report: *concentration.md"]
    )


# ---- pytest-xdist ----------------------------------------------------------------------------


def test_a_run_on_two_workers_says_so_and_can_be_resumed_alone(suite, monkeypatch):
    result = suite.process("--tx=2*popen", "--dist=worksteal", "--method=cam,backprop")
    result.assert_outcomes(passed=8)
    assert "2 process(es)" in suite.report
    result, calls = calls_of(
        suite, monkeypatch, "--method=cam,backprop", f"--resume={suite.folder}"
    )
    result.assert_outcomes(passed=8)
    assert calls == 0


BREAKS_A_WORKER = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    import os
    if "PYTEST_XDIST_WORKER" in os.environ and "2-orange-cam" in report.nodeid:
        raise RuntimeError("a plugin broke")
"""


def test_an_internal_error_in_a_worker_is_not_green(suite):
    (suite.path / "breaking.py").write_text(BREAKS_A_WORKER)
    result = suite.process("-p", "breaking", "-n2")
    assert result.ret not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    assert "PARTIAL" in suite.report
    assert json.loads((suite.folder / "exp.json").read_text())


def test_a_run_folder_that_vanishes_is_said_and_the_table_is_not_lost(suite):
    (suite.path / "vanishing.py").write_text(
        "import shutil\n"
        "def pytest_runtest_teardown(item):\n"
        "    if '3-banana-guided_grad_cam' in item.nodeid:\n"
        "        [shutil.rmtree(path) for path in item.config.rootpath.glob('reports/*')]\n"
    )
    result = suite.run("-p", "vanishing")
    assert result.ret == LOST
    assert "18 records that passed are not in the part files" in result.stdout.str()
    assert "Guided Grad-CAM" in result.stdout.str()
    assert (suite.folder / "settings.json").exists()
