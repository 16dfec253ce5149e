"""The second data set: a Pascal VOC folder goes through the same four functions as COCO."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from tests.data.pascal_voc import write_voc


def run(suite, *options):
    """Without the suite's --coco."""
    return suite.pytester.runpytest_inprocess(
        *(o for o in suite.arguments(*options) if not o.startswith("--coco"))
    )


def test_a_voc_folder_is_explained_and_a_bad_image_costs_no_other(suite):
    folder = write_voc(suite.path / "VOCdevkit" / "VOC2012")
    methods = "--method=grad_cam,uniform"
    run(suite, "--data=voc:VOCdevkit", methods, "--dilation=0").assert_outcomes(passed=4)
    assert suite.folder.name.endswith("-VOCdevkit")
    records = suite.records()
    assert {(r["data"], r["image_id"], r["category"]) for r in records} == {
        ("VOC2012", 5, "dog"),
        ("VOC2012", 2007000032, "aeroplane"),
    }
    box = next(r for r in records if r["category"] == "aeroplane" and r["method"] == "uniform")
    rows = (np.arange(32) + 0.5) * 40 / 32 // 1
    columns = (np.arange(32) + 0.5) * 48 / 32 // 1
    inside = ((rows >= 4) & (rows < 20)).sum() * ((columns >= 6) & (columns < 30)).sum()
    assert box["concentration"] == pytest.approx(inside / 32**2, rel=1e-12)

    PIL.Image.new("RGB", (3, 3)).save(folder / "JPEGImages" / "000005.jpg")
    result = run(suite, "--data=voc:VOCdevkit", methods)
    result.assert_outcomes(passed=2, failed=2)
    assert "JPEGImages/000005.jpg is 3x3, but its annotation says 48x40" in suite.report


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data=voc"], "the data set voc needs a path: voc:PATH"),
        (["--data=voc:nowhere"], "nowhere is no Pascal VOC folder: it needs the folders JPEG"),
        (["--data=voc:VOC", "--classes=person"], "'person' has no ImageNet-1k class: "),
        (["--data=voc:VOC", "--classes=cow"], "unknown class 'cow'; known: aeroplane, dog"),
        (["--data=voc:VOC", "--image-ids=7"], "unknown image id '7'; known: 5, 2007000032"),
    ],
)
def test_what_is_wrong_with_it_is_a_usage_error(suite, options, sentence):
    write_voc(suite.path / "VOC")
    result = run(suite, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert sentence in text
    assert "Traceback" not in text
