"""What a run computes and writes, in one process and in two."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

import xai_core.methods

ALL = tuple(xai_core.methods.METHODS)
METHODS = (
    "backprop",
    "cam",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "guided_grad_cam",
)


def values(records, column="concentration"):
    key = ("net", "size", "sample", "method")
    return {tuple(r[k] for k in key): r[column] for r in records}


def test_one_record_for_each_net_size_sample_and_method(suite):
    result = suite.run("--net=tinynet:SPEC,tinynet:NO_GAP", "--size=32", "--size=original")
    # 2 nets x 2 sizes x 4 samples x 6 methods; CAM is not defined for one net
    result.assert_outcomes(passed=88, skipped=8)
    records = suite.records()
    assert len(records) == len(values(records)) == 88
    assert {r["net"] for r in records} == {"tiny", "tiny_no_gap"}
    assert {r["method"] for r in records} == set(METHODS)
    assert {(r["size"], r["height"], r["width"]) for r in records} == {
        ("32", 32, 32),
        ("original", 40, 48),
    }


def test_ids_read_net_size_sample_method(suite):
    result = suite.run("--collect-only", "-q")
    ids = [line for line in result.outlines if "test_concentration[" in line]
    assert ids[0].endswith("test_concentration[tiny-32-000000000001-banana-backprop]")
    assert [i.split("-")[-1].rstrip("]") for i in ids[:6]] == list(METHODS)
    assert not (suite.path / "reports").exists()


def test_baselines_are_part_of_the_study_by_default_and_are_not_timed(suite):
    every = f"--method={','.join(ALL)}"
    result = suite.run("bench", every, "--rounds=1")
    result.assert_outcomes(passed=4 * len(ALL) + 3 + 6)
    records = suite.records()
    assert {r["method"] for r in records} == set(ALL)
    uniform = [r for r in records if r["method"] == "uniform"]
    assert all(r["concentration"] == pytest.approx(r["chance"]) for r in uniform)
    assert "| *Uniform* " in suite.report
    assert suite.report.index("Guided Grad-CAM") < suite.report.index("*Centre Gaussian*")


def test_the_report_says_what_was_done(suite):
    suite.run("--net=tinynet:NO_GAP", "--dilation=0.5")
    report = suite.report
    for expected in (
        "| Backpropagation ",
        "cam on tiny_no_gap",
        "CAM needs global average pooling",
        "`features.4`",
        "random:0",
        "never trained",
        "--dilation=0.5",
        "4 samples (image and class) in 4 images",
        "banana 2, orange 2",
        "torch 2.",
    ):
        assert expected in report, expected
    assert "PARTIAL" not in report


def test_a_net_without_a_rule_for_its_activation_is_refused_for_the_rule_methods_only(suite):
    suite.run("--net=tinynet:GELU").assert_outcomes(passed=12, skipped=12)
    assert {r["method"] for r in suite.records()} == {"backprop", "cam", "grad_cam"}
    assert "GELU, for which no ReLU rule is defined" in suite.report


def test_records_are_exact_and_in_every_file_the_same(suite):
    suite.run()
    parts = [
        json.loads(line)["record"]
        for part in (suite.folder / "parts").iterdir()
        for line in part.read_text().splitlines()[1:]
    ]
    records = suite.records()
    assert sorted(map(repr, parts)) == sorted(map(repr, records))
    study = json.loads((suite.folder / "exp.json").read_text())
    assert [entry["P"] for entry in study["32"]] == [r["concentration"] for r in records]


def test_the_chosen_samples_are_a_coco_file_that_runs_again(suite):
    suite.run()
    first = values(suite.records())
    again = suite.path / "again"
    (again / "annotations").mkdir(parents=True)
    (again / "pinned").symlink_to(suite.coco / "train2017")
    manifest = (suite.folder / "samples.json").read_text()
    (again / "annotations" / "instances_pinned.json").write_text(manifest)
    suite.run("--coco=again").assert_outcomes(passed=24)
    assert values(suite.records()) == first


def test_chunks_are_computed_once_and_shared_by_the_methods(suite, monkeypatch, tmp_path):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    suite.run("--size=32,original").assert_outcomes(passed=48)
    counts = Counter(calls.read_text().splitlines())
    assert counts == {"(1, 3, 32, 32)": 4, "(1, 3, 40, 48)": 4}


def test_a_batch_holds_images_of_one_shape(suite, monkeypatch, tmp_path):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    suite.run("--batch-size=3").assert_outcomes(passed=24)
    assert calls.read_text().splitlines() == ["(3, 3, 32, 32)", "(1, 3, 32, 32)"]


def test_batch_size_does_not_change_float64_records(suite):
    suite.run("--dtype=float64")
    one = values(suite.records())
    suite.run("--dtype=float64", "--batch-size=4")
    four = values(suite.records())
    assert one.keys() == four.keys()
    assert max(abs(one[key] - four[key]) for key in one) < 1e-9


def test_a_second_run_gives_the_same_numbers(suite):
    suite.run()
    first, folder = values(suite.records()), suite.folder
    suite.run()
    assert suite.folder != folder
    assert values(suite.records()) == first


@pytest.mark.parametrize("options", [("--method=grad_cam",), ("-k", "grad_cam and not guided")])
def test_only_what_is_selected_is_computed(suite, options):
    suite.run(*options)
    assert {r["method"] for r in suite.records()} == {"grad_cam"}
    assert "PARTIAL" not in suite.report


def test_two_workers_give_the_same_records_and_report_and_time_nothing(suite):
    suite.run("--size=32,original")
    alone, report = values(suite.records()), suite.report
    result = suite.process("bench", "--size=32,original", "-n2")
    result.assert_outcomes(passed=51, skipped=12)
    assert "can't time under pytest-xdist" in suite.report
    assert values(suite.records()) == pytest.approx(alone, abs=1e-6)

    def table(text: str) -> str:
        return re.search(r"## Every net.*?(?=\n## )", text, re.DOTALL)[0]

    assert table(suite.report) == table(report)
    assert suite.folder.joinpath("samples.json").exists()


def test_a_full_report_has_charts_a_gallery_and_a_page(suite):
    result = suite.run("--report=full", "--size=original,32")
    result.assert_outcomes(passed=48)
    assert re.search(r"report: .*/report\.html", result.stdout.str())
    assert (suite.folder / "charts" / "mean.pdf").exists()
    assert list((suite.folder / "gallery").glob("sample-*.png"))
    page = (suite.folder / "report.html").read_text()
    assert "At size original. All 4 pictures." in " ".join(page.split())
    assert len(list((suite.folder / "previews" / "tiny").glob("*.json"))) == 4


def test_tables_are_not_lost_where_a_chart_can_t_be_drawn(suite, monkeypatch):
    def broken(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr(xai_core.report.build, "pictures", broken)
    result = suite.run("--report=full")
    result.assert_outcomes(passed=24)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    out = result.stdout.str()
    assert "ERROR: charts, gallery and page can't be made: RuntimeError: no font" in out
    assert "| Grad-CAM " in suite.report
    assert "Traceback" not in out


def test_the_report_stands_on_githubs_summary_page(suite, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(suite.path / "summary.md"))
    suite.run()
    assert (suite.path / "summary.md").read_text() == suite.report


def test_previews_that_are_missing_are_made_up_for(suite):
    """A run without pictures is completed by one with them."""
    suite.run()
    suite.run("--report=full", f"--resume={suite.folder}").assert_outcomes(passed=24)
    assert "All 4 pictures" in " ".join((suite.folder / "report.html").read_text().split())


def test_saved_maps_are_those_that_were_scored(suite):
    suite.run("--save-maps")
    for record in suite.records():
        stem = Path(suite.folder, "maps", "tiny", "32", f"{record['sample']}-{record['method']}")
        saved = np.load(f"{stem}.npy")
        energy = float(np.square(saved.astype(np.float64)).sum())
        assert energy == pytest.approx(record["energy_total"], rel=1e-9)
        assert cv2.imread(f"{stem}.png", cv2.IMREAD_UNCHANGED).shape == (32, 32)
        assert Path(f"{stem}-overlay.png").exists() == (record["channels"] == 1)


def test_the_whole_suite_passes_with_invariants_and_timings(suite):
    result = suite.run("bench", "--rounds=2")
    result.assert_outcomes(passed=24 + 3 + 6)
    assert "median of 2 rounds" in suite.report
    time_table = suite.report.split("## Time")[1].split("## ")[0]
    assert re.search(r"\| tiny +\| 32 +(\| +\d+\.\d ){7}\|", time_table)


@pytest.mark.parametrize(
    ("option", "outcomes"),
    [
        ("--benchmark-disable", {"passed": 33}),
        ("--benchmark-skip", {"passed": 27, "skipped": 6}),
        ("--benchmark-only", {"passed": 6, "skipped": 27}),
    ],
)
def test_benchmark_switches_lose_nothing_in_silence(suite, option, outcomes):
    result = suite.run("bench", option)
    result.assert_outcomes(**outcomes)
    assert result.ret == 0


def test_benchmarks_are_saved_and_compared(suite):
    suite.run("bench/test_timing.py", "--benchmark-autosave")
    result = suite.run("bench/test_timing.py", "--benchmark-compare")
    result.assert_outcomes(passed=6)
    for which in ("0001_", "NOW"):  # the faster one comes first
        result.stdout.fnmatch_lines([f"*test_time*grad_cam*({which}*"])


def test_junitxml_takes_the_timings(suite):
    result = suite.run("bench", "--junitxml=junit.xml", "--rounds=2")
    assert result.ret == 0
    assert "engine_seconds" in (suite.path / "junit.xml").read_text()


def test_other_tests_cost_no_run_folder_and_no_torch(suite):
    (suite.path / "test_other.py").write_text(
        "import sys\ndef test_it():\n    assert 'torch' not in sys.modules\n"
    )
    result = suite.pytester.runpytest_subprocess("test_other.py")
    result.assert_outcomes(passed=1)
    assert not (suite.path / "reports").exists()


def test_from_within_the_bench_folder(suite, monkeypatch):
    monkeypatch.chdir(suite.path / "bench")
    result = suite.pytester.runpytest_inprocess(
        "-p",
        "no:cacheprovider",
        "--net",
        "tinynet:SPEC",
        "--coco",
        "../coco",
        "--size",
        "32",
        "--report=tables",
    )
    result.assert_outcomes(passed=57)
    assert len(suite.records()) == 48


def test_a_users_data_set_runs_under_its_module_path(suite):
    doc = (Path(__file__).parents[2] / "docs" / "adding-a-data-set.md").read_text()
    code = re.search(r"```python\n(.*?)```", doc, re.DOTALL)[1]
    (suite.path / "squares.py").write_text(code)
    result = suite.pytester.runpytest_inprocess(
        *("bench/test_concentration.py", "-p", "no:cacheprovider", "--size=32", "--report=tables"),
        *("--net=tinynet:SPEC", "--data=squares:Squares", "--classes=all"),
    )
    result.assert_outcomes(passed=120)
    assert {r["data"] for r in suite.records()} == {"squares"}
    assert all(r["chance"] > r["mask_share"] for r in suite.records())


TRAINED = (
    "import tinynet\nfrom dataclasses import replace\nSPEC = replace(tinynet.SPEC, weights=None)"
)


def test_randomised_copies_are_nets_of_their_own_and_no_part_of_the_main_tables(suite):
    (suite.path / "trained.py").write_text(TRAINED)
    suite.run("--net=trained:SPEC").assert_outcomes(passed=24)
    main = suite.report[: suite.report.index("## Time")]
    result = suite.run("bench", "--net=trained:SPEC", "--randomise", "--rounds=1")
    result.assert_outcomes(passed=4 * 24 + 3 + 6)  # invariants and timings: the net alone
    nets = Counter(r["net"] for r in suite.records())
    assert nets == dict.fromkeys(["tiny", "tiny~logits", "tiny~half", "tiny~all"], 24)
    assert len({r["weights_sha256"] for r in suite.records()}) == 4
    start = suite.report.index("## Does the method notice")
    rest = suite.report[start:]
    shown = suite.report[:start] + rest[rest.index("\n## ", 5) + 1 :]
    kept = shown[: shown.index("## Time")]
    assert kept.split("\n", 1)[1] == main.split("\n", 1)[1]
    again = suite.run("--net=trained:SPEC", "--randomise", f"--resume={suite.folder}")
    again.assert_outcomes(passed=4 * 24)


def test_a_net_that_learnt_nothing_has_nothing_to_forget(suite):
    result = suite.run("--randomise")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--randomise needs trained weights, and tiny have random ones*"])
