"""Baselines as files: they come back, are replaced as a whole, and are refused where damaged."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_core.errors import BadInput
from xai_core.files import printable
from xai_core.gate import Claim, baseline_of, from_files, judge, to_files
from xai_core.report import baselines


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "baseline" / "main"


def test_a_baseline_comes_back_from_its_files(records, folder):
    before = baseline_of(records)
    files = to_files(before)
    assert sorted(files) == ["scenes-alexnet-a1a1a1a1.csv", "scenes-squeezenet1_0-b2b2b2b2.csv"]
    baselines.save(before, folder)
    found = baselines.load(folder)
    assert found.keys() == before.keys()
    for cell, entry in found.items():
        assert entry.p == pytest.approx(before[cell].p, abs=6e-8)
        assert replace(entry, p=0, chance=0) == replace(before[cell], p=0, chance=0)
    assert not judge(found, before, []).failed
    assert to_files(found) == files


@settings(max_examples=50)
@given(p=st.floats(0, 1), zero=st.booleans(), chance=st.floats(0, 1), name=st.text(max_size=8))
def test_any_p_and_name_come_back(make_record, p, zero, chance, name):
    record = make_record(p, zero_energy=zero, chance=chance, category=printable(name))
    before = baseline_of([record])
    (found,) = from_files(to_files(before)).values()
    assert found.p == pytest.approx(0.0 if zero else p, abs=6e-8)
    assert found.zero_energy == zero


NAMES = ["scenes-alexnet-a1a1a1a1.csv", "scenes-squeezenet1_0-b2b2b2b2.csv"]


def retrained(records):
    return [replace(r, weights_sha256="c3" * 32, threads=9) for r in records]


def test_a_baseline_is_replaced_as_a_whole_and_what_else_lies_there_stays(records, folder):
    baselines.save(baseline_of(records), folder)
    (folder / "why.md").write_text("agreed in May")
    one = [r for r in retrained(records) if not r.weights_random]
    paths = baselines.save(baseline_of(one), folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "scenes-squeezenet1_0-c3c3c3c3.csv",
        "why.md",
    ]
    assert [path.name for path in paths] == ["scenes-squeezenet1_0-c3c3c3c3.csv"]
    assert [path.name for path in folder.parent.iterdir()] == ["main"]


def test_killed_anywhere_a_baseline_is_the_old_one_or_the_new_one(records, folder, monkeypatch):
    """The process dies at each step of the replacement in turn; the next one finds a whole."""
    old, new = baseline_of(records), baseline_of(retrained(records))
    baselines.save(old, folder)
    old, found = baselines.load(folder), []

    class Killed(BaseException):
        pass

    for last in range(20):
        steps = iter(range(100))

        def dying(original, steps=steps, last=last):
            def step(*arguments, **options):
                if next(steps) == last:
                    raise Killed
                return original(*arguments, **options)

            return step

        with monkeypatch.context() as patch:
            for owner, name in ((Path, "rename"), (Path, "replace"), (shutil, "rmtree")):
                patch.setattr(owner, name, dying(getattr(owner, name)))
            try:
                baselines.save(new, folder)
                break
            except Killed:
                pass
        assert baselines.find(None, folder.parent, folder.parent) == folder
        there = baselines.load(folder)
        assert there in (old, as_read(new))
        found.append(there == old)
        baselines.save(old, folder)
    assert set(found) == {True, False}
    assert last > 5
    assert baselines.load(folder) == as_read(new)


def as_read(baseline):
    return from_files(to_files(baseline))


def test_a_failed_renaming_leaves_the_old_baseline(records, folder, monkeypatch):
    baselines.save(baseline_of(records), folder)
    plain = Path.rename

    def full(self, target):
        if self.name.endswith(".new"):
            raise OSError("no space")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        baselines.save(baseline_of(retrained(records)), folder)
    assert sorted(path.name for path in folder.iterdir()) == NAMES


def test_fewer_or_other_records_replace_no_baseline(records):
    before = baseline_of(records)
    fewer, other = baseline_of(records[1:]), dict(before)
    cell = next(iter(other))
    other["vgg19", *cell[1:]] = other.pop(cell)
    assert "fewer records, 319, than the baseline, 320" in baselines.refusal(before, fewer, True)
    assert "1 records of the baseline are not in" in baselines.refusal(before, other, False)
    assert baselines.refusal(before, other, True) is None
    assert baselines.refusal(before, before, False) is None
    assert baselines.refusal(fewer, before, False) is None


def test_nets_whose_names_differ_in_a_sign_have_files_of_their_own(make_record):
    names = ["my net", "my_net", "my-net", "my/net", "my.net"]
    before = baseline_of([make_record(0.1 * at, net=net) for at, net in enumerate(names)])
    files = to_files(before)
    assert len(files) == 5
    assert {e.net: e.p for e in from_files(files).values()} == {
        net: pytest.approx(0.1 * at) for at, net in enumerate(names)
    }


def test_nets_whose_names_a_file_system_may_take_for_one_are_an_error(make_record):
    both = baseline_of([make_record(net="Tiny"), make_record(net="tiny")])
    with pytest.raises(BadInput, match="'Tiny' and 'tiny' would have the same file"):
        to_files(both)


def test_two_files_of_one_net_are_an_error_that_names_both(records, folder):
    baselines.save(baseline_of(records), folder)
    merged = to_files(baseline_of(retrained(records)))["scenes-squeezenet1_0-c3c3c3c3.csv"]
    (folder / "scenes-squeezenet1_0-c3c3c3c3.csv").write_text(merged)
    with pytest.raises(BadInput, match=r"b2b2b2b2\.csv and .*c3c3c3c3\.csv are both of the net"):
        baselines.load(folder)


def test_two_data_sets_under_one_name_are_an_error_that_names_both(records, folder):
    baselines.save(baseline_of(records), folder)
    other = [replace(r, data="cells", net="other") for r in records[:4]]
    (folder / "cells-other-b2b2b2b2.csv").write_text(*to_files(baseline_of(other)).values())
    with pytest.raises(BadInput, match=r"cells-other.* of the data set cells and .* of scenes"):
        baselines.load(folder)


def test_no_baseline_holds_what_is_no_p(make_record):
    with pytest.raises(BadInput, match=r"P of .* is nan: no baseline can hold that"):
        to_files(baseline_of([make_record(float("nan"))]))


def test_records_of_several_engines_come_back(make_record):
    """A net some of whose methods another engine computed is held against itself exactly."""
    records = [make_record(method="cam"), make_record(method="backprop", engine="fused")]
    before = baseline_of(records)
    found = judge(from_files(to_files(before)), before, [])
    assert found.exact
    assert not found.failed


def test_claims_are_found_beside_the_baseline_or_the_run(records, tmp_path):
    main = tmp_path / "baseline" / "main"
    (file, *_) = baselines.save(baseline_of(records), main)
    (tmp_path / "run").mkdir()
    assert baselines.claims_file(main) is None
    path = tmp_path / "baseline" / "thresholds.toml"
    path.write_text("")
    for against in (main, file, tmp_path / "run"):
        assert baselines.claims_file(against) == path


def test_a_claim_may_name_what_only_another_baseline_has(records, tmp_path):
    baselines.save(baseline_of(records), tmp_path / "main")
    path = tmp_path / "thresholds.toml"
    baselines.check_claims([Claim(first="cam", net="alexnet")], path, {"vgg19"}, {"cam"})
    with pytest.raises(BadInput, match=r"thresholds.toml: claim 1, .*'alexnett'"):
        baselines.check_claims([Claim(first="cam", net="alexnett")], path, {"vgg19"}, {"cam"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "# net: x\n",
        lambda text: "size,sample\n",
        lambda text: "\x00",
        lambda text: text.replace(",0.", ",much", 9),
        lambda text: text.replace(",0.", ",7.", 9),
        lambda text: re.sub(r",0\.\d+\n", ",nan\n", text),
        lambda text: text.replace("# net:", "# nat:"),
        lambda text: text.replace("# net: ", "# net: a\n# net: "),
        lambda text: text.replace("weights_random: ", "weights_random: maybe "),
        lambda text: text[: len(text) // 2],
        lambda text: text + text.splitlines()[-1] + "\n",
        lambda text: text + "<<<<<<< HEAD\n",
        lambda text: text[: text.index("size,")] + text[text.index("size,") :].partition("\n")[0],
        lambda text: text.replace(",cam,", ",edges,"),
        lambda text: text.replace("scenes", "\udcff"),
        lambda text: text.replace("orange", "\x1b[31mora", 1),
    ],
    ids=range(17),
)
def test_damaged_files_are_named(records, folder, damage):
    path = baselines.save(baseline_of(records), folder)[0]
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=r"scenes-alexnet-a1a1a1a1\.csv is no|can't be read"):
        baselines.load(folder)
