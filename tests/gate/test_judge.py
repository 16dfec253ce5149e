"""Verdicts on made-up runs, rule by rule, and the power and false alarms of the test of means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.errors import BadInput
from xai_core.gate import (
    Claim,
    baseline_of,
    from_files,
    judge,
    load_claims,
    parse_rule,
    to_files,
)
from xai_core.report import baselines, verdict
from xai_core.types import Record


@pytest.fixture(scope="module")
def records(make_record) -> list[Record]:
    generator = np.random.default_rng(0)
    levels = {"guided_grad_cam": 0.7, "cam": 0.5, "deconvolution": 0.2, "edges": 0.6}
    return [
        make_record(
            float(np.clip(level + 0.1 * generator.normal(), 0.01, 1)),
            net=net,
            method=method,
            sample=f"{i:03d}-orange",
            image_id=i,
            weights_random=net == "alexnet",
            weights_sha256=("a1" if net == "alexnet" else "b2") * 32,
        )
        for net in ("squeezenet1_0", "alexnet")
        for i in range(40)
        for method, level in levels.items()
    ]


def moved(records, by, other=True, **where):
    """P moved by ``by`` (a number or a function of the record) where the fields are these."""
    found = []
    for r in records:
        if all(getattr(r, name) == value for name, value in where.items()):
            p = r.metrics["concentration"] + (by(r) if callable(by) else by)
            r = replace(r, metrics={**r.metrics, "concentration": float(p)})
        found.append(replace(r, threads=r.threads + 1) if other else r)
    return found


def judged(before, after, *rules, **options):
    parsed = [parse_rule(rule) for rule in rules]
    return judge(baseline_of(before), baseline_of(after), parsed, baselines=["edges"], **options)


def failures(found) -> list[str]:
    return [finding.what for finding in found.findings if finding.failed]


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


def test_order(records):
    after = moved(records, -0.25, net="squeezenet1_0", method="guided_grad_cam")
    found = judged(records, after, "order")
    assert failures(found) == ["order:0.005"]
    assert [row[2:4] for row in found.findings[-1].rows] == [["guided_grad_cam", "cam"]]
    random = moved(records, -0.25, net="alexnet", method="guided_grad_cam")
    assert failures(judged(records, random, "order")) == []
    baseline = moved(records, 0.3, net="squeezenet1_0", method="edges")
    assert failures(judged(records, baseline, "order")) == []


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


def test_randomised_copies_are_left_out(records, make_record):
    copies = [make_record(net="squeezenet1_0~all", randomised="all")]
    assert not judged(records, [*records, *copies]).failed


# ---- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "fails"),
    [
        (Claim(first="guided_grad_cam"), False),
        (Claim(first="cam"), True),
        (Claim(last="deconvolution"), False),
        (Claim(last="cam"), True),
        (Claim(method="cam", at_least=0.4), False),
        (Claim(method="cam", at_least=0.9), True),
        (Claim(method="cam", at_most=0.6), False),
        (Claim(method="cam", at_most=0.4), True),
        (Claim(method="guided_grad_cam", above="edges"), False),
        (Claim(method="cam", above="edges"), True),
        (Claim(first="cam", net="vgg19"), False),
    ],
    ids=str,
)
def test_claims(records, claim, fails):
    found = judged(records, records, claims=[claim])
    assert found.failed == fails
    if claim.net:
        assert found.findings[-1].sentence.startswith("Not judged")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[claim]]\nfirst = 1", "first must be a text"),
        ("[[claim]]\nbest = 'cam'", "unknown key 'best'; known: above, at_least"),
        ("[[claim]]\nfirst = 'cam'\nlast = 'cam'", "must have first, last, or method"),
        ("[[claim]]\nmethod = 'cam'", "must have first, last, or method"),
        ("[[claim]]\nfirst = 'cam'\nat_least = 0.1", "must have first, last, or method"),
        ("claim = 3", "nothing else"),
        ("[other]", "nothing else"),
        ("[[claim", "can't be read"),
    ],
)
def test_claims_that_can_t_be_read(tmp_path, text, sentence):
    path = tmp_path / "thresholds.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        load_claims(path)


def test_the_documented_claims_can_be_read(tmp_path):
    from xai_core.gate import claims

    text = claims.__doc__.partition(".. code-block:: toml\n\n")[2]
    path = tmp_path / "thresholds.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    assert [str(claim) for claim in load_claims(path)] == [
        "guided_grad_cam is first",
        "deconvolution is last",
        "guided_grad_cam is at least 0.7",
    ]


# ---- rules and files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["mean:0.005", "mean:3%", "each:0.1", "order:0.005", "order:0.01", "zero_energy:0"]
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


def test_a_baseline_comes_back_from_its_files(records, tmp_path):
    before = baseline_of(records)
    files = to_files(before)
    assert sorted(files) == ["scenes-alexnet-a1a1a1a1.csv", "scenes-squeezenet1_0-b2b2b2b2.csv"]
    baselines.save(before, tmp_path)
    found = baselines.load(tmp_path)
    assert found.keys() == before.keys()
    for cell, entry in found.items():
        assert entry.p == pytest.approx(before[cell].p, abs=6e-8)
        assert replace(entry, p=0, chance=0) == replace(before[cell], p=0, chance=0)
    assert not judge(found, before, []).failed
    assert to_files(found) == files


@settings(max_examples=50, deadline=None)
@given(p=st.floats(0, 1), zero=st.booleans(), chance=st.floats(0, 1), name=st.text(max_size=8))
def test_any_p_and_name_come_back(make_record, p, zero, chance, name):
    category = name.replace("\r", " ").replace("\n", " ").replace("\x00", " ")
    record = make_record(p, zero_energy=zero, chance=chance, category=category)
    before = baseline_of([record])
    (found,) = from_files(to_files(before)).values()
    assert found.p == pytest.approx(0.0 if zero else p, abs=6e-8)
    assert found.zero_energy == zero


def test_new_weights_replace_the_file_of_the_old_ones(records, tmp_path):
    baselines.save(baseline_of(records), tmp_path)
    retrained = [replace(r, weights_sha256="c3" * 32) for r in records if not r.weights_random]
    baselines.save(baseline_of(retrained), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scenes-alexnet-a1a1a1a1.csv",
        "scenes-squeezenet1_0-c3c3c3c3.csv",
    ]


@pytest.mark.parametrize("damage", ["", "# net: x\n", "size,sample\n", "\x00"])
def test_damaged_files_are_named(records, tmp_path, damage):
    path = baselines.save(baseline_of(records), tmp_path)[0]
    path.write_text(damage)
    with pytest.raises(BadInput, match=path.name):
        baselines.load(tmp_path)


def test_a_column_of_p_that_is_no_number_is_named(records, tmp_path):
    path = baselines.save(baseline_of(records), tmp_path)[0]
    path.write_text(path.read_text().replace("0.", "much", 9))
    with pytest.raises(BadInput, match=f"{path.name} is no baseline"):
        baselines.load(path)


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
