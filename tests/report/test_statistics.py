from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from tests.report.test_markdown import rows, summary
from xai_core.report import compare, markdown, statistics, terminal
from xai_core.report.charts import ranks
from xai_core.report.statistics import intervals
from xai_core.report.summary import frame


def grid(make_record, means, images=20, **fields):
    """Records of each method with the given mean, on the same images."""
    noise = np.random.default_rng(0).normal(0, 0.05, size=images)
    return [
        make_record(mean + noise[i], method=method, image_id=i, sample=f"{i}", **fields)
        for method, mean in means.items()
        for i in range(images)
    ]


def render(records, **fields) -> str:
    return "\n\n".join(statistics.sections(summary(records, **fields)))


def test_a_clear_difference_is_one_and_its_size_and_n_are_told(make_record):
    text = render(grid(make_record, {"grad_cam": 0.3, "backprop": 0.5}))
    (row,) = rows(text, "Backpropagation")[:1]
    method, following, pairs, images, difference, interval, p = row
    assert (method, following, pairs, images) == ("Backpropagation", "Grad-CAM", "20", "20")
    assert (difference, interval) == ("0.200", "0.200 to 0.200")  # the noise is common to both
    assert float(p) == pytest.approx(2 / 2**20, abs=2e-4)
    assert "100% of" in text


def test_pairs_are_made_on_common_cells_only(make_record):
    """CAM on the easy half of the cells would win against Grad-CAM on all of them."""
    records = grid(make_record, {"grad_cam": 0.3}, net="vgg19")
    records += grid(make_record, {"grad_cam": 0.6, "cam": 0.6})
    row = rows(render(records), "cam")[0]
    assert row[:5] == ["cam", "Grad-CAM", "20", "20", "0.000"]
    assert row[-1] == "1.0000"


def test_random_nets_are_left_out(make_record):
    records = grid(make_record, {"grad_cam": 0.3, "backprop": 0.5})
    alone = render(records)
    mixed = records + grid(make_record, {"backprop": 0.1}, net="vgg19", weights_random=True)
    assert render(mixed) == alone
    assert "nothing to test" in render(grid(make_record, {"cam": 0.1}, weights_random=True))


def test_strata_by_rank_say_whether_recognition_matters(make_record):
    records = [make_record(0.8, rank=1, sample="a"), make_record(0.1, rank=60, sample="b")]
    text = render(records)
    assert "Rank 1 " in text
    assert "Rank above 50" in text
    assert "Rank 2" not in text
    assert rows(text, "Grad-CAM")[-1] == ["Grad-CAM", "0.800", "0.100"]
    assert rows(text, "*n (net, size, sample)*") == [["*n (net, size, sample)*", "1", "1"]]


@pytest.mark.parametrize(
    "means", [{"grad_cam": 0.0}, {"grad_cam": 0.0, "backprop": 0.0, "cam": 0.0}]
)
@pytest.mark.parametrize("images", [1, 2, 5])
def test_degenerate_runs_give_sentences_and_no_nan(make_record, means, images):
    noise_free = [
        make_record(mean, method=method, image_id=i, sample=f"{i}", zero_energy=True)
        for method, mean in means.items()
        for i in range(images)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = render(noise_free)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    if len(means) == 1:
        assert "nothing to compare" in text
    elif images < 6:
        assert "no difference can reach p < 0.05" in text


def test_tables_and_charts_agree_on_ranks_and_ties(make_record):
    """CAM is Grad-CAM but for rounding, and is not defined on every net."""
    generator = np.random.default_rng(0)
    records = []
    for image in range(12):
        for net in ("squeezenet1_0", "vgg19"):
            p = generator.random(3)
            values = {"grad_cam": p[0], "backprop": p[1], "edges": p[2]}
            if net == "squeezenet1_0":
                values["cam"] = p[0] + 1e-9 * generator.normal()
            records += [
                make_record(v, net=net, method=m, image_id=image, sample=f"{image}")
                for m, v in values.items()
            ]
    text = render(records, titles={m: m for m in ("grad_cam", "backprop", "edges", "cam")})
    chart = ranks.ranking(frame(records))
    assert chart.ranks["cam"] == chart.ranks["grad_cam"]
    section = text.split("### Does another draw")[1].split("###")[0]
    shown = {row[0]: row[2] for name in chart.ranks.index for row in rows(section, name)}
    assert shown == {method: f"{rank:.2f}" for method, rank in chart.ranks.items()}
    assert rows(text, "cam")[0][-1] == "1.0000"  # against Grad-CAM: no difference but rounding


def test_few_images_are_warned_of(make_record):
    for images, warned in ((19, True), (20, False)):
        few = summary(grid(make_record, {"grad_cam": 0.3, "cam": 0.4}, images=images))
        for text in (markdown.render(few), terminal.render(few), compare.render(few, few)):
            assert ("Only 19 images: below 20 the 95 % intervals are too" in text) == warned


def test_the_order_of_records_does_not_matter(make_record):
    records = grid(make_record, {"grad_cam": 0.3, "backprop": 0.5, "cam": 0.4})
    assert render(records) == render(records[::-1])


def test_intervals_by_net_are_those_of_each_net_alone(make_record):
    records = grid(make_record, {"grad_cam": 0.3}, net="a")
    records += grid(make_record, {"grad_cam": 0.6}, net="b")
    both = intervals(frame(records), ("net", "method"))
    assert both["mean_p"].to_list() == pytest.approx(
        [np.mean([r.metrics["concentration"] for r in records if r.net == n]) for n in "ab"]
    )
    assert (both["low"] < both["mean_p"]).all()
    assert (both["mean_p"] < both["high"]).all()
    assert both["images"].to_list() == [20, 20]
