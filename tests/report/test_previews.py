"""Small copies of maps, their pictures and the figures that are made of them."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xai_core.report import gallery, previews, tiles
from xai_core.report.summary import Summary, frame

IMAGE = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
MASK = np.zeros((90, 120), bool)
MASK[30:60, 30:80] = True
GROWN = np.zeros((90, 120), bool)
GROWN[27:63, 27:83] = True


def maps(seed=0):
    smooth = np.outer(np.hanning(90), np.hanning(120))[np.newaxis].astype(np.float32)
    signed = np.stack([smooth[0] - 0.5 * smooth[0, ::-1, ::-1], -smooth[0], 0 * smooth[0]])
    return {"cam": smooth, "backprop": 1e-6 * (1 + seed) * signed}


def save(folder, net="net", sample="1-orange", size="224", seed=0):
    previews.save(folder, net, size, sample, maps(seed), IMAGE, MASK, GROWN)


def test_what_is_kept_is_what_was_there(tmp_path):
    save(tmp_path)
    found = previews.load(tmp_path, "net", "1-orange")
    assert found.size == "224"
    np.testing.assert_array_equal(found.mask, MASK)
    np.testing.assert_array_equal(found.dilated, GROWN)
    cam, backprop = found.maps["cam"], found.maps["backprop"]
    assert (cam.heat, backprop.heat) == (True, False)
    assert cam.peak == pytest.approx(maps()["cam"].max(), rel=1e-6)
    assert np.abs(cam.scale * cam.values - maps()["cam"][0]).max() < 0.03
    values = maps()["backprop"]
    strongest = np.take_along_axis(values, np.abs(values).argmax(0)[np.newaxis], 0)[0]
    error = np.abs(backprop.scale * backprop.values - strongest).max()
    assert error < 0.05 * backprop.peak


@settings(max_examples=40)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.sampled_from([1, 3]), st.integers(1, 400), st.integers(1, 400)),
        elements=st.floats(-1e30, 1e30),
        fill=st.just(0.0),
    )
)
def test_a_small_copy_has_signs_and_never_more_than_the_peak(values):
    unit, peak = previews.shrink(values)
    assert max(unit.shape) <= previews.LONGEST_SIDE
    assert peak == np.abs(values).max()
    assert np.abs(unit).max() <= 1 + 1e-5
    assert 0 < previews.full_colour(unit) <= 1
    if max(values.shape[1:]) <= previews.LONGEST_SIDE and peak > 0:
        strongest = np.take_along_axis(values, np.abs(values).argmax(0)[np.newaxis], 0)[0]
        np.testing.assert_allclose(unit, strongest / peak, atol=1e-6)


def test_a_handful_of_peaks_does_not_blacken_the_rest():
    values = np.full((1, 100, 100), 0.1, np.float32)
    values[0, 0, :3] = 1
    unit, _ = previews.shrink(values)
    assert previews.full_colour(unit) == pytest.approx(0.1)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00"])
def test_damaged_files_are_no_pictures(tmp_path, at, content):
    save(tmp_path)
    path = previews.files(tmp_path, "net", "1-orange")[at]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert previews.load(tmp_path, "net", "1-orange") is None


def test_a_map_of_zeros_is_shown_as_zero(tmp_path):
    previews.save(
        *(tmp_path, "net", "224", "1-orange", {"cam": np.zeros((1, 90, 120), np.float32)}),
        *(IMAGE, MASK, GROWN),
    )
    cam = previews.load(tmp_path, "net", "1-orange").maps["cam"]
    assert cam.peak == 0
    assert not cam.values.any()


def test_signs_have_their_colours_and_zero_none():
    shown = tiles.diverging(np.array([[-1.0, 0.0, 1.0]]))
    assert shown.tolist() == [[list(tiles.NEGATIVE), list(tiles.ZERO), list(tiles.POSITIVE)]]


def test_no_heat_leaves_the_grey_image():
    grey = tiles.overlay(np.zeros((90, 120)), IMAGE).astype(int)
    assert (grey[..., 0] == grey[..., 1]).all()
    wanted = IMAGE @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - wanted).max() <= 1


def test_the_outline_is_where_the_mask_ends():
    drawn = tiles.outlined(np.full((90, 120, 3), 128, np.uint8), MASK)
    assert (drawn[30, 30:80] == 255).all()
    assert (drawn[28:29, 40] == 0).all() or (drawn[29, 40] == 0).all()
    assert (drawn[45, 50] == 128).all()
    assert (drawn[10, 10] == 128).all()


# ---- figures -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(make_record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("previews")
    records = []
    for net in ("vgg19", "alexnet"):
        for i in range(5):
            save(folder, net, f"{i}-orange", seed=i)
            for method in ("cam", "backprop"):
                p = 0.1 * i + (0.05 if method == "cam" else 0)
                records.append(
                    make_record(
                        p,
                        net=net,
                        method=method,
                        sample=f"{i}-orange",
                        image_id=i,
                        weights_random=net == "alexnet",
                    )
                )
    titles = {"cam": "CAM", "backprop": "Backpropagation"}
    return Summary("run", records, len(records), titles), folder


def test_the_gallery_has_one_figure_of_a_sample_and_one_of_each_net(kept, tmp_path):
    summary, folder = kept
    paths = gallery.write(summary, folder, tmp_path)
    stems = ["sample-2-orange", "net-vgg19", "net-alexnet"]
    assert [path.name for path in paths] == [f"{s}.{k}" for s in stems for k in ("png", "pdf")]
    with PIL.Image.open(paths[0]) as image:
        assert image.size[0] > 1000


def test_best_median_and_worst_are_those_of_p(kept):
    table = frame([r for r in kept[0].records if r.net == "vgg19" and r.method == "cam"])
    found = [(what, record["sample"]) for what, record in gallery.extremes(table)]
    assert found == [("best", "4-orange"), ("median", "2-orange"), ("worst", "0-orange")]
    assert [what for what, _ in gallery.extremes(table[:2])] == ["best", "worst"]
    assert [what for what, _ in gallery.extremes(table[:1])] == ["only sample"]


def test_without_previews_there_is_no_gallery(kept, tmp_path):
    assert gallery.write(kept[0], tmp_path / "none", tmp_path) == []
    assert gallery.write(Summary("none", [], 0, {}), kept[1], tmp_path) == []


def test_a_missing_preview_leaves_an_empty_cell(kept, tmp_path):
    import shutil

    summary, folder = kept
    shutil.copytree(folder, tmp_path / "previews")
    for path in (tmp_path / "previews" / "alexnet").iterdir():
        path.unlink()
    assert len(gallery.write(summary, tmp_path / "previews", tmp_path / "out")) == 6


@pytest.mark.parametrize(
    ("value", "text"), [(0.32, "0.32"), (4.5, "4.5"), (3.2e-4, "3.2·10⁻⁴"), (3.1e10, "3.1·10¹⁰")]
)
def test_scales_have_two_digits(value, text):
    assert gallery.power_of_ten(value) == text
