"""A package outside this repository adds one of everything, as the how-to pages say."""

from __future__ import annotations

import re

import pytest

from xai_core.methods import DEFAULT_METHODS

from .conftest import ROOT

ENTRY_POINTS = """\
[xai_core.methods]
hires_cam = others.hires_cam:hires_cam

[xai_core.metrics]
positive_mass = others.positive_mass:positive_mass

[xai_core.data_sets]
squares = others.squares:Squares

[xai_core.nets]
other_tiny = tinynet:OTHER
"""


def example(page: str) -> str:
    """The Python on a how-to page."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def package(suite):
    """An installed package: modules on the path and the metadata that pip would write."""
    folder = suite.path / "others"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "hires_cam.py").write_text(example("adding-a-method"))
    (folder / "positive_mass.py").write_text(example("adding-a-metric"))
    (folder / "squares.py").write_text(example("adding-a-data-set"))
    with (suite.path / "tinynet.py").open("a") as file:
        file.write('OTHER = NetSpec("other_tiny", lambda: Tiny(gap=True), weights="random:0")\n')
    metadata = suite.path / "others-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return suite


def test_a_method_a_metric_a_net_and_a_data_set_from_outside_run_together(package):
    result = package.pytester.runpytest_subprocess(
        *("bench/test_concentration.py", "-p", "no:cacheprovider", "--size=32", "--report=tables"),
        *("--net=other_tiny", "--data=squares", "--classes=all", "--method=hires_cam,cam"),
        "--metric=positive_mass",
    )
    result.assert_outcomes(passed=20)
    records = package.records()
    assert {(r["net"], r["method"], r["data"]) for r in records} == {
        ("other_tiny", method, "squares") for method in ("cam", "hires_cam")
    }
    # Maps of the CAM family are not negative: their mass and energy agree on where there is any.
    assert all(0 <= r["positive_mass"] <= 1 for r in records)
    assert any(r["positive_mass"] != r["concentration"] > 0 for r in records)
    assert {r["target_layer"] for r in records} == {"features"}  # found by rule
    assert "HiResCAM" in package.report


def test_what_is_installed_changes_no_run_that_does_not_name_it(package):
    (package.path / "others" / "hires_cam.py").write_text("raise ImportError('broken')\n")
    result = package.pytester.runpytest_subprocess(
        *("bench/test_concentration.py", "-p", "no:cacheprovider", "--size=32", "--report=tables"),
        *("--coco=coco", "--data-dir=data", "--net=tinynet:SPEC", "--image-ids=1"),
    )
    result.assert_outcomes(passed=len(DEFAULT_METHODS))
    records = package.records()
    assert [r["method"] for r in records] == sorted(DEFAULT_METHODS)
    assert all("positive_mass" not in r for r in records)


def test_a_metric_that_would_write_over_a_column_is_refused_before_anything_runs(package):
    (package.path / "others" / "positive_mass.py").write_text(
        "from xai_core.metrics import register_metric\n\n"
        'register_metric("positive_mass", columns=("rank",))(lambda map, mask: {"rank": 0.0})\n'
    )
    result = package.process("--metric=positive_mass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    sentence = "the metric positive_mass can't have a column 'rank': every record has one"
    result.stderr.fnmatch_lines([f"ERROR: *{sentence}*"])
    assert not list(package.path.glob("reports/*"))


def test_the_nets_page_shows_a_spec_that_runs(suite):
    code = example("adding-a-net").replace("MyNet(num_classes=1000)", "tinynet.Tiny(gap=True)")
    (suite.path / "mine.py").write_text(
        "import tinynet\n" + code.replace("features.9", "features.4")
    )
    import tinynet
    import torch

    torch.save(tinynet.Tiny(gap=True).state_dict(), suite.path / "checkpoint.pth")
    suite.run("--net=mine:SPEC", "--weights=my_net=checkpoint.pth").assert_outcomes(passed=24)
    assert {(r["net"], r["weights"]) for r in suite.records()} == {("my_net", "checkpoint.pth")}


OWN_NETS = """
from tinynet import NetSpec, Tiny

NAMES = tuple(f"thing {i}" for i in range(1000))
FIXED = NetSpec("fixed", lambda: Tiny(gap=True), weights="random:0", input_size=32,
                mean=(0, 0, 0), std=(0.5, 0.5, 0.5), class_names=NAMES)
OTHER_MEAN = NetSpec("other_mean", lambda: Tiny(gap=True), "features.4", weights="random:0",
                     mean=(0.9, 0, 0), std=(0.5, 0.5, 0.5))
WRONG = NetSpec("wrong", lambda: Tiny(gap=True), "feature.4", weights="random:0")
"""


def test_a_net_of_one_size_is_skipped_at_others_and_fails_nowhere(suite):
    (suite.path / "own_nets.py").write_text(OWN_NETS)
    result = suite.run("--net=own_nets:FIXED", "--size=32,original", "--method=backprop,grad_cam")
    result.assert_outcomes(passed=8, skipped=8)
    assert result.ret == pytest.ExitCode.OK
    assert {(r["size"], r["target_layer"]) for r in suite.records()} == {("32", "features")}
    assert "fixed takes images of 32x32 pixels only" in suite.report


def test_a_nets_own_normalisation_is_what_it_sees(suite):
    (suite.path / "own_nets.py").write_text(OWN_NETS)
    suite.run("--net=own_nets:FIXED,own_nets:OTHER_MEAN", "--method=backprop")
    logits = {(r["net"], r["sample"]): r["logit"] for r in suite.records()}
    samples = {sample for _, sample in logits}
    assert all(logits["fixed", s] != logits["other_mean", s] for s in samples)


def test_a_target_layer_that_is_not_there_is_named_in_one_sentence(suite):
    (suite.path / "own_nets.py").write_text(OWN_NETS)
    result = suite.run("--net=own_nets:WRONG", "--method=backprop")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str() + result.stderr.str()
    assert "wrong has no layer called 'feature.4'; near: feature" in text
    assert "Traceback" not in text


def test_a_metric_that_breaks_fails_by_name(package):
    (package.path / "others" / "positive_mass.py").write_text(
        "from xai_core.metrics import register_metric\n\n"
        'register = register_metric("positive_mass", columns=("x",))\n'
        "positive_mass = register(lambda map, mask: 1 / 0)\n"
    )
    result = package.process("--method=cam", "--metric=positive_mass")
    result.assert_outcomes(failed=4)
    assert "the metric positive_mass failed: division by zero" in result.stdout.str()
