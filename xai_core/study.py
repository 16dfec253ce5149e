"""The study: each net, size and sample under each method, in chunks; no pytest and no files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from xai_core.data.masks import dilate, resize_mask
from xai_core.engine import Attributions, Engine
from xai_core.engine.processor import processor
from xai_core.errors import BadInput, UnknownOutput, Unsupported, first_line
from xai_core.files import printable
from xai_core.methods import Method
from xai_core.metrics import DEFAULT_METRICS, METRICS
from xai_core.nets.preprocess import preprocess, size_of
from xai_core.types import DataSet, Net, NoRecord, Outcome, Record, Sample, WhyNot

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.metrics.metric import Map
    from xai_core.types import Image, Mask

SCHEMA = 2
"""Raised when the meaning of a record's columns changes: older parts are then not taken."""


@dataclass(frozen=True)
class Chunk:
    """The unit of work: samples of one size with one net, computed together.

    Attributes:
        size: ``original`` or N.
        samples: whose images are equal in shape at this size.
        methods: ids of the methods.
    """

    size: str
    samples: tuple[Sample, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Scoring:
    """How maps become records.

    Attributes:
        dilation: share of its area by which each mask grows.
        recognised: largest rank that a sample's class may have for a record; None for any.
        metrics: ids of what is measured.
    """

    dilation: float
    recognised: int | None = None
    metrics: tuple[str, ...] = DEFAULT_METRICS


@dataclass(frozen=True)
class MapOf:
    """A computed map on its way to whoever keeps maps.

    Attributes:
        cell: (net, size, sample, method).
        map: (C, H, W).
        image: the decoded image, at its own size.
        mask: at the map's size, (H, W).
        dilated: the mask, dilated.
    """

    cell: tuple[str, str, str, str]
    map: Map
    image: Image
    mask: Mask
    dilated: Mask


@dataclass(frozen=True)
class Input:
    """A sample that is ready for a net.

    Attributes:
        sample: which one.
        image: the decoded image, at its own size.
        pixels: resized and normalised, (1, 3, H, W).
        mask: resized, (H, W).
        dilated: the mask, dilated.
        sha256: hash of image file and annotations.
    """

    sample: Sample
    image: Image
    pixels: Tensor
    mask: Mask
    dilated: Mask
    sha256: str


def chunk_key(
    chunk: Chunk,
    net: Net,
    data: DataSet,
    engine: Engine,
    scoring: Scoring,
) -> str:
    """SHA-256 of all that determines a chunk's records: equal keys may share results.

    The number of threads is that of this process: sums are rounded by it.
    """
    parameter = next(net.module.parameters(), torch.zeros(()))
    inputs = {
        "schema": SCHEMA,
        "chunk": asdict(chunk),
        "net": [net.id, net.target_layer, net.input_size, net.mean, net.std, net.weights.sha256],
        "data": [data.name, *(_fingerprint(data, sample) for sample in chunk.samples)],
        "engine": engine.id,
        "scoring": asdict(scoring),
        "arithmetic": [
            *(str(parameter.dtype), parameter.device.type, torch.__version__),
            torch.get_num_threads(),
        ],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _fingerprint(data: DataSet, sample: Sample) -> str:
    try:
        return data.fingerprint(sample)
    except BadInput as error:  # the sample will fail by name; its failure may be shared too
        return str(error)


def plan_chunks(
    samples: Iterable[tuple[Sample, tuple[str, ...]]],
    size: str,
    batch_size: int,
    shape_of: Callable[[Sample], object],
) -> list[Chunk]:
    """Group samples of equal shape and methods, in their order, into chunks of ``batch_size``.

    Args:
        samples: with the ids of the methods to compute for each.
        size: ``original`` or N.
        batch_size: images computed together, at most.
        shape_of: anything equal for images of equal shape.
    """
    groups: dict[tuple[object, tuple[str, ...]], list[Sample]] = {}
    for sample, methods in samples:
        shape = shape_of(sample) if batch_size > 1 else None
        groups.setdefault((shape, methods), []).append(sample)
    return [
        Chunk(size, tuple(group[i : i + batch_size]), methods)
        for (_, methods), group in groups.items()
        for i in range(0, len(group), batch_size)
    ]


def run_chunk(
    chunk: Chunk,
    net: Net,
    data: DataSet,
    engine: Engine,
    methods: Sequence[Method],
    *,
    scoring: Scoring,
    keep_map: Callable[[MapOf], None] | None = None,
    prepared: Sequence[Input | NoRecord] | None = None,
) -> list[Outcome]:
    """Compute a chunk: one outcome for each of its cells, in the order of samples and methods.

    What goes wrong with one sample costs this sample's records and no others. Where the images of a
    batch influence each other (batch statistics, say), each is computed alone. Samples that the net
    doesn't recognise are computed like all others, but not scored: batches, and with them the last
    digits of the other records, are the same with ``scoring.recognised`` and without.

    Args:
        chunk: what to compute.
        net: with which net.
        data: where images and masks come from.
        engine: what computes the maps.
        methods: those named by the chunk.
        scoring: how maps become records.
        keep_map: called with each map that is scored.
        prepared: what `prepare_chunk` gave for this chunk; None prepares it here.
    """
    if prepared is None:
        prepared = prepare_chunk(chunk, net, data, scoring.dilation)
    inputs = [entry for entry in prepared if isinstance(entry, Input)]
    outcomes: list[Outcome] = [entry for entry in prepared if isinstance(entry, NoRecord)]
    if not inputs:
        return outcomes
    start = time.perf_counter()
    try:
        result = engine(
            net,
            torch.cat([entry.pixels for entry in inputs]),
            [entry.sample.class_indices for entry in inputs],
            list(methods),
        )
        alone = result.depends_on_batch and len(inputs) > 1
    except Unsupported as error:
        refused = [entry.sample for entry in inputs]
        return [*outcomes, *_none(net, chunk, refused, "unsupported", str(error))]
    except (BadInput, torch.OutOfMemoryError) as error:
        if len(inputs) == 1:
            sample, reason = inputs[0].sample, first_line(error)
            if isinstance(error, UnknownOutput):
                reason = f"category {sample.category!r} has no output: {reason}"
            return [*outcomes, *_none(net, chunk, [sample], "failed", reason)]
        alone = True  # finds the one that is to blame
    if alone:
        for entry in inputs:
            outcomes += run_chunk(
                Chunk(chunk.size, (entry.sample,), chunk.methods),
                net,
                data,
                engine,
                methods,
                scoring=scoring,
                keep_map=keep_map,
                prepared=[entry],
            )
        return outcomes
    if result.logits.is_cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / len(inputs)
    recognised = scoring.recognised
    for i, entry in enumerate(inputs):
        rank = _rank(result, i)
        if recognised is not None and rank > recognised:
            reason = (
                f"class {entry.sample.category!r} has rank {rank} of {net.id}, "
                f"not among its top {recognised}: --recognised {recognised}"
            )
            outcomes += _none(net, chunk, [entry.sample], "unrecognised", reason)
            continue
        for method in methods:
            outcomes.append(
                _score(i, entry, method, result, rank, chunk, net, data, scoring, seconds)
            )
            if keep_map and method.id in result.maps:
                cell = (net.id, chunk.size, entry.sample.id, method.id)
                values = _array(result.maps[method.id][i])
                keep_map(MapOf(cell, values, entry.image, entry.mask, entry.dilated))
    return outcomes


def prepare_chunk(chunk: Chunk, net: Net, data: DataSet, dilation: float) -> list[Input | NoRecord]:
    """Decode, resize, normalise and dilate: all that can be done before the net is free.

    What can't be read becomes the records that are missing for it. Nothing here is random, and a
    second thread may do it.
    """
    prepared: list[Input | NoRecord] = []
    for sample in chunk.samples:
        try:
            prepared.append(_prepare(sample, chunk.size, net, data, dilation))
        except BadInput as error:
            prepared += _none(net, chunk, [sample], "failed", str(error))
    return prepared


def _prepare(sample: Sample, size: str, net: Net, data: DataSet, dilation: float) -> Input:
    image = data.image(sample)
    mask = resize_mask(data.mask(sample), *size_of(image, size))
    return Input(
        sample=sample,
        image=image,
        pixels=preprocess(image, size, net),
        mask=mask,
        dilated=dilate(mask, dilation),
        sha256=data.fingerprint(sample),
    )


def _none(
    net: Net,
    chunk: Chunk,
    samples: Iterable[Sample],
    kind: WhyNot,
    reason: str,
) -> list[NoRecord]:
    return [
        NoRecord(net.id, chunk.size, sample.id, method, kind, printable(reason))
        for sample in samples
        for method in chunk.methods
    ]


def _array(values: Tensor) -> Map:
    """As numpy has it, which knows no bfloat16 (a map of a layer under autocast is in it)."""
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()


def _rank(result: Attributions, i: int) -> int:
    """The explained output's place among all outputs of an image, 1 = highest logit."""
    logits = result.logits[i]
    return int((logits > logits[int(result.targets[i])]).sum()) + 1


def _score(
    i: int,
    entry: Input,
    method: Method,
    result: Attributions,
    rank: int,
    chunk: Chunk,
    net: Net,
    data: DataSet,
    scoring: Scoring,
    seconds: float,
) -> Outcome:
    cell = (net.id, chunk.size, entry.sample.id, method.id)
    if method.id in result.refused:
        return NoRecord(*cell, "unsupported", printable(result.refused[method.id]))
    if method.id in result.failed:
        return NoRecord(*cell, "failed", printable(result.failed[method.id]))
    values = _array(result.maps[method.id][i])
    try:
        metrics = _measure(values, entry.dilated, scoring.metrics)
    except BadInput as error:
        return NoRecord(*cell, "failed", str(error))
    low, high = float(values.min()), float(values.max())
    logits = result.logits[i].double()
    target = int(result.targets[i])
    return Record(
        net=net.id,
        method=method.id,
        size=chunk.size,
        sample=entry.sample.id,
        image_id=entry.sample.image_id,
        category=printable(entry.sample.category),
        class_index=target,
        logit=float(logits[target]),
        probability=float(logits.softmax(dim=0)[target]),
        rank=rank,
        height=values.shape[1],
        width=values.shape[2],
        channels=values.shape[0],
        map_min=low,
        map_max=high,
        metrics=metrics,
        zero_energy=low == high == 0,
        dead_logit=float(logits[target]) == 0.0,
        chance=float(entry.dilated.mean()),
        mask_share=float(entry.mask.mean()),
        dilation=scoring.dilation,
        target_layer=printable(net.target_layer or ""),
        weights=printable(net.weights.label),
        weights_sha256=net.weights.sha256,
        weights_random=net.weights.random,
        data=printable(data.name),
        sample_sha256=entry.sha256,
        engine=result.engine,
        device=result.logits.device.type,
        dtype=str(result.logits.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        batch_size=len(result.logits),
        torch=torch.__version__,
        seconds=seconds,
        reference=method.baseline,
        randomised=net.randomised,
        processor=printable(processor(result.logits.device.type)),
        base=net.base,
    )


def _measure(values: Map, mask: Mask, metrics: Iterable[str]) -> dict[str, float]:
    """All columns of these metrics; `BadInput` names a metric that can't be used."""
    columns: dict[str, float] = {}
    for name in metrics:
        columns |= METRICS.get(name)(values, mask)
    return columns
