"""Verdicts on made-up runs, rule by rule, and the power and false alarms of the test of means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.gate.made_up import failures, judged, moved
from xai_core.errors import BadInput
from xai_core.gate import RECOMMENDED, parse_rule
from xai_core.report import verdict


def test_the_same_passes_and_says_how_many(records):
    found = judged(records, records, "mean:0.005", "order", "zero_energy:0")
    assert (found.failed, found.compared, found.exact) == (False, 320, True)


@pytest.mark.parametrize(("by", "fails"), [(9e-7, False), (2e-6, True), (float("nan"), True)])
def test_where_nothing_changed_p_must_be_the_same(records, by, fails):
    after = moved(records, by, other=False, sample="003-orange", method="cam")
    found = judged(records, after)
    assert found.exact
    assert found.failed == fails
    if fails:
        listed = next(f for f in found.findings if f.failed and "comparison" in f.what)
        assert len(listed.rows) == 2
        assert {row[2] for row in listed.rows} == {"003-orange"}


def test_no_number_fails_where_means_are_compared_too(records):
    after = moved(records, float("nan"), sample="003-orange", method="cam")
    assert "other P, or no number" in failures(judged(records, after, "mean:0.005"))


@pytest.mark.parametrize(
    ("rule", "drop", "fails"),
    [
        ("mean:0.005", 0.004, False),
        ("mean:0.005", 0.02, True),
        ("mean:5%", 0.02, False),
        ("mean:5%", 0.04, True),
        ("mean:0.005", -0.1, False),  # a rise is no regression
        ("each:0.1", 0.09, False),
        ("each:0.1", 0.11, True),
    ],
)
def test_drops(records, rule, drop, fails):
    noise = np.random.default_rng(1)
    after = moved(
        records,
        lambda r: -drop + (0.002 * noise.normal() if rule.startswith("mean") else 0),
        net="squeezenet1_0",
        method="cam",
    )
    found = judged(records, after, rule)
    assert failures(found) == ([rule] if fails else [])
    if fails and rule.startswith("mean"):
        row = next(f for f in found.findings if f.failed).rows[0]
        assert row[:3] == ["squeezenet1_0", "224", "cam"]
        assert row[5] == pytest.approx(-drop, abs=0.002)


def test_a_drop_by_chance_is_none(records):
    """A large mean drop that a single image makes is not beyond chance."""
    after = moved(records, -0.4, sample="003-orange", method="cam", net="squeezenet1_0")
    assert failures(judged(records, after, "mean:0.005")) == []
    assert failures(judged(records, after, "each:0.1")) == ["each:0.1"]


def test_false_alarms_and_power(records, monkeypatch):
    """60 runs each of noise alone, and of noise with a drop in one cell of eight."""
    monkeypatch.setattr("xai_core.stats.FLIPS", 1999)
    monkeypatch.setattr("xai_core.stats.RESAMPLES", 50)
    alarms = caught = 0
    for seed in range(60):
        noise = np.random.default_rng(seed)
        after = moved(records, lambda r, noise=noise: 0.05 * noise.normal())
        alarms += judged(records, after, "mean:0.005").failed
        worse = moved(after, -0.05, net="squeezenet1_0", method="cam")
        caught += judged(records, worse, "mean:0.005").failed
    assert alarms <= 3
    assert caught >= 57


def test_one_class_that_fails_under_every_method_is_seen_though_others_gain(make_record):
    """Its loss of 0.19 is made up for by the others, and no record loses 0.2."""
    classes = ("orange", "banana", "kite", "bird", "horse", "chair")
    before = [
        make_record(0.5, method=m, category=c, sample=f"{i}-{c}", image_id=10 * i + at)
        for at, c in enumerate(classes)
        for i in range(10)
        for m in ("cam", "grad_cam", "edges")
    ]
    noise = np.random.default_rng(0)

    def change(r):
        by = 0.0 if r.reference else -0.19 if r.category == "kite" else 0.05
        return by + 0.002 * noise.normal()

    after = moved(before, change)
    old = judged(before, after, "mean:0.005", "each:0.2", "order", "zero_energy:0")
    assert failures(old) == []
    found = judged(before, after)
    assert failures(found) == ["class:0.05"]
    finding = next(f for f in found.findings if f.failed)
    assert [row[:3] for row in finding.rows] == [["squeezenet1_0", "224", "kite"]]
    assert finding.rows[0][5] == pytest.approx(-0.19, abs=0.002)
    assert failures(judged(before, after, "class:0.2")) == []


def test_a_class_is_tested_over_its_images(make_record):
    """A drop of two images in twenty is chance; of all of them it is none."""
    before = [make_record(0.6, sample=f"{i}-orange", image_id=i) for i in range(20)]
    two = moved(before, lambda r: -0.6 if r.image_id < 2 else -0.001 * (-1) ** r.image_id)
    assert np.mean([r.metrics["concentration"] for r in two]) < 0.6 - 0.05
    assert failures(judged(before, two, "class:0.05")) == []
    assert failures(judged(before, moved(before, -0.06), "class:0.05")) == ["class:0.05"]
    assert failures(judged(before, moved(before, -0.04), "class:0.05")) == []


def test_without_rules_the_recommended_ones_hold_and_are_named(records):
    names = ", ".join(str(rule) for rule in RECOMMENDED)
    assert names == "mean:0.005, class:0.05, each:0.2, order:0.005, zero_energy:0"
    found = judged(records, moved(records, -0.4, method="cam"))
    assert set(failures(found)) >= {"mean:0.005", "each:0.2"}
    assert f"No rule was given, so {names} hold." in verdict.render(found, "main", "run")
    asked = judged(records, moved(records, -0.4, method="cam"), "zero_energy:0")
    assert not asked.failed
    assert "No rule was given" not in verdict.render(asked, "main", "run")


def test_a_lead_within_rounding_is_none(records):
    """CAM and Grad-CAM of one net are the same but for rounding: their order must not flap."""
    for by in (-1e-9, 0.0, 1e-9):
        level = {"guided_grad_cam": 0.7, "cam": 0.7 + by}
        after = [
            replace(r, threads=9, metrics={**r.metrics, "concentration": level[r.method]})
            for r in records
            if r.net == "squeezenet1_0" and r.method in level
        ]
        before = [r for r in records if r.net == "squeezenet1_0" and r.method in level]
        assert failures(judged(before, after, "order")) == ["order:0.005"]


def test_a_rule_that_has_nothing_to_compare_is_not_judged(make_record):
    before = [make_record(method="edges", sample=f"{i}-a", image_id=i) for i in range(9)]
    found = judged(before, moved(before, 0.0), "class:0.05", "order")
    assert [f.mark for f in found.findings[1:]] == ["not judged", "not judged"]


def test_another_data_set_is_one_failure_and_no_list_of_missing_records(records):
    other = [replace(r, data="cells", sample_sha256="ee" * 32) for r in records]
    found = judged(records, other[:100])
    assert failures(found) == ["other data set"]
    assert "of the data set scenes, this run of cells" in found.findings[0].sentence
    assert found.compared == 0
    renamed = [replace(r, data="scenes-2") for r in records]
    assert not judged(records, renamed).failed
    assert failures(judged(records, renamed[:100])) == ["other data set"]
    assert judged(records, renamed[:100], accept_new=True).compared == 100


def test_order(records):
    after = moved(records, -0.25, net="squeezenet1_0", method="guided_grad_cam")
    found = judged(records, after, "order")
    assert failures(found) == ["order:0.005"]
    assert [row[2:4] for row in found.findings[-1].rows] == [["guided_grad_cam", "cam"]]
    random = moved(records, -0.25, net="alexnet", method="guided_grad_cam")
    assert failures(judged(records, random, "order")) == []
    reference = moved(records, 0.3, net="squeezenet1_0", method="edges")
    assert failures(judged(records, reference, "order")) == []


def test_zero_maps(records):
    after = [
        replace(r, zero_energy=True, threads=9, metrics={**r.metrics, "concentration": 0.0})
        if r.sample in {"001-orange", "002-orange"} and r.method == "cam"
        else replace(r, threads=9)
        for r in records
    ]
    assert failures(judged(records, after, "zero_energy:0")) == ["zero_energy:0"]
    assert failures(judged(records, after, "zero_energy:4")) == []
    assert failures(judged(after, records, "zero_energy:0")) == []


def test_a_zero_map_where_nothing_changed_is_another_result(records):
    after = [replace(r, zero_energy=r.sample == "001-orange") for r in records]
    assert judged(records, after).failed


def test_other_images_masks_and_outputs_are_no_comparison(records):
    for field, value, what in (
        ("sample_sha256", "ee" * 32, "other image or annotation"),
        ("chance", 0.26, "other dilated mask"),
        ("class_index", 7, "other explained output"),
    ):
        after = [replace(records[0], **{field: value}), *records[1:]]
        assert failures(judged(records, after)) == [what]


def test_other_weights_may_prefer_another_output(records):
    after = [replace(r, class_index=7, weights_sha256="dd" * 32) for r in records[:160]]
    found = judged(records[:160], after, "mean:0.005")
    assert not found.failed
    assert not found.exact


def test_random_weights_that_were_drawn_anew_are_left_out_by_name(records):
    after = [
        replace(r, weights_sha256="dd" * 32, metrics={**r.metrics, "concentration": 0.0})
        if r.weights_random
        else r
        for r in records
    ]
    found = judged(records, after)
    assert not found.failed
    assert found.compared == 160
    assert "alexnet: never trained" in found.findings[0].sentence
    assert found.findings[0].mark == "not judged"


def test_randomised_copies_are_left_out(records, make_record):
    copies = [make_record(net="squeezenet1_0~all", randomised="all")]
    assert not judged(records, [*records, *copies]).failed


# ---- rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "mean:0.005",
        "mean:3%",
        "class:0.05",
        "class:3%",
        "each:0.1",
        "order:0.005",
        "order:0.01",
        "zero_energy:0",
    ],
)
def test_rules_read_back_as_they_are_written(text):
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mean",
        "mean:",
        "mean:-1",
        "mean:x",
        "each:3%",
        "zero_energy",
        "zero_energy:0.5",
        "max:1",
    ],
)
def test_rules_that_are_none(text):
    with pytest.raises(BadInput, match=r"unknown rule .*; rules are mean:0\.005"):
        parse_rule(text)


# ---- what people see ---------------------------------------------------------------------------


def test_the_verdict_links_to_the_pictures(records):
    after = moved(records, 0.1, other=False, sample="003-orange", net="squeezenet1_0", method="cam")
    text = verdict.render(
        judged(records, after),
        "main",
        "run",
        {"Before": "../a/report.html", "After": "report.html"},
    )
    assert "# Gate: FAILED, 320 records compared" in text
    assert "[map](../a/report.html#map=squeezenet1_0%2F003-orange)" in text
    assert "[map](report.html#map=squeezenet1_0%2F003-orange)" in text


def test_githubs_commands_are_escaped():
    from xai_core.gate import Finding, Verdict

    found = Verdict((Finding("mean:3%, x", True, "a\nb 5%"),))
    assert verdict.github_commands(found) == [
        "::error title=concentration gate%2C mean%3A3%25%2C x::a%0Ab 5%25"
    ]
