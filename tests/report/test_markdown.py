from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from xai_core.report import markdown, terminal
from xai_core.report.summary import Gap, Summary, Timing, by_method, frame

TITLES = {"backprop": "Backpropagation", "grad_cam": "Grad-CAM"}


def summary(records, **fields) -> Summary:
    defaults = {"name": "run", "records": records, "planned": len(records), "titles": TITLES}
    return Summary(**(defaults | fields))


def rows(text: str, first_cell: str) -> list[list[str]]:
    """All table rows that start with this cell."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return [row for row in cells if row[0] == first_cell]


def test_main_table_counts_zero_maps_as_zero_and_shows_the_mean_without_them(make_record):
    text = markdown.render(
        summary(
            [
                make_record(0.6, sample="a"),
                make_record(0.3, sample="b", dead_logit=True),
                make_record(0.0, sample="c", zero_energy=True, chance=0.1),
            ]
        )
    )
    # records, sum, mean, interval, median, chance, gain, share below chance, zero maps, dead logit,
    # mean without zeros
    expected = ["Grad-CAM", "3", "0.90", "0.300", "-", "0.300", "0.200", "1.50", "33%"]
    expected += ["1", "1", "0.450"]
    assert rows(text, "Grad-CAM")[0] == expected


def test_baselines_come_last_and_look_different(make_record):
    records = [make_record(0.2, method=m) for m in ("centre", "grad_cam", "uniform")]
    titles = {"grad_cam": "Grad-CAM", "centre": "Centre", "uniform": "Uniform"}
    both = summary(records, titles=titles)
    main_table = [row[0] for row in markdown.headline_rows(both)[0][2]]
    assert main_table == ["Grad-CAM", "*Centre*", "*Uniform*"]
    assert "*" not in terminal.render(both)


def test_only_zero_maps_leave_no_mean_without_them(make_record):
    text = markdown.render(summary([make_record(0.0, zero_energy=True)]))
    assert rows(text, "Grad-CAM")[0][-1] == "-"
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_random_nets_are_named_loudly_and_never_mixed_with_trained_ones(make_record):
    records = [
        make_record(0.8),
        make_record(0.2, net="vgg19", weights="random:0", weights_random=True),
    ]
    text = markdown.render(summary(records))
    assert "> **Random weights**: vgg19" in text
    assert [row[3] for row in rows(text, "Grad-CAM")[:2]] == ["0.800", "0.200"]
    assert "never trained" in text.split("0.200")[0]
    assert "vgg19 (random weights)" in text
    assert "Randomly initialised" in terminal.render(summary(records))


def test_every_net_size_and_method_has_its_row(make_record):
    """Two ways to a mean differ in its last digit: rows must not depend on that."""
    generator = np.random.default_rng(0)
    records = [
        make_record(float(generator.random()), net=net, size=size, method=method)
        for net in ("alexnet", "vgg19", "resnet152")
        for size in ("224", "original")
        for method in ("cam", "grad_cam", "backprop", "edges")
        for _ in range(50)
    ]
    records = [replace(r, sample=f"{i}", image_id=i % 7) for i, r in enumerate(records)]
    text = markdown.render(summary(records)).split("## Every net, size and method")[1]
    table = [line for line in text.splitlines() if line.startswith("| ")]
    found = {tuple(cell.strip() for cell in line.split("|")[1:5]) for line in table[1:]}
    assert len(found) == 24
    assert {records for *_, records in found} == {"50"}


def test_means_per_net_stand_apart_for_each_size(make_record):
    records = [
        make_record(p, net=net, size=size)
        for (net, size), p in {
            ("alexnet", "224"): 0.1,
            ("alexnet", "original"): 0.2,
            ("vgg19", "224"): 0.3,
            ("vgg19", "original"): 0.4,
        }.items()
    ]
    text = markdown.render(summary(records))
    per_net = text.split("## Mean P per net")[1].split("## Nets")[0]
    assert rows(per_net.split("### Size original")[0], "Grad-CAM") == [
        ["Grad-CAM", "0.100", "0.300"]
    ]
    assert rows(per_net.split("### Size original")[1], "Grad-CAM") == [
        ["Grad-CAM", "0.200", "0.400"]
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"planned": 2},
        {"failed": [Gap("cam on alexnet", "broken", 1)]},
        {"unexplained": ["bench/test_concentration.py::test_concentration[x]"]},
        {"interrupted": "interrupted: KeyboardInterrupt"},
    ],
)
def test_a_run_that_misses_something_says_partial(make_record, fields):
    text = markdown.render(summary([make_record()], **fields))
    assert text.splitlines()[2].startswith("> **PARTIAL**")
    assert terminal.render(summary([make_record()], **fields)).count("PARTIAL") == 1


def test_a_complete_run_with_skips_is_not_partial(make_record):
    skipped = [Gap("cam on alexnet", "CAM needs global average pooling", 1)]
    text = markdown.render(summary([make_record()], planned=2, skipped=skipped))
    assert "PARTIAL" not in text
    assert rows(text, "cam on alexnet") == [
        ["cam on alexnet", "1", "CAM needs global average pooling"]
    ]


def test_text_from_outside_stays_in_its_cell(make_record):
    gap = Gap("cam on <script>", "a | b\nc", 1)
    text = markdown.render(summary([make_record()], failed=[gap]))
    assert "| cam on &lt;script> |" in text
    assert r"a \| b c" in text


def test_timings_show_single_methods_or_say_why_not(make_record):
    timed = [Timing("squeezenet1_0", "224", "grad_cam", 0.0125, 0.001, 3)]
    text = markdown.render(summary([make_record(seconds=0.05)], timings=timed))
    assert rows(text.split("## Time")[1], "squeezenet1_0")[0] == [
        "squeezenet1_0",
        "224",
        "50.0",
        "12.5",
    ]
    text = markdown.render(summary([make_record()], no_timings="run with -n0"))
    assert re.search(r"not timed: run with -n0", text)


def test_a_run_without_any_record_still_has_a_report():
    text = markdown.render(summary([], planned=3, failed=[Gap("cam on x", "broken", 3)]))
    assert "PARTIAL" in text
    assert "broken" in text


def test_by_method_sums_what_the_records_hold(make_record):
    table = by_method(frame([make_record(0.25), make_record(0.5, method="backprop")]))
    assert table.set_index("method")["sum_p"].to_dict() == {"backprop": 0.5, "grad_cam": 0.25}


def test_a_broken_invariant_is_named(make_record):
    broken = [Gap("bench/test_invariants.py::test_it", "maps differ", 0)]
    text = markdown.render(summary([make_record()], broken=broken))
    assert "> **FAILED**: 1 other tests" in text
    assert rows(text, "bench/test_invariants.py::test_it")[0][2] == "maps differ"
    assert "PARTIAL" not in text


def test_many_unexplained_tests_are_counted_and_not_all_listed(make_record):
    text = markdown.render(summary([make_record()], unexplained=[f"test_{i}" for i in range(500)]))
    assert text.count("- `test_") == 20
    assert "... and 480 more." in text
