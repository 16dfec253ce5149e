"""Each wrong thing gets one clear sentence and the right exit code, and costs nothing else."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import PIL.Image
import pytest
import torch

from .conftest import draw

USAGE = pytest.ExitCode.USAGE_ERROR
FAILED = pytest.ExitCode.TESTS_FAILED


def output(result) -> str:
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--net=resnet9000"], r"unknown net 'resnet9000'; known: alexnet, .*torchvision"),
        (["--net=nowhere:SPEC"], r"the net nowhere:SPEC can't be imported: No module"),
        (["--net=tinynet:Tiny"], r"tinynet:Tiny is a type, not an xai_core.nets.NetSpec"),
        (["--method=gradcam"], r"unknown method 'gradcam'; known: backprop, cam, centre"),
        (["--size=big"], r"unknown size 'big'; known: original, or a number"),
        (["--size=0"], r"unknown size '0'"),
        (["--size=99999"], r"unknown size '99999'; .*at most 8192"),
        (["--classes=dragon"], r"unknown class 'dragon'; known: banana, orange"),
        (["--classes=person"], r"'person' has no ImageNet-1k class: "),
        (["--classes=dog"], r"unknown class 'dog'; known: banana, orange"),
        (["--image-ids=99"], r"unknown image id '99'; known: 1, 2, 3, 4"),
        (["--image-ids=x"], r"--image-ids 'x' must be a whole number"),
        (["--per-class=0"], r"--per-class '0' must be a whole number, 1 or more"),
        (["--dilation=-1"], r"--dilation '-1' must be a number from 0"),
        (["--dilation=nan"], r"--dilation 'nan' must be a number from 0"),
        (["--min-area=0.9"], r"no sample of .* whose mask covers 90% to 70%"),
        (["--device=tpu"], r"--device 'tpu' can't be used: "),
        (["--dtype=int8"], r"unknown --dtype 'int8'; known: float32, float64"),
        (["--precision=half"], r"unknown --precision 'half'; known: full, tf32, bf16"),
        (["--precision=tf32"], r"--precision tf32 is for --device cuda, not cpu"),
        (["--precision=bf16", "--dtype=float64"], r"--precision bf16 is for --dtype float32"),
        (["--weights=tiny"], r"--weights 'tiny' is not of the form NET=WHERE"),
        (["--weights=vgg19=random"], r"unknown net in --weights 'vgg19'; known: tiny"),
        (
            ["--weights=tiny=magic"],
            r"unknown weights for tiny 'magic'; known: imagenet, imagenet:V2,",
        ),
        (["--weights=tiny=random:x"], r"random:x needs a whole number"),
        (["--weights=tiny=no.pth"], r"no weights file for tiny at no.pth"),
        (["--weights=tiny=imagenet"], r"torchvision has no ImageNet weights for tiny"),
        (["--weights=tiny=scenes"], r"no weights trained on the scenes ship for tiny"),
        (["--coco=nowhere"], r"no COCO folder or annotation file at .*nowhere"),
        (["--coco=reports"], r"has no file annotations/instances_\*.json"),
        (["--data=nothing"], r"unknown data_? ?set 'nothing'; known: scenes"),
        (["--resume=nowhere"], r"can't be resumed: No such file"),
        (["--report-dir=tinynet.py"], r"can't be written: "),
        (["--report-dir=/proc/nowhere"], r"can't be written: "),
    ],
)
def test_a_wrong_option_is_a_usage_error(suite, options, sentence):
    (suite.path / "reports").mkdir()
    arguments = [o for o in options if not o.startswith("--data")]
    if "--data=nothing" in options:
        result = suite.pytester.runpytest_inprocess("bench", "--data=nothing")
    else:
        result = suite.run(*arguments)
    assert result.ret == USAGE
    found = [line for line in output(result).splitlines() if re.search(sentence, line)]
    assert len(found) == 1, output(result)
    assert not list((suite.path / "reports").iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "can't be read as COCO annotations"),
        ("{'a': 1}", "can't be read as COCO annotations"),
        ("[]", "not in COCO's format"),
        ('{"images": []}', "it needs the lists images, annotations, categories"),
        ('{"images": [1], "annotations": [], "categories": []}', "not in COCO's format"),
        ('{"images": [{}], "annotations": [], "categories": []}', "images without 'id'"),
        ('{"images": [{"id": "x"}], "annotations": [], "categories": []}', "no whole number"),
        (
            '{"images": [], "annotations": [], "categories": []}',
            "has no sample: it lists no categories",
        ),
    ],
)
def test_a_file_that_is_no_coco_file_is_a_usage_error(suite, content, sentence):
    suite.annotations.write_text(content)
    result = suite.run()
    assert result.ret == USAGE
    assert sentence in output(result)


def first(content):
    return content["annotations"][0]


def segmentation(value):
    return lambda content: first(content).update(segmentation=value)


def crowd(size, counts):
    """The crowd is of the sample's class, beside its good instance."""

    def mutate(content):
        content["annotations"].append(
            first(content)
            | {"id": 9, "iscrowd": 1, "segmentation": {"size": size, "counts": counts}}
        )

    return mutate


def image(**fields):
    return lambda content: content["images"][0].update(**fields)


BROKEN = {
    "no segmentation": (lambda c: first(c).pop("segmentation"), "1 of image 1 has no segmentation"),
    "empty segmentation": (segmentation([]), "annotation 1 of image 1 has no segmentation"),
    "four numbers": (segmentation([[1, 2, 3, 4]]), "needs three points or more"),
    "odd numbers": (segmentation([[1, 2, 3, 4, 5, 6, 7]]), "needs three points or more"),
    "a NaN": (segmentation([[1, 2, 3, 4, 5, float("nan")]]), "no finite number"),
    "no numbers": (segmentation([["a"] * 6]), "segmentation that can't be read"),
    "a word": (segmentation("polygon"), "segmentation that can't be read"),
    "a line": (segmentation([[5, 5, 5, 5, 5, 5]]), "mask of banana in image 1 has no area"),
    "counts of another area": (crowd([40, 48], [5, 5]), "don't add up"),
    "negative counts": (crowd([40, 48], [-5, 1925]), "hold a negative number"),
    "another size": (crowd([400, 480], "abc"), r"its size is \[400, 480\]"),
    "garbage": (crowd([40, 48], "\x00\xff"), "segmentation that can't be read"),
    "declared size": (image(width=50, height=41), "is 48x40, but its annotation says 50x41"),
    "no size": (lambda c: c["images"][0].pop("width"), "no height and width"),
    "a climbing name": (image(file_name="../../secret.jpg"), "leaves the image folder; it was not"),
    "an absolute name": (image(file_name="/etc/hostname"), "leaves the image folder; it was not"),
    "no name": (lambda c: c["images"][0].pop("file_name"), "has no file_name"),
    "a missing file": (image(file_name="7.jpg"), "image 7.jpg can't be read: No such file"),
    "a folder": (image(file_name="."), "can't be read: it is a folder"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_entry_fails_its_own_items_and_no_others(suite, what):
    mutate, sentence = BROKEN[what]
    (suite.path / "secret.jpg").write_bytes((suite.coco / "train2017" / "1.jpg").read_bytes())
    suite.change(mutate)
    result = suite.run()
    result.assert_outcomes(passed=18, failed=6)
    assert result.ret == FAILED
    assert re.search(sentence, output(result))
    assert {r["image_id"] for r in suite.records()} == {2, 3, 4}
    assert "> **PARTIAL**: 18 records of 24 planned, 0 skipped, 6 failed" in suite.report
    assert re.search(sentence, suite.report.split("## Failed")[1])


def test_links_that_the_user_made_are_followed(suite):
    picture = suite.coco / "train2017" / "1.jpg"
    picture.rename(suite.path / "elsewhere.jpg")
    picture.symlink_to(suite.path / "elsewhere.jpg")
    suite.run().assert_outcomes(passed=24)


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_a_truncated_jpeg_fails_its_own_items_and_no_others(suite, keep):
    picture = suite.coco / "train2017" / "1.jpg"
    picture.write_bytes(picture.read_bytes()[:keep])
    result = suite.run()
    result.assert_outcomes(passed=18, failed=6)
    assert "image 1.jpg can't be decoded" in output(result)
    assert len(suite.records()) == 18


@pytest.mark.parametrize("batch", ["1", "4"])
def test_a_bad_image_costs_its_batch_nothing(suite, batch):
    (suite.coco / "train2017" / "3.jpg").write_bytes(b"no picture")
    suite.run("--batch-size", batch).assert_outcomes(passed=18, failed=6)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1", "I;16"])
def test_pictures_of_every_mode_simply_work(suite, mode):
    suffix = "jpg" if mode in {"L", "CMYK"} else "png"
    name = f"1.{suffix}"
    if mode == "I;16":
        PIL.Image.new("I;16", (48, 40), 30000).save(suite.coco / "train2017" / name)
    else:
        draw(suite.coco / "train2017" / name, mode)
    suite.change(image(file_name=name))
    suite.run().assert_outcomes(passed=24)


def test_a_1x1_image_works_where_the_net_takes_it_and_says_so_where_not(suite):
    PIL.Image.new("RGB", (1, 1)).save(suite.coco / "train2017" / "1.jpg")
    suite.change(image(width=1, height=1))
    suite.change(segmentation([[0, 0, 1, 0, 1, 1, 0, 1]]))
    result = suite.run("--size=32,original", "--max-area=1")
    result.assert_outcomes(passed=42, failed=6)
    assert re.search(r"tiny can't take a 1x1 image: .*too small", output(result))


def test_weights_of_another_architecture_are_a_usage_error(suite):
    torch.save({"features.0.weight": torch.zeros(1)}, suite.path / "other.pth")
    result = suite.run("--weights=tiny=other.pth")
    assert result.ret == USAGE
    sentence = "the weights other.pth are not of tiny's architecture: features.0.weight is (1), not"
    assert sentence in output(result)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_that_would_run_code_does_not(suite):
    torch.save({"features.0.weight": Bomb()}, suite.path / "bomb.pth")
    (suite.path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "bomb.pkl"):
        result = suite.run(f"--weights=tiny={name}")
        assert result.ret == USAGE
        assert re.search(rf"{name} (was refused|can't be read)", output(result))
    assert not (suite.path / "exploded").exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"PK\x03\x04 cut short", b"\x80\x02."]
)
def test_a_file_that_holds_no_weights_is_a_usage_error(suite, content):
    (suite.path / "broken.pth").write_bytes(content)
    result = suite.run("--weights=tiny=broken.pth")
    assert result.ret == USAGE
    assert re.search(r"broken.pth (was refused|can't be read)", output(result))


def test_a_file_of_something_else_is_a_usage_error(suite):
    torch.save([1, 2], suite.path / "list.pth")
    result = suite.run("--weights=tiny=list.pth")
    assert result.ret == USAGE
    assert "list.pth holds no state_dict" in output(result)


def test_weights_with_nan_fail_by_a_sentence_and_leave_no_record(suite):
    import tinynet

    state = tinynet.SPEC.build().state_dict()
    state["classifier.weight"][:] = float("nan")
    torch.save(state, suite.path / "nan.pth")
    result = suite.run("--weights=tiny=nan.pth")
    result.assert_outcomes(errors=24)
    sentence = "nan.pth can't be used: classifier.weight is NaN in 8000 of 8000 values"
    assert sentence in output(result)
    assert not suite.records()


def test_a_disk_that_fills_up_fails_what_could_not_be_kept(suite, monkeypatch):
    from xai_core import store

    write, calls = store.write_atomically, []

    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".jsonl" and path.parent.name == "parts":
            calls.append(path)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store, "write_atomically", full)
    result = suite.run()
    assert result.ret == FAILED
    assert "the result can't be written: [Errno 28] No space left" in output(result)
    result.assert_outcomes(passed=23, failed=1)
    assert len(suite.records()) == 24


def test_a_report_that_cannot_be_written_is_said_and_not_green(suite, monkeypatch):
    from xai_core.report import build

    write = build.write_atomically

    def refuse(path: Path, content: bytes) -> None:
        if path.name == "concentration.md":
            raise OSError(30, "Read-only file system")
        write(path, content)

    monkeypatch.setattr(build, "write_atomically", refuse)
    result = suite.run()
    result.assert_outcomes(passed=24)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "the report can't be written: [Errno 30] Read-only" in output(result)
    assert "Guided Grad-CAM" in output(result)  # the table itself still comes


def test_a_users_module_that_breaks_is_a_usage_error(suite):
    (suite.path / "broken.py").write_text("SPEC = = 1")
    result = suite.run("--net=broken:SPEC")
    assert result.ret == USAGE
    assert "the net broken:SPEC can't be imported: invalid syntax" in output(result)


def test_a_users_build_that_raises_fails_by_a_sentence(suite):
    (suite.path / "unbuilt.py").write_text(
        "from xai_core.nets import NetSpec\nSPEC = NetSpec('unbuilt', lambda: 1 / 0, 'x')\n"
    )
    result = suite.run("--net=unbuilt:SPEC")
    assert result.ret == FAILED
    assert "unbuilt can't be built: division by zero" in output(result)
