"""One picture, with the weights that ship with the project."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from xai_core.cli import main
from xai_core.cli.explain import candidates
from xai_core.data.sources import scenes
from xai_core.engine import AutogradEngine
from xai_core.errors import BadInput
from xai_core.methods import METHODS
from xai_core.nets import get_spec, load_net
from xai_core.nets.preprocess import preprocess

SIX = [m for m in METHODS if not METHODS.get(m).baseline]


@pytest.fixture(scope="module")
def net():
    return load_net(get_spec("squeezenet1_0"), "scenes")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    data = scenes()
    sample = next(s for s in data.samples() if s.category == "banana")
    path = tmp_path_factory.mktemp("picture") / "fruit.png"
    PIL.Image.fromarray(data.image(sample)).save(path)
    return path


def explain(picture, *extra):
    arguments = ["explain", str(picture), "--net=squeezenet1_0", "--weights=scenes", *extra]
    return main(arguments)


def test_maps_are_those_of_the_reference_engine(picture, net, tmp_path, capsys):
    assert explain(picture, "--class=banana", f"--out={tmp_path}") == 0
    assert "contact sheet: " in capsys.readouterr().out
    pixels = preprocess(np.asarray(PIL.Image.open(picture)), "224", net)
    wanted = AutogradEngine()(net, pixels, [(954,)], [METHODS.get(m) for m in SIX])
    for method in SIX:
        values = np.load(tmp_path / f"{method}.npy")
        theirs = wanted.maps[method][0].numpy()
        assert np.linalg.norm(values - theirs) <= 1e-3 * np.linalg.norm(theirs)
        assert (tmp_path / f"{method}.png").exists()
        assert (tmp_path / f"{method}-overlay.png").exists() == (values.shape[0] == 1)
    with PIL.Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 500


def test_without_a_class_the_nets_first_choice_is_explained(picture, net, tmp_path, capsys):
    assert explain(picture, f"--out={tmp_path}", "--size=64") == 0
    pixels = preprocess(np.asarray(PIL.Image.open(picture)), "64", net)
    first = net.class_names[int(net.module(pixels)[0].argmax())]
    assert capsys.readouterr().out.startswith(f"{first}. Rank 1 of 1000")


def test_a_method_that_is_not_defined_is_said_and_shown(picture, tmp_path, capsys):
    code = main(
        [
            *("explain", str(picture), "--net=alexnet", "--weights=random", "--size=64"),
            *("--class=banana", f"--out={tmp_path}"),
        ]
    )
    out = capsys.readouterr().out
    assert code == 0
    assert "no CAM: CAM needs global average pooling" in out
    assert "never trained" in out
    assert not (tmp_path / "cam.png").exists()


def test_a_picture_is_turned_as_its_camera_says(picture, tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    PIL.Image.open(picture).resize((200, 100)).save(turned, exif=exif)
    assert explain(turned, "--size=original", f"--out={tmp_path / 'out'}") == 0
    assert np.load(tmp_path / "out" / "backprop.npy").shape == (3, 200, 100)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--class=banan"], "squeezenet1_0 knows no class 'banan'; near: banana"),
        (["--class=5000"], "class index 5000 is not among the 1000 outputs"),
        (["--size=big"], "--size 'big' must be original, or a number"),
        (["--size=3"], "squeezenet1_0 can't take a 3x3 image"),
        (["--net=resnet9000"], "unknown net 'resnet9000'"),
        (["--weights=nowhere.pth"], "no weights file for squeezenet1_0"),
    ],
)
def test_bad_input_is_one_sentence(picture, tmp_path, capsys, extra, sentence):
    assert explain(picture, *extra, f"--out={tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "can't be read: No such file"), (b"text", "is none of JPEG, PNG"), (b"", "is none of")],
)
def test_no_picture_is_one_sentence(tmp_path, capsys, content, sentence):
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    assert explain(tmp_path / "x.jpg") == 2
    assert sentence in capsys.readouterr().err


def test_a_class_is_an_index_a_name_of_the_net_or_a_coco_category(net):
    assert candidates("7", net) == (7,)
    assert candidates("Banana", net) == (954,)
    assert set(candidates("dog", net)) > {151, 200}
    with pytest.raises(
        BadInput, match=r"knows no class 'Person': .* has no ImageNet-1k class: no "
    ):
        candidates("Person", net)
    with pytest.raises(BadInput, match="near: banana"):
        candidates("bananna", net)
    with pytest.raises(BadInput, match="has no output 111111111111111111\\.\\.\\."):
        candidates("1" * 5000, net)


def test_pictures_that_differ_by_their_ending_get_folders_of_their_own(
    picture, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.jpg"):
        PIL.Image.open(picture).convert("RGB").save(name)
        assert explain(name, "--size=64") == 0
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "a.png-squeezenet1_0",
        "a.jpg-squeezenet1_0",
    }
    assert "replaced" not in capsys.readouterr().out
    (tmp_path / "a.jpg-squeezenet1_0" / "deconvolution-overlay.png").write_bytes(b"of before")
    # Messages about weights advise NET=WHERE, as pytest bench takes it.
    assert explain("a.jpg", "--size=65", "--weights=squeezenet1_0=scenes") == 0
    assert "the maps that were in a.jpg-squeezenet1_0 are replaced\n" in capsys.readouterr().out
    assert not (tmp_path / "a.jpg-squeezenet1_0" / "deconvolution-overlay.png").exists()
