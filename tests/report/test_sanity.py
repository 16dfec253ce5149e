"""The table of randomised copies, against plain Python."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from xai_core.report import markdown, sanity
from xai_core.report.summary import Summary, split

TITLES = {"cam": "CAM", "backprop": "Backpropagation", "uniform": "Uniform"}


@pytest.fixture
def records(make_record):
    generator = np.random.default_rng(0)
    found = []
    for image in range(9):
        for method in TITLES:
            for stage, level in (("", 0.7), ("logits", 0.5), ("half", 0.4), ("all", 0.3)):
                p = 0.25 if method == "uniform" else level + 0.2 * generator.random()
                found.append(
                    make_record(
                        p,
                        net=f"copy-{stage}" if stage else "squeezenet1_0",
                        base="squeezenet1_0" if stage else "",
                        method=method,
                        sample=f"{image}-orange",
                        image_id=image,
                        randomised=stage,
                    )
                )
    return found


def summary(records):
    own, randomised = split(records)
    return Summary("run", own, len(records), TITLES, randomised)


def row(records, name) -> list[str]:
    text = "\n".join(sanity.sections(summary(records)))
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def values(records, method, stage):
    chosen = [r for r in records if (r.method, r.randomised) == (method, stage)]
    return np.array([r.metrics["concentration"] for r in chosen])


def test_means_gain_and_p_are_those_of_plain_python(records):
    means = [values(records, "cam", stage).mean() for stage in ("", "logits", "half", "all")]
    found = row(records, "CAM")
    assert found[0] == "9"
    assert found[1:5] == [f"{mean:.3f}" for mean in means]
    assert found[5] == "0.250"
    assert found[6] == f"{(means[3] - 0.25) / (means[0] - 0.25):.0%}"
    drops = values(records, "cam", "") - values(records, "cam", "all")
    alone = scipy.stats.permutation_test((drops,), np.sum, permutation_type="samples").pvalue
    assert float(found[7]) == pytest.approx(3 * alone, abs=5e-5)


def test_what_cannot_change_has_no_gain_to_lose(records):
    assert row(records, "*Uniform*")[1:] == [*["0.250"] * 5, "-", "1.0000"]


def test_only_samples_that_all_stages_have_count(records):
    fewer = [r for r in records if not (r.image_id == 0 and r.randomised == "half")]
    assert row(fewer, "CAM")[0] == "8"


def test_a_method_that_a_stage_lacks_is_left_out(records):
    fewer = [r for r in records if not (r.method == "cam" and r.randomised == "all")]
    text = "\n".join(sanity.sections(summary(fewer)))
    assert "| CAM " not in text
    assert "| Backpropagation " in text


def test_copies_are_in_no_other_table(records):
    with_copies = markdown.render(summary(records))
    without = markdown.render(summary([r for r in records if not r.randomised]))
    section = with_copies[with_copies.index("## Does the method notice") :]
    section = section[: section.index("\n## ", 5) + 1]
    assert with_copies.replace(section, "") == without


def test_nothing_is_said_without_copies(records):
    assert sanity.sections(summary([r for r in records if not r.randomised])) == []


def test_a_whole_that_is_missing_copies_is_partial(records):
    whole = summary(records)
    assert not whole.partial
    assert replace(whole, randomised=whole.randomised[1:]).partial


def test_a_net_that_recognised_no_sample_has_a_sentence_and_no_table(make_record):
    copy = make_record(0.2, net="vgg19~all", randomised="all")
    run = Summary("run", [make_record()], 2, {}, randomised=[copy])
    section = "\n".join(sanity.sections(run)).split("### vgg19")[1]
    assert "No sample has a record of the net and of all its copies." in section
    assert "|" not in section
