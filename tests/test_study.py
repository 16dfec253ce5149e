"""A chunk of the study: what its records say, and that one bad sample costs no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.reference import masks as twin_masks
from tests.reference.maps import random_parameters
from tests.reference.metrics import concentration
from tests.tiny import ConvNet, DataOf, as_net
from xai_core.engine import AutogradEngine, DependsOnBatch, FusedEngine, Precision
from xai_core.methods import METHODS
from xai_core.metrics import DEFAULT_METRICS
from xai_core.study import Chunk, Scoring, chunk_key, plan_chunks, run_chunk
from xai_core.types import NoRecord, Record, Sample

ALL = tuple(METHODS)


def picture(seed: int, height: int = 8, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob(height: int = 8, width: int = 6) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[1:5, 2:5] = True
    return mask


def sample(image_id: int, *indices: int, category: str = "orange") -> Sample:
    return Sample(image_id, category, indices or (0, 2))


def data_of(*entries) -> DataOf:
    return DataOf({sample(i): entry for i, entry in enumerate(entries)})


def tiny_net():
    return as_net(ConvNet(random_parameters(0)), "features.4")


def run(net, data, size="original", ids=ALL, dilation=0.2, recognised=None, **options):
    chunk = Chunk(size, tuple(data.samples()), ids)
    methods = [METHODS.get(id) for id in ids]
    scoring = Scoring(dilation, recognised)
    return run_chunk(chunk, net, data, AutogradEngine(), methods, scoring=scoring, **options)


def test_a_chunk_has_an_outcome_for_each_cell_in_order():
    data = data_of((picture(0), blob()), (picture(1), blob()))
    outcomes = run(tiny_net(), data)
    expected = [("tiny", "original", s.id, m) for s in data.samples() for m in ALL]
    assert [outcome.cell for outcome in outcomes] == expected


def test_a_record_holds_the_metrics_of_its_map_on_the_dilated_mask():
    kept = []
    data = data_of((picture(0), blob()))
    records = run(tiny_net(), data, keep_map=kept.append)
    grown = twin_masks.dilate(blob(), "0.2")
    assert grown.sum() > blob().sum()
    for record, entry in zip(records, kept, strict=True):
        assert record.cell == entry.cell
        assert record.metrics == pytest.approx(concentration(entry.map, grown), rel=1e-12)
        assert (record.map_min, record.map_max) == (entry.map.min(), entry.map.max())
        assert (record.channels, record.height, record.width) == entry.map.shape
        assert record.chance == grown.mean()
        assert record.mask_share == blob().mean()
        assert not record.zero_energy


def test_a_record_says_which_output_was_explained_and_how_the_net_saw_it():
    net, data = tiny_net(), data_of((picture(0), blob()))
    logits = net.module(torch.tensor(picture(0) / 255).permute(2, 0, 1)[None])[0]
    (record,) = run(net, data, ids=("backprop",))
    target = max((0, 2), key=lambda c: logits[c])
    assert record.class_index == target
    assert record.logit == pytest.approx(float(logits[target]), rel=1e-12)
    assert record.probability == pytest.approx(float(logits.softmax(0)[target]), rel=1e-12)
    assert record.rank == 1 + sorted(logits.tolist(), reverse=True).index(float(logits[target]))


def test_rank_counts_from_one_through_all_outputs():
    net = tiny_net()
    ranks = set()
    for c in range(3):
        data = DataOf({sample(1, c): (picture(0), blob())})
        ranks.add(run(net, data, ids=("cam",))[0].rank)
    assert ranks == {1, 2, 3}


def test_sizes_scale_image_and_mask_to_squares():
    data = data_of((picture(0, 8, 6), blob(8, 6)))
    (record,) = run(tiny_net(), data, size="16", ids=("backprop",), dilation=0.0)
    assert (record.height, record.width) == (16, 16)
    assert record.mask_share == twin_masks.resize_nearest(blob(8, 6), 16, 16).mean()
    assert record.chance == record.mask_share


class EndsInRelu(nn.Module):
    def __init__(self, bias: float) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.scores.weight.fill_(0.5)
            self.scores.bias.fill_(bias)

    def forward(self, x):
        return torch.relu(self.scores(x)).mean(dim=(2, 3))


@pytest.mark.parametrize(("bias", "dead"), [(-50.0, True), (0.1, False)])
def test_a_dead_logit_is_flagged_and_its_maps_are_zero_energy(bias, dead):
    net = as_net(EndsInRelu(bias).double().eval(), "")
    data = DataOf({sample(1, 1): (picture(0), blob())})
    records = run(net, data, ids=("backprop", "guided_backprop"))
    assert [r.dead_logit for r in records] == [dead] * 2
    assert [r.zero_energy for r in records] == [dead] * 2
    assert all((r.metrics["concentration"] == 0) == dead for r in records)


def test_zero_energy_without_a_dead_logit_is_told_apart():
    net = tiny_net()
    net.module.fc.weight[0] = -net.module.fc.weight[0].abs()  # no evidence for class 0
    data = DataOf({sample(1, 0): (picture(0), blob())})
    by_method = {r.method: r for r in run(net, data, ids=("grad_cam", "backprop"))}
    assert by_method["grad_cam"].zero_energy
    assert by_method["grad_cam"].metrics["concentration"] == 0.0
    assert not by_method["grad_cam"].dead_logit
    assert not by_method["backprop"].zero_energy


BAD = {
    "image": ("the image is torn", blob()),
    "mask": (picture(1), "the mask is torn"),
    "empty mask": (picture(1), np.zeros((8, 6), bool)),
}


@pytest.mark.parametrize("entry", BAD.values(), ids=BAD)
def test_a_bad_sample_fails_by_name_and_costs_no_other(entry):
    good = (picture(0), blob())
    outcomes = run(tiny_net(), data_of(good, entry, (picture(2), blob())))
    failed = [outcome for outcome in outcomes if isinstance(outcome, NoRecord)]
    assert {outcome.sample for outcome in failed} == {sample(1).id}
    assert [outcome.method for outcome in failed] == list(ALL)
    assert {outcome.kind for outcome in failed} == {"failed"}
    assert all("torn" in o.reason or "no pixel" in o.reason for o in failed)
    alone = run(tiny_net(), data_of(good))
    kept = {o.cell: o for o in outcomes if not isinstance(o, NoRecord)}
    assert len(kept) == 2 * len(ALL)
    for record in alone:
        twin = kept[record.cell].metrics
        assert twin["concentration"] == pytest.approx(record.metrics["concentration"], abs=1e-12)


def test_a_sample_with_an_unknown_class_fails_alone_in_its_batch():
    data = DataOf({sample(1): (picture(0), blob()), sample(2, 9): (picture(1), blob())})
    outcomes = run(tiny_net(), data, ids=("backprop",))
    by_sample = {outcome.sample: outcome for outcome in outcomes}
    assert by_sample[sample(1).id].metrics["concentration"] > 0
    assert by_sample[sample(2, 9).id].reason == (
        "category 'orange' has no output: class index 9 is not among the 3 outputs of tiny"
    )


def test_a_net_with_broken_weights_gives_failures_and_no_records():
    net = tiny_net()
    net.module.features[0].bias[0] = float("nan")
    outcomes = run(net, data_of((picture(0), blob())))
    assert all(isinstance(outcome, NoRecord) and "NaN" in outcome.reason for outcome in outcomes)


def test_methods_that_the_net_does_not_have_are_unsupported_with_the_reason():
    net = tiny_net()
    net.module.features[4] = nn.GELU()
    outcomes = {o.method: o for o in run(net, data_of((picture(0), blob())))}
    refused = {m for m, o in outcomes.items() if isinstance(o, NoRecord)}
    assert refused == {"deconvolution", "guided_backprop", "guided_grad_cam"}
    assert all(outcomes[m].kind == "unsupported" for m in refused)
    assert all("GELU" in outcomes[m].reason for m in refused)


def test_a_size_that_the_net_does_not_take_is_unsupported_for_all_methods_and_no_failure():
    net = replace(tiny_net(), input_size=16)
    data = data_of((picture(0), blob()), (picture(1), blob()))
    outcomes = run(net, data)
    assert len(outcomes) == 2 * len(ALL)
    assert {o.kind for o in outcomes} == {"unsupported"}
    assert {o.reason for o in outcomes} == {"tiny takes images of 16x16 pixels only"}
    chunk = Chunk("16", tuple(data.samples()), ALL)
    methods = [METHODS.get(m) for m in ALL]
    records = run_chunk(chunk, net, data, AutogradEngine(), methods, scoring=Scoring(0.2))
    assert all(isinstance(record, Record) for record in records)


def test_a_net_without_a_target_layer_has_records_that_say_so():
    net = replace(tiny_net(), target_layer=None, no_target_layer="tiny has none")
    by_method = {o.method: o for o in run(net, data_of((picture(0), blob())))}
    assert by_method["backprop"].target_layer == ""
    assert (by_method["grad_cam"].kind, by_method["grad_cam"].reason) == (
        "unsupported",
        "tiny has none",
    )


def test_batches_change_no_record():
    data = data_of(*((picture(i), blob()) for i in range(3)))
    together = run(tiny_net(), data)
    singles = [
        record for s in data.samples() for record in run(tiny_net(), DataOf({s: data.entries[s]}))
    ]
    for a, b in zip(together, singles, strict=True):
        assert a.cell == b.cell
        assert a.metrics == pytest.approx(b.metrics, rel=1e-9)
        assert (a.class_index, a.rank) == (b.class_index, b.rank)


class BatchStatistics(nn.Module):
    def forward(self, z):
        return F.batch_norm(z, None, None, training=True)


def test_images_that_influence_each_other_are_computed_alone():
    net = tiny_net()
    net.module.features[4] = nn.Sequential(nn.ReLU(), BatchStatistics())
    data = data_of(*((picture(i), blob()) for i in range(3)))
    with pytest.warns(DependsOnBatch, match="tiny gives other logits"):
        together = run(net, data)
    singles = [record for s in data.samples() for record in run(net, DataOf({s: data.entries[s]}))]
    assert [a.cell for a in together] == [a.cell for a in singles]
    assert [a.metrics for a in together] == [a.metrics for a in singles]
    assert {a.batch_size for a in together} == {1}


class Autocast(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, z):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.features(z)


def test_maps_of_a_layer_under_autocast_are_scored():
    net = tiny_net()
    net.module.features = Autocast(net.module.features)
    net.module.fc = nn.Linear(net.module.fc.in_features, 3).bfloat16()
    net.module.float()
    net.module.fc.bfloat16()
    net = replace(net, target_layer="features")
    outcomes = {o.method: o for o in run(net, data_of((picture(0), blob())))}
    assert isinstance(outcomes["grad_cam"], Record), outcomes["grad_cam"]


def key(chunk=None, net=None, data=None, engine=None, **scoring):
    data = data or data_of((picture(0), blob()))
    chunk = chunk or Chunk("original", tuple(data.samples()), ALL)
    scoring = Scoring(**{"dilation": 0.2} | scoring)
    return chunk_key(chunk, net or tiny_net(), data, engine or AutogradEngine(), scoring)


def test_the_key_is_stable_and_follows_all_that_determines_the_records(monkeypatch):
    base = key()
    assert key() == base
    net, data = tiny_net(), data_of((picture(0), blob()))
    monkeypatch.setattr(data, "fingerprint", lambda sample: "of an edited image")
    changed = {
        "size": key(Chunk("16", (sample(0),), ALL)),
        "samples": key(Chunk("original", (sample(0, 1),), ALL)),
        "methods": key(Chunk("original", (sample(0),), ALL[1:])),
        "weights": key(net=replace(net, weights=replace(net.weights, sha256="1" * 64))),
        "layer": key(net=replace(net, target_layer="features.3")),
        "input size": key(net=replace(net, input_size=16)),
        "mean": key(net=replace(net, mean=(0.5, 0.5, 0.5))),
        "dtype": key(net=replace(net, module=ConvNet(random_parameters(0)).float())),
        "data": key(data=data),
        "dilation": key(dilation=0.0),
        "recognised": key(recognised=5),
        "metrics": key(metrics=(*DEFAULT_METRICS, "another")),
        "engine": key(engine=FusedEngine()),
        "precision": key(engine=FusedEngine(precision=Precision.BF16)),
    }
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    changed["threads"] = key()
    assert base not in changed.values()
    assert len(set(changed.values())) == len(changed)


def test_chunks_hold_samples_of_one_shape_and_the_same_methods_in_order():
    samples = [sample(i) for i in range(7)]
    shapes = dict(zip(samples, "aabaaba", strict=True))
    methods = {s: ("cam",) if s.image_id == 3 else ("backprop",) for s in samples}
    chunks = plan_chunks([(s, methods[s]) for s in samples], "original", 2, shapes.get)
    ids = [[s.image_id for s in chunk.samples] for chunk in chunks]
    assert sorted(ids) == [[0, 1], [2, 5], [3], [4, 6]]
    assert all(len({shapes[s] for s in chunk.samples}) == 1 for chunk in chunks)
    assert all({methods[s] for s in chunk.samples} == {chunk.methods} for chunk in chunks)


def ranks_of(data) -> dict[Sample, int]:
    return {r.sample: r.rank for r in run(tiny_net(), data, ids=("cam",))}


def test_samples_whose_class_is_not_among_the_nets_top_k_are_skipped_for_all_methods():
    data = DataOf({sample(i, i): (picture(i), blob()) for i in range(3)})
    ranks = ranks_of(data)
    assert len(set(ranks.values())) > 1
    everything = {o.cell: o for o in run(tiny_net(), data)}
    for top in (1, 2, 3):
        kept = []
        outcomes = run(tiny_net(), data, recognised=top, keep_map=kept.append)
        assert [o.cell for o in outcomes] == list(everything)
        skipped = {o.cell: o for o in outcomes if isinstance(o, NoRecord)}
        expected = {cell for cell in everything if ranks[cell[2]] > top}
        assert skipped.keys() == expected
        assert {m.cell for m in kept} == everything.keys() - expected
        for outcome in skipped.values():
            assert outcome.kind == "unrecognised"
            assert outcome.reason == (
                f"class 'orange' has rank {ranks[outcome.sample]} of tiny, not among its top "
                f"{top}: --recognised {top}"
            )
        for outcome in outcomes:  # the others are the very records of a run without the choice
            if outcome.cell not in skipped:
                twin = replace(everything[outcome.cell], seconds=outcome.seconds)
                assert outcome == twin


def test_a_sample_that_is_not_recognised_is_one_in_a_batch_that_falls_apart_too():
    data = DataOf({sample(i, i): (picture(i), blob()) for i in range(3)})
    ranks = ranks_of(data)
    data.entries[sample(8, 9)] = (picture(8), blob())  # there is no output 9
    outcomes = run(tiny_net(), data, ids=("cam",), recognised=1)
    kinds = {o.sample: o.kind for o in outcomes if isinstance(o, NoRecord)}
    expected = {s: "unrecognised" for s, rank in ranks.items() if rank > 1}
    assert kinds == expected | {sample(8, 9).id: "failed"}
