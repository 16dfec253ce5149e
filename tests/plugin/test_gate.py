"""The workflow of the gate: create, pass, degrade, fail with the right table, accept, pass."""

from __future__ import annotations

import re

import numpy as np
import pytest

import xai_core.gate
import xai_core.study
from xai_core.cli import main

OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
USAGE = pytest.ExitCode.USAGE_ERROR

TRAINED = """
import torch
import tinynet
from dataclasses import replace


def build():
    torch.manual_seed({seed})
    module = tinynet.Tiny(gap=True)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += {noise} * parameter.std(correction=0) * torch.randn(parameter.shape)
    return module


SPEC = replace(tinynet.SPEC, build=build, weights=None)
"""


@pytest.fixture
def gated(suite):
    """A net that counts as trained, whose weights a test may disturb."""

    def net(noise=0.0, seed=1):
        (suite.path / "trained.py").write_text(TRAINED.format(noise=noise, seed=seed))

    def run(*options, process=False):
        start = suite.process if process else suite.run
        return start("--net=trained:SPEC", *options)

    net()
    suite.net, suite.gate = net, run
    return suite


def verdict(suite) -> str:
    return (suite.folder / "gate.md").read_text()


def test_create_pass_degrade_fail_accept_pass(gated, monkeypatch):
    first = gated.gate("--concentration-save=main")
    assert first.ret == OK
    files = list((gated.path / "reports" / "baseline" / "main").iterdir())
    assert [re.sub("[0-9a-f]{8}", "HASH", path.name) for path in files] == [
        "instances_train2017-tiny-HASH.csv"
    ]
    assert files[0].stat().st_size < 3000

    same = gated.gate("--concentration-compare")
    assert same.ret == OK
    assert "gate passed, 24 records compared" in same.stdout.str()
    assert "P must be, and is (to 1e-06)" in verdict(gated)

    plain = xai_core.study.dilate
    monkeypatch.setattr(
        xai_core.study, "dilate", lambda mask, share: np.roll(plain(mask, share), 8, axis=1)
    )
    bad = gated.gate("--concentration-compare")
    assert bad.ret == FAILED
    bad.stdout.fnmatch_lines(["*FAILED  exact comparison: 24 records compared; *but * differ*"])
    assert "| tiny | 32 " in re.sub(" +", " ", verdict(gated))

    accepted = gated.gate("--update-baseline")
    assert accepted.ret == OK
    assert "accepted: --update-baseline" in accepted.stdout.str()
    again = gated.gate("--concentration-compare")
    assert again.ret == OK


def test_on_two_workers_the_controller_judges_and_times_do_not_pass_empty(gated):
    two = ("--method=cam,backprop", "-n2")
    gated.gate("bench", "--rounds=1", "--concentration-save=main", "--benchmark-autosave", *two[:1])
    compare = ("--benchmark-compare", "--benchmark-compare-fail=mean:5%")
    failed = gated.gate("bench", "--concentration-compare", *two, *compare, process=True)
    assert failed.ret == FAILED
    out = failed.stdout.str()
    assert "gate passed, 8 records compared" in out
    assert "ERROR: no time was compared: pytest-benchmark can't time under pytest-xdist" in out


def test_missing_and_new_records_fail_unless_accepted(gated):
    gated.gate("--concentration-save=main", "--method=cam,backprop")
    result = gated.gate("--concentration-compare", "--method=cam,grad_cam")
    assert result.ret == FAILED
    out = result.stdout.str()
    assert "FAILED  missing records: 4 records are in the baseline only." in out
    assert "FAILED  new records: 4 records are in this run only." in out
    accepted = gated.gate("--concentration-compare", "--method=cam,grad_cam", "--accept-new")
    assert accepted.ret == OK


def test_nothing_in_common_is_a_failure(gated):
    gated.gate("--concentration-save=main", "--method=cam")
    result = gated.gate("--concentration-compare", "--method=backprop", "--accept-new")
    assert result.ret == FAILED
    assert "No record is in both: nothing was compared." in result.stdout.str()


def test_other_weights_are_judged_by_their_means(gated):
    """Four images can't make a drop significant: the margin alone decides."""
    gated.gate("--concentration-save=main")
    gated.net(noise=3.0)
    report = gated.gate("--concentration-compare")
    assert report.ret == FAILED
    assert "weights_sha256" in verdict(gated)
    assert "No rule was given, so mean:0.005, class:0.05," in verdict(gated)
    judged = gated.gate(
        "--concentration-compare", "--concentration-compare-fail=mean:0.005,each:0.1"
    )
    assert judged.ret == FAILED
    assert "have too few images for a test; there the margin alone decides" in verdict(gated)
    assert "FAILED: each:0.1" in verdict(gated)


def test_a_failed_record_fails_the_run_and_is_missing_from_the_comparison(gated):
    gated.gate("--concentration-save=main", "--method=cam")
    (gated.coco / "train2017" / "2.jpg").write_bytes(b"")
    result = gated.gate("--concentration-compare", "--method=cam", "--concentration-save=other")
    assert result.ret == FAILED
    out = result.stdout.str()
    assert "missing records: 1 records are in the baseline only" in out
    assert "other was not written: the run is not whole" in out
    assert not (gated.path / "reports" / "baseline" / "other").exists()


def test_claims_hold_or_fail(gated, capsys):
    gated.gate("--concentration-save=main")
    path = gated.path / "reports" / "baseline" / "thresholds.toml"
    path.write_text('[[claim]]\nmethod = "cam"\nat_most = 1.0\n')
    assert gated.gate("--concentration-compare").ret == OK
    path.write_text('[[claim]]\nmethod = "cam"\nat_least = 1.0\n')
    result = gated.gate("--concentration-compare")
    assert result.ret == FAILED
    assert "FAILED  claim: cam is at least 1" in result.stdout.str()
    path.write_text('[[claim]]\nfirst = "cam"\nnet = "tinny"\n')
    before = sorted((gated.path / "reports").glob("2*"))
    result = gated.gate("--concentration-compare")
    assert result.ret == USAGE
    assert "claim 1, cam is first: no net 'tinny' is in the run or in a b" in result.stderr.str()
    assert sorted((gated.path / "reports").glob("2*")) == before
    assert main(["gate", str(before[-1]), str(path.parent / "main")]) == 2
    assert "no net 'tinny' is in the run or in a baseline; there are t" in capsys.readouterr().err


def test_ci_systems_are_told(gated, monkeypatch):
    gated.gate("--concentration-save=main", "--method=cam,backprop")
    summary = gated.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = gated.gate("--concentration-compare", "--method=cam", "--junitxml=junit.xml")
    out = result.stdout.str()
    assert "::error title=concentration gate%2C missing records::4 records are in" in out
    assert "# Gate: FAILED, 4 records compared" in summary.read_text()
    xml = (gated.path / "junit.xml").read_text()
    assert 'name="concentration_gate" value="FAILED, 4 records compared"' in xml


def test_a_run_is_a_baseline_too(gated):
    gated.gate()
    first = gated.folder
    (first / "report.html").write_text("the page")
    gated.net(noise=3.0)
    each = "--concentration-compare-fail=each:0.01"
    result = gated.gate(f"--concentration-compare={first}", each)
    assert result.ret == FAILED
    assert f"[map](../{first.name}/report.html#map=tiny" in verdict(gated)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--concentration-compare"], "no baseline is saved in .*--concentration-save"),
        (["--concentration-compare=nowhere"], "no baseline 'nowhere', neither in"),
        (["--concentration-compare=coco"], "coco holds neither a baseline nor a run"),
        (["--concentration-compare=tinynet.py"], "tinynet.py is no baseline"),
        (["--concentration-save=../x"], r"--concentration-save '\.\./x' can't name a folder"),
        (
            ["--concentration-compare-fail=median:1"],
            "unknown rule 'median:1'; rules are mean:0.005",
        ),
        (["--concentration-compare-fail=mean:much"], "unknown rule 'mean:much'"),
        (["--thresholds=nowhere.toml", "--update-baseline"], "the claims .*nowhere.toml can't"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_a_usage_error_before_anything_runs(gated, options, sentence):
    result = gated.gate(*options)
    assert result.ret == USAGE
    text = result.stderr.str()
    assert re.search(sentence, text), text
    assert "Traceback" not in text
    assert not [p for p in (gated.path / "reports").glob("*") if p.name != "baseline"]


def test_a_baseline_is_not_replaced_by_accident(gated):
    few = ("--method=cam,backprop", "--color=yes")
    assert gated.gate("--concentration-save=main", *few).ret == OK
    folder = gated.path / "reports" / "baseline" / "main"
    before = {path: path.read_text() for path in folder.iterdir()}

    again = gated.gate("--concentration-save=main", *few)
    assert again.ret == USAGE
    there = "the baseline reports/baseline/main is there already: --update-baseline replaces it"
    assert there in again.stderr.str()

    for options in (("--update-baseline",), ("--concentration-save=main", "--update-baseline")):
        narrow = gated.gate("-k", "cam", *options, *few)
        assert narrow.ret == FAILED
        assert re.fullmatch(
            r"\x1b\[31mreports/baseline/main was not written: the run has fewer records, 4, than "
            r"the baseline, 8; .*\x1b\[0m",
            narrow.stdout.lines[-1],
        )
    other = gated.gate("--update-baseline", "--method=cam,grad_cam")
    assert other.ret == FAILED
    assert "4 records of the baseline are not in the run; --accept-new" in other.stdout.str()
    assert {path: path.read_text() for path in folder.iterdir()} == before

    run = gated.gate(f"--concentration-compare={gated.folder}", "--update-baseline")
    assert run.ret == USAGE
    assert "--update-baseline replaces a saved baseline as a whole" in run.stderr.str()
    assert gated.gate("--concentration-save=main", "--update-baseline").ret == OK
    assert {path: path.read_text() for path in folder.iterdir()} != before


def test_the_verdict_is_the_same_whoever_asks(gated, capsys):
    """Uniform maps would be last of all: that they are a reference method stands in the parts."""
    methods = "--method=deconvolution,guided_backprop,uniform"
    gated.gate("--concentration-save=main", methods)
    baseline = gated.path / "reports" / "baseline" / "main"
    claims = baseline.parent / "thresholds.toml"

    def asked(*options) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["gate", str(gated.folder), str(baseline), *options])
        text, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n\n")
        said = "FAILED" if code else "passed"
        assert last == f"gate {said}, 12 records compared, against reports/baseline/main"
        return code, f"{text}\n"

    for claim, code in (('last = "deconvolution"', OK), ('last = "guided_backprop"', FAILED)):
        claims.write_text(f"[[claim]]\n{claim}\n")
        result = gated.gate("--concentration-compare", methods)
        text = verdict(gated)
        assert result.ret == code
        assert ("FAILED: claim" in text) == (code == FAILED)
        assert asked() == (code, text)
        resumed = gated.gate("--concentration-compare", methods, f"--resume={gated.folder}")
        assert (resumed.ret, verdict(gated)) == (code, text)
        for name in ("summary.json", "records.jsonl"):
            (gated.folder / name).unlink()
            assert asked() == (code, text)


def test_what_breaks_inside_is_no_failed_gate(gated, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise RuntimeError("a defect")

    gated.gate("--concentration-save=main", "--method=cam")
    monkeypatch.setattr(xai_core.gate, "judge", broken)
    monkeypatch.setattr("xai_core.cli.gate.judge", broken)
    result = gated.gate("--concentration-compare", "--method=cam")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "judged nothing: internal error: RuntimeError: a defect" in result.stdout.lines[-1]
    baseline = gated.path / "reports" / "baseline" / "main"
    assert main(["gate", str(gated.folder), str(baseline)]) == 3
    assert "RuntimeError: a defect" in capsys.readouterr().err
    monkeypatch.setattr("xai_core.report.build.tables", broken)
    result = gated.gate("--concentration-compare", "--method=cam")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "internal error, no report: RuntimeError: a defect" in result.stdout.str()


def test_the_command_judges_folders(gated, capsys):
    gated.gate("--concentration-save=main", "--method=cam")
    first = gated.folder
    baseline = gated.path / "reports" / "baseline" / "main"
    assert main(["gate", str(first), str(baseline)]) == 0
    assert "# Gate: passed, 4 records compared" in capsys.readouterr().out
    assert main(["gate", str(first), str(first), "--fail=mean:0.005"]) == 0
    gated.gate("--method=backprop")
    other = gated.folder
    assert main(["gate", str(other), str(baseline)]) == 1
    assert main(["gate", str(other), str(gated.coco)]) == 2
    assert main(["gate", str(other), str(baseline), "--fail=no"]) == 2
    capsys.readouterr()


# ---- times -------------------------------------------------------------------------------------

COMPARE = ("--benchmark-compare", "--benchmark-compare-fail=mean:5%")


def test_a_gate_of_times_does_not_pass_empty(gated):
    result = gated.gate("bench", "--rounds=1", "--benchmark-disable", *COMPARE)
    assert result.ret == FAILED
    assert "ERROR: no time was compared: pytest-benchmark is disabled" in result.stdout.str()


def test_times_of_other_names_are_no_comparison(gated):
    assert gated.gate("bench", "--rounds=1", "--benchmark-autosave", "--size=32").ret == OK
    told = gated.gate("bench", "--rounds=1", "--benchmark-compare", "--size=40")
    assert told.ret == OK
    assert "none of this run's benchmarks is among the saved ones" in told.stdout.str()
    failed = gated.gate("bench", "--rounds=1", "--size=40", *COMPARE)
    assert failed.ret == FAILED


def test_times_that_were_compared_are_left_to_pytest_benchmark(gated):
    assert gated.gate("bench", "--rounds=1", "--benchmark-autosave").ret == OK
    loose = ("--benchmark-compare", "--benchmark-compare-fail=mean:100000%")
    result = gated.gate("bench", "--rounds=1", *loose)
    assert result.ret == OK
    assert "no time was compared" not in result.stdout.str()
