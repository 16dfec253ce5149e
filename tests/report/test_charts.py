"""Charts against independent numbers, and summaries that leave little to draw."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import Rectangle

from xai_core.report import charts
from xai_core.report.charts import ranks, time
from xai_core.report.charts.text import SMALL, width
from xai_core.report.palette import BASELINES, METHODS, colour_of, lightened
from xai_core.report.statistics import intervals
from xai_core.report.summary import Summary, Timing, frame

TITLES = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "guided_grad_cam": "Guided Grad-CAM",
    "noise": "Noise",
}
ODD = "$x$ <b>&amp; " + 80 * "n"


@pytest.fixture(scope="module")
def make_summary(make_record):
    def make(
        nets=("squeezenet1_0", "alexnet"),
        sizes=("224", "original"),
        images=12,
        methods=tuple(TITLES),
        value=None,
        timings=True,
    ) -> Summary:
        generator = np.random.default_rng(0)
        records = [
            make_record(
                float(generator.beta(1 + at, 3)) if value is None else value,
                net=net,
                size=size,
                sample=f"{image:03d}-orange",
                image_id=image,
                method=method,
                weights_random=net == "alexnet",
                chance=0.05 + 0.02 * image,
                zero_energy=value == 0,
            )
            for net in nets
            for size in sizes
            for image in range(images)
            for at, method in enumerate(methods)
            if not (method == "cam" and net == "alexnet")
        ]
        times = [Timing(n, s, m, 0.02, 0.001, 3) for n in nets for s in sizes for m in methods]
        return Summary(
            name="a run",
            records=records,
            planned=len(records),
            titles=TITLES,
            timings=times if timings else [],
        )

    return make


@pytest.fixture(scope="module")
def summary(make_summary):
    return make_summary()


@pytest.fixture(scope="module")
def drawn(summary):
    return {chart.id: chart for chart in charts.draw(summary)}


def texts(chart) -> list[str]:
    inner = [text.get_text() for axis in chart.figure.axes for text in axis.texts]
    return [*inner, *(text.get_text() for text in chart.figure.texts)]


def test_each_question_has_its_chart(drawn):
    wanted = ["mean", "nets-original", "nets-224", "distribution", "area", "ranks", "time"]
    assert list(drawn) == wanted
    for chart in drawn.values():
        assert 20 < len(chart.alt) < 600
        assert chart.title


def bars(axis) -> list[Rectangle]:
    return [patch for patch in axis.patches if isinstance(patch, Rectangle)]


def test_bars_are_means_and_whiskers_their_intervals(summary, drawn):
    table = frame(summary.records)
    for axis, random in zip(drawn["mean"].figure.axes, (False, True), strict=True):
        part = table[table["weights_random"] == random]
        means = part.groupby("method")["concentration"].mean().reindex(TITLES).dropna()
        assert [bar.get_width() for bar in bars(axis)] == pytest.approx(means.tolist())
        assert {f"{mean:.3f}" for mean in means} <= {text.get_text() for text in axis.texts}
        assert {bool(bar.get_hatch()) for bar in bars(axis)} == {random}
        ends = intervals(part).set_index("method").reindex(TITLES).dropna()[["low", "high"]]
        whiskers = [line.get_xdata() for line in axis.lines if len(set(line.get_ydata())) == 1]
        for low_high in ends.to_numpy():
            assert any(np.allclose(line, low_high) for line in whiskers if len(line) == 2)


def test_a_chart_per_size_has_a_panel_per_net_trained_ones_first(summary, drawn):
    table = frame(summary.records)
    chart = drawn["nets-original"]
    assert len(chart.figure.axes) == 2
    for axis, net in zip(chart.figure.axes, ("squeezenet1_0", "alexnet"), strict=True):
        part = table[(table["net"] == net) & (table["size"] == "original")]
        means = part.groupby("method")["concentration"].mean().reindex(TITLES).dropna()
        assert [bar.get_width() for bar in bars(axis)] == pytest.approx(means.tolist())


def test_a_method_without_records_is_said(drawn):
    assert "no records" in texts(drawn["nets-224"])


def test_the_line_of_chance_is_where_chance_is(summary, drawn):
    chance = np.mean([record.chance for record in summary.records])
    assert any(text == f"chance {chance:.3f}" for text in texts(drawn["mean"]))


def test_the_box_shows_the_quartiles(summary, drawn):
    axis = drawn["distribution"].figure.axes[0]
    values = [
        r.metrics["concentration"]
        for r in summary.records
        if r.method == "cam" and not r.weights_random
    ]
    low, high = np.quantile(values, [0.25, 0.75])
    assert any(
        (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((low, high))
        for box in bars(axis)
    )
    assert f"{np.median(values):.3f}" in {text.get_text() for text in axis.texts}


def test_ranks_are_those_of_friedmans_test(summary):
    table = frame([r for r in summary.records if not r.weights_random])
    found = ranks.ranking(table)
    wide = table.pivot_table(index="image_id", columns="method", values="concentration")
    assert found.images == 12
    assert found.ranks.to_dict() == pytest.approx(
        wide.rank(axis=1, ascending=False).mean().to_dict()
    )
    assert found.friedman == pytest.approx(scipy.stats.friedmanchisquare(*wide.T.values).pvalue)
    # Demsar 2006, table 5: q of Nemenyi's test at 5 % for four methods is 2.569
    assert found.distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), rel=1e-3)


def test_methods_are_ranked_where_all_have_records(make_summary):
    table = frame([r for r in make_summary().records if r.weights_random])
    assert set(ranks.ranking(table).ranks.index) == {"grad_cam", "guided_grad_cam", "noise"}


# ---- files -----------------------------------------------------------------------------------


def test_files_are_what_they_say_and_the_same_every_time(summary, drawn, tmp_path):
    again = {chart.id: chart for chart in charts.draw(summary)}
    for name in ("mean", "ranks"):
        first = charts.write(drawn[name], tmp_path / "first")
        second = charts.write(again[name], tmp_path / "second")
        assert [path.suffix for path in first] == [".png", ".svg", ".eps", ".pdf"]
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
        png, svg, eps, pdf = (path.read_bytes() for path in first)
        with PIL.Image.open(BytesIO(png)) as image:
            assert min(image.size) > 300
        assert b"<svg" in svg[:1000]
        assert eps.startswith(b"%!PS-Adobe-3.0 EPSF-3.0")
        assert pdf.startswith(b"%PDF")
        assert b"/Type3" not in pdf


def test_svg_elements_of_two_charts_share_no_ids(drawn):
    pages = [charts.svg(drawn[name]) for name in ("mean", "area")]
    ids = [set(re.findall(r'\bid="([^"]+)"', page)) for page in pages]
    assert ids[0]
    assert not ids[0] & ids[1]
    for page, own in zip(pages, ids, strict=True):
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
        assert used <= own
        assert page.startswith('<svg role="img" aria-label="')


# ---- little to draw ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"images": 1},
        {"images": 2, "sizes": ("224",), "nets": ("squeezenet1_0",)},
        {"methods": ("cam",), "nets": ("squeezenet1_0",)},
        {"methods": ("noise",)},
        {"value": 0.5},
        {"value": 0.0},
        {"value": 1.0},
        {"nets": ("alexnet",)},
        {"nets": (ODD,), "methods": ("cam", ODD, "their_own")},
        {"nets": tuple(f"net{i}" for i in range(20)), "images": 2, "sizes": ("224",)},
        {"timings": False},
    ],
    ids=str,
)
def test_little_to_draw_is_drawn_or_left_out(make_summary, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = charts.draw(make_summary(**options))
        for chart in found:
            page = charts.svg(chart)
            assert not re.search(r"\bnan\b", " ".join([*texts(chart), chart.alt]).lower())
            assert ODD not in page  # as markup; its text is drawn as paths
    assert found[0].id == "mean"
    assert (options.get("timings") is False) == ("time" not in {chart.id for chart in found})


def test_nothing_is_drawn_of_nothing():
    assert charts.draw(Summary("none", [], 0, {})) == []


# ---- colours -----------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1, linear RGB
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "nobody": np.eye(3),
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of linear sRGB."""
    x, y, z = np.cbrt(np.array(TO_XYZ) @ np.clip(rgb, 1e-6, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", BLINDNESS)
def test_no_two_methods_look_alike(eye):
    seen = {m: lab(np.array(BLINDNESS[eye]) @ linear(c)) for m, c in METHODS.items()}
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 15, (first, second)


@pytest.mark.parametrize("colours", [METHODS, BASELINES], ids=["methods", "baselines"])
def test_no_two_are_the_same_grey(colours):
    lightness = sorted(lab(linear(colour))[0] for colour in colours.values())
    assert min(np.diff(lightness)) > 5


def test_an_unknown_method_always_has_the_same_colour():
    assert colour_of("theirs") == colour_of("theirs")
    assert colour_of("theirs") not in METHODS.values()
    assert lightened("#000000", 0.5) == "#808080"
    assert lightened("#1A2B3C", 0) == "#1A2B3C"


@given(
    low=st.floats(-2, 4),
    span=st.floats(0.35, 4),
    inches=st.floats(0.8, 6),
)
def test_ticks_of_the_times_stand_apart_and_within_the_axis(low, span, inches):
    places = [math.log10(tick) for tick in time.ticks(low, low + span, inches)]
    assert all(low <= place <= low + span for place in places)
    assert places or span < 1
    labels = [width(time.label(10**place), SMALL) for place in places]
    gaps = np.diff(places) / span * inches
    needed = [(a + b) / 2 for a, b in itertools.pairwise(labels)]
    assert np.all(gaps > needed) or len(places) <= span + 1
