"""Two runs side by side: what a reader sees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xai_core.errors import BadInput
from xai_core.report import compare
from xai_core.report.summary import Summary


def run(name, records):
    return Summary(name, records, len(records), {"cam": "CAM", "grad_cam": "Grad-CAM"})


@pytest.fixture
def records(make_record):
    return [
        make_record(0.3 + 0.01 * i, sample=f"{i}-orange", image_id=i, method=method)
        for i in range(8)
        for method in ("cam", "grad_cam")
    ]


def lowered(records, by):
    return [
        replace(r, metrics={**r.metrics, "concentration": r.metrics["concentration"] - by})
        if r.method == "cam"
        else r
        for r in records
    ]


def test_a_drop_is_shown_with_its_size_and_its_p(records):
    text = compare.render(run("a", records), run("b", lowered(records, 0.05)))
    assert "# Concentration: b against a" in text
    assert "16 records in both runs, 8 of them with exactly the same P" in text
    line = next(line for line in text.splitlines() if line.startswith("| CAM "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # 2 of 2^8 sign flips are as extreme, and Holm's factor is 2
    assert cells[1:] == ["8", "8", "0.335", "0.285", "-0.0500", "-0.0500 to -0.0500", "0.0156"]
    assert "## Largest changes" in text
    assert "Data, weights, versions and arithmetic are the same." in text


def test_what_differs_between_the_runs_is_named(records):
    after = [replace(r, threads=7, weights_sha256="0123456789abcdef") for r in records]
    text = compare.render(run("a", records), run("b", after))
    assert "`threads`" in text
    assert "0123456789ab " in text
    assert "## Largest changes" not in text


def test_trained_and_random_nets_are_apart(records):
    random = [replace(r, net="alexnet", weights_random=True) for r in records]
    text = compare.render(run("a", [*records, *random]), run("b", [*records, *random]))
    assert text.index("Trained nets.") < text.index("Nets that were never trained.")
    assert "| 16 " not in text.split("## By net")[0]
    assert text.count("| squeezenet1_0 | 224 ") == 2


def test_what_only_one_run_has_is_named(records):
    text = compare.render(run("a", records), run("b", [r for r in records if r.method == "cam"]))
    assert "8 only before, 0 only after" in text
    assert "Only before: grad_cam on squeezenet1_0 at 224." in text


def test_nothing_in_common_is_no_comparison(records):
    with pytest.raises(BadInput, match="no record of the same net, size, sample and method"):
        compare.render(run("a", records), run("b", []))
