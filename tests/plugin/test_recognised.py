"""``--recognised K``: only samples whose class is among the net's top K."""

from __future__ import annotations

import re

import pytest

CHOSEN = "--method=cam,grad_cam,noise"


def test_others_are_skipped_for_all_methods_and_counted_in_the_report(suite, monkeypatch):
    suite.run(CHOSEN).assert_outcomes(passed=12)
    whole = {r["sample"]: r["rank"] for r in suite.records()}
    first = suite.records()
    top = sorted(whole.values())[1]  # of four samples, two or more stay
    known = {sample for sample, rank in whole.items() if rank <= top}
    assert len(known) < 4

    result = suite.run(CHOSEN, f"--recognised={top}")
    result.assert_outcomes(passed=3 * len(known), skipped=3 * (4 - len(known)))
    assert result.ret == 0
    records = suite.records()
    for record in (*first, *records):
        del record["seconds"]
    assert records == [record for record in first if record["sample"] in known]
    sentence = f"tiny at 32: {len(known)} of 4 samples have their class among its top {top}"
    assert sentence in suite.report
    assert sentence in result.stdout.str()
    skipped = suite.report.split("## Skipped")[1]
    assert len(re.findall(rf"\| {4 - len(known)} +\| class not among the net's top", skipped)) == 3
    assert "PARTIAL" not in suite.report

    resumed = f"--resume=reports/{suite.folder.name}"
    monkeypatch.setenv("CALLS", str(suite.path / "calls"))
    suite.run(CHOSEN, f"--recognised={top}", resumed).assert_outcomes(
        passed=3 * len(known), skipped=3 * (4 - len(known))
    )
    assert not (suite.path / "calls").exists()  # what was not recognised is known, too
    result = suite.run(CHOSEN, resumed)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"made with other settings (recognised: {top})" in result.stderr.str()


def test_a_run_that_recognises_nothing_says_so_and_times_its_methods_all_the_same(suite):
    result = suite.run(
        "bench/test_concentration.py", "bench/test_timing.py", "--method=cam", "--recognised=1"
    )
    result.assert_outcomes(passed=1, skipped=4)
    assert result.ret == 0
    sentence = "No net has the class of any sample among its top 1: there is no record."
    assert sentence in suite.report
    assert sentence in result.stdout.str()


def test_copies_that_forget_are_held_against_the_samples_that_the_net_recognises(suite):
    import tinynet
    import torch

    torch.save(tinynet.SPEC.build().state_dict(), suite.path / "trained.pth")
    trained = ("--weights=tiny=trained.pth", "--randomise", "--method=cam")
    suite.run(*trained)
    ranks = sorted(r["rank"] for r in suite.records() if not r["randomised"])
    suite.run(*trained, f"--recognised={ranks[0]}").assert_outcomes(passed=13, skipped=3)
    assert re.search(r"\| CAM +\| +1 \|", suite.report.split("## Does the method notice")[1])
    assert "tiny at 32: 1 of 4 samples" in suite.report
    assert "tiny~" not in suite.report.split("## Concentration by method")[0]
    assert "PARTIAL" not in suite.report

    suite.run(*trained, "--recognised=1").assert_outcomes(passed=12, skipped=4)
    assert "there is no record" in suite.report


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "2.5"])
def test_k_is_a_whole_number(suite, wrong):
    result = suite.run(f"--recognised={wrong}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--recognised '{wrong}' must be a whole number, 1 or more" in result.stderr.str()
