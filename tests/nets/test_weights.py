"""Weights from files: what fits is loaded exactly, all else is refused by a sentence."""

from __future__ import annotations

import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from xai_core.errors import BadInput, DataMissing, XaiError
from xai_core.nets.checkpoints import largest_file
from xai_core.nets.weights import check_weights, load_weights


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.fixture
def state():
    return {
        name: value + 1 if value.is_floating_point() else value
        for name, value in build().state_dict().items()
    }


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "weights.pth"


def test_values_are_loaded_and_named_by_their_hash(file, state):
    torch.save(state, file)
    module = build()
    built = load_weights("net", module, None)
    loaded = load_weights("net", module, str(file))
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert (loaded.label, loaded.random) == ("weights.pth", False)
    assert built.sha256 != loaded.sha256 == load_weights("net", build(), str(file)).sha256


def test_files_without_batch_counters_fit_as_torchvisions_older_ones_must(file, state):
    old = {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, file)
    check_weights("net", build, str(file))
    module = build()
    load_weights("net", module, str(file))
    assert torch.equal(module[1].running_mean, state["1.running_mean"])


def test_safetensors_are_loaded_like_pickles(file, state):
    torch.save(state, file)
    save_file(state, file.with_suffix(".safetensors"))
    of_pickle, module = (build() for _ in range(2))
    expected = load_weights("net", of_pickle, "weights.pth")
    check_weights("net", build, "weights.safetensors")
    loaded = load_weights("net", module, "weights.safetensors")
    assert (loaded.label, loaded.sha256) == ("weights.safetensors", expected.sha256)
    assert torch.equal(module[3].weight, state["3.weight"])


@pytest.mark.parametrize("what", ["empty", "a web page", "cut short", "of torch.save", "too long"])
def test_other_files_named_safetensors_are_refused(file, state, what):
    save_file(state, file)
    whole = file.read_bytes()
    torch.save(state, file)
    contents = {
        "empty": b"",
        "a web page": OTHER_FILES["a web page"],
        "cut short": whole[:-1],
        "of torch.save": file.read_bytes(),
        "too long": whole + b"\0",
    }
    path = file.with_suffix(".safetensors")
    path.write_bytes(contents[what])
    sentence = r"weights\.safetensors can't be read as weights for net: "
    with pytest.raises(BadInput, match=sentence) as caught:
        check_weights("net", build, str(path))
    assert "\n" not in str(caught.value)


def test_safetensors_of_another_architecture_are_refused(file, state):
    state.pop("0.bias")
    save_file(state, file.with_suffix(".safetensors"))
    with pytest.raises(BadInput, match=r"weights\.safetensors are not of .*: 0\.bias is missing$"):
        check_weights("net", build, "weights.safetensors")


def test_half_precision_parameters_have_a_hash_too():
    assert load_weights("net", build().bfloat16(), None).sha256


MISFITS = {
    "missing": (lambda s: s.pop("0.bias"), r"0\.bias is missing$"),
    "no running variance": (lambda s: s.pop("1.running_var"), r"1\.running_var is missing$"),
    "unknown": (lambda s: s.update(extra=torch.zeros(1)), r"extra is unknown$"),
    "shape": (lambda s: s.update({"3.weight": torch.zeros(5, 3)}), r"is \(5, 3\), not \(5, 4\)"),
    "nothing": (lambda s: s.clear(), r"0\.weight is missing \(and 7 more\)$"),
    "a number as name": (lambda s: s.update({7: torch.zeros(1)}), "holds no state_dict"),
    "a number as value": (lambda s: s.update(epoch=3), "holds no state_dict"),
    "code": (lambda s: s.update(extra=Bomb()), "more than tensors and could run code"),
    "a module": (lambda s: s.update(module=build()), "more than tensors and could run code"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_another_content_is_refused_by_check_and_load_alike(file, state, what):
    change, sentence = MISFITS[what]
    change(state)
    torch.save(state, file)
    for attempt in (
        lambda: check_weights("net", build, str(file)),
        lambda: load_weights("net", build(), str(file)),
    ):
        with pytest.raises(BadInput, match=sentence) as caught:
            attempt()
        assert "weights_only" not in str(caught.value)
    assert not file.with_name("exploded").exists()


OTHER_FILES = {
    "empty": b"",
    "a web page": b"<!DOCTYPE html><html>404</html>",
    "a broken archive": b"PK\x03\x04 cut short",
    "an empty pickle": b"\x80\x02.",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "code": pickle.dumps(Bomb(), protocol=2),
    "code, first protocol": pickle.dumps(Bomb(), protocol=0),
    "code, newest protocol": pickle.dumps(Bomb()),
}


@pytest.mark.parametrize("what", OTHER_FILES)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_files_are_refused_and_run_nothing(file, what):
    file.write_bytes(OTHER_FILES[what])
    with pytest.raises(BadInput, match=r"weights\.pth (was refused|can't be read)") as caught:
        check_weights("net", build, str(file))
    assert "\n" not in str(caught.value)
    assert not file.with_name("exploded").exists()


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_file_that_was_cut_short_is_refused(file, state, cut):
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(BadInput, match="can't be read as weights for net"):
        check_weights("net", build, str(file))


def test_a_folder_is_no_file_of_weights(file):
    with pytest.raises(DataMissing, match=r"should be a file, and .* is a folder"):
        check_weights("net", build, str(file.parent))


def test_a_build_that_does_not_work_without_memory_is_checked_at_loading(file, state):
    def odd() -> nn.Module:
        module = build()
        if module[0].weight.is_meta:
            raise KeyError("no meta device here")
        return module

    torch.save({"0.weight": state["0.weight"]}, file)
    check_weights("net", odd, str(file))
    with pytest.raises(XaiError, match="is missing"):
        load_weights("net", odd(), str(file))


def bytearray_of(size: int) -> object:
    class Wide:
        def __reduce__(self):
            return bytearray, (size,)

    return Wide()


def test_a_pickle_that_makes_memory_is_refused_unread(file, state, monkeypatch):
    monkeypatch.setattr(torch, "load", pytest.fail)
    for zipped in (True, False):
        torch.save({**state, "wide": bytearray_of(7)}, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(BadInput, match="it holds more than tensors"):
            check_weights("net", build, str(file))


def packed(source, file, entries: int) -> None:
    """What `torch.save` wrote, compressed, with entries of a megabyte of zeros beside it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        for i in range(entries):
            new.writestr(f"archive/data/more{i}", bytes(2**20))


def test_a_packed_file_is_refused_unread_by_what_it_unpacks_to(file, state, monkeypatch):
    torch.save(state, file.with_name("plain.pth"))
    packed(file.with_name("plain.pth"), file, 0)
    assert file.stat().st_size < file.with_name("plain.pth").stat().st_size
    check_weights("net", build, str(file))
    packed(file.with_name("plain.pth"), file, 12)
    monkeypatch.setattr(torch, "load", pytest.fail)
    with pytest.raises(BadInput, match=r"its 0\.0 MB would unpack to 12\.6 MB, and torch.save"):
        check_weights("net", build, str(file))


@pytest.mark.parametrize("name", ["large.pth", "large.safetensors"])
def test_a_file_that_is_far_larger_than_its_net_is_refused_unread(file, monkeypatch, name):
    monkeypatch.setattr(torch, "load", pytest.fail)
    path = file.with_name(name)
    with path.open("wb") as sparse:
        sparse.truncate(50 * 10**9)
    for attempt in (
        lambda: check_weights("net", build, str(path)),
        lambda: load_weights("net", build(), str(path)),
    ):
        with pytest.raises(BadInput, match=r"is 50\.0 GB large, .* for this net may have 67\.1 MB"):
            attempt()


def test_the_largest_file_follows_the_net():
    own = sum(v.numel() * v.element_size() for v in build().state_dict().values())
    assert largest_file(build()) == 16 * own + 64 * 2**20
    assert largest_file(None) == 16 * 2**30


KINDS = {
    "sparse": (lambda v: v.to_sparse(), "a sparse tensor"),
    "meta": (lambda v: v.to("meta"), "a meta tensor, which has no values"),
    "complex": (lambda v: v.to(torch.complex64), "a complex tensor"),
    "quantised": (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "a quantised"),
    "whole numbers": (lambda v: (v * 100).to(torch.int8), "int8, not floating"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_of_other_kinds_are_refused_by_name_before_they_are_loaded(file, state, kind):
    change, sentence = KINDS[kind]
    state["3.weight"] = change(state["3.weight"])
    torch.save(state, file)
    for attempt in (
        lambda: check_weights("net", build, str(file)),
        lambda: load_weights("net", build(), str(file)),
    ):
        with pytest.raises(BadInput, match=rf"3\.weight is {sentence}"):
            attempt()


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_mean", "1.running_var"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_tensor(file, state, name, value):
    state[name].reshape(-1)[1] = value
    torch.save(state, file)
    check_weights("net", build, str(file))  # nothing is computed with it yet
    with pytest.raises(BadInput, match=rf"weights\.pth can't be used: {name} is (NaN|infinite) in"):
        load_weights("net", build(), str(file))


def test_what_the_build_holds_is_checked_too_and_attention_masks_are_left():
    module = build()
    module.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1), persistent=False)
    module.register_buffer("largest", torch.full((2,), 3e38))  # their sum is infinite
    load_weights("net", module, None)
    module.register_buffer("grid", torch.tensor([0.5, -torch.inf]), persistent=False)
    with pytest.raises(BadInput, match=r"^net can't be used: grid is infinite in 1 of 2 values$"):
        load_weights("net", module, None)


ODD_BUILDS = {
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "0.weight is of a lazy module"),
    "sparse": (lambda: with_buffer(torch.eye(3).to_sparse()), "extra is a sparse tensor"),
    "complex": (lambda: with_buffer(torch.zeros(2) * 1j), "extra is a complex tensor"),
    "meta": (lambda: build().to("meta"), "0.weight is a meta tensor"),
}


def with_buffer(value: torch.Tensor) -> nn.Module:
    module = build()
    module.register_buffer("extra", value)
    return module


@pytest.mark.parametrize("what", ODD_BUILDS)
def test_nets_that_hold_tensors_of_other_kinds_are_refused(what):
    odd, sentence = ODD_BUILDS[what]
    with pytest.raises(BadInput, match=sentence):
        load_weights("net", odd(), None)


@pytest.mark.parametrize("given", [None, (1, 2), lambda x: x])
def test_a_build_that_gives_no_module_is_said_before_anything_is_read(file, given):
    file.write_bytes(b"")
    with pytest.raises(BadInput, match=r"build\(\) gives (nothing|a \w+), not a torch.nn.Module"):
        check_weights("net", lambda: given, str(file))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_torchscript_archive_is_called_so(file):
    torch.jit.trace(nn.ReLU(), torch.zeros(2), check_trace=False).save(str(file))
    with pytest.raises(BadInput, match="it is a TorchScript archive; save the state_dict"):
        check_weights("net", build, str(file))
