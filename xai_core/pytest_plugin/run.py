"""One run in one process: its samples, its plan, and the outcomes, each chunk computed once."""

from __future__ import annotations

import gc
import json
import os
import platform
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet, find_annotations, load_annotations
from xai_core.data.scenes import SCENES_DIR
from xai_core.data.select import STUDY_CLASSES, Selection, select
from xai_core.errors import BadInput, DataMissing, UnknownChoice, Unsupported
from xai_core.pytest_plugin.options import ALL, Options
from xai_core.types import Sample

if TYPE_CHECKING:
    import torch

    from xai_core.engine import AutogradEngine
    from xai_core.methods import Method
    from xai_core.nets import NetSpec
    from xai_core.store import Store
    from xai_core.study import Chunk, MapOf, Outcome
    from xai_core.types import Net, Record

RUN = pytest.StashKey["Run"]()
SCENES = "scenes"
MANIFEST = "samples.json"
SETTINGS = "settings.json"
PARTS = "parts"
MAPS = "maps"
_REMEMBERED_CHUNKS = 4


@dataclass(frozen=True)
class Place:
    """Where a run is written, agreed between the processes of a session.

    Attributes:
        folder: of the run; may not exist yet.
        manifest: annotation file of the chosen samples, written by the controller for the workers;
            None where each process chooses them itself, which only the small scenes allow.
        images: folder of the images.
        data: name of the data set.
        workers: number of processes that compute at the same time.
        xdist: whether these are pytest-xdist's.
    """

    folder: str
    manifest: str | None = None
    images: str | None = None
    data: str = SCENES
    workers: int = 1
    xdist: bool = False


class Run:
    """See the module.

    Args:
        options: the command line.
        place: where it is written.
    """

    def __init__(self, options: Options, place: Place) -> None:
        self.options = options
        self.place = place
        self.started = datetime.now().astimezone()
        self._plan: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        self._chunks: dict[tuple[str, str], dict[str, Chunk]] = {}
        self._outcomes: OrderedDict[tuple[str, Chunk], dict[tuple[str, ...], Outcome]] = (
            OrderedDict()
        )

    # ---- what is looked at -------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Of this run."""
        return Path(self.place.folder)

    @cached_property
    def data(self) -> CocoDataSet:
        """The samples to choose from, or, behind a manifest, those chosen."""
        if self.place.manifest and self.place.images:
            content = load_annotations(Path(self.place.manifest))
            return CocoDataSet(
                self.place.data, content, Path(self.place.images), coco_to_imagenet()
            )
        annotations, images = find_annotations(self.options.coco or SCENES_DIR)
        name = annotations.stem if self.options.coco else SCENES
        return CocoDataSet(name, load_annotations(annotations), images, coco_to_imagenet())

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """Id to sample, in the order of images and classes."""
        if self.place.manifest:
            chosen = list(self.data.samples())
        else:
            chosen = select(self.data, self._selection())
        return {sample.id: sample for sample in chosen}

    def _selection(self) -> Selection:
        options = self.options
        class_map, there = coco_to_imagenet(), set(self.data.categories)
        mapped = [category for category in class_map.mapped if category in there]
        for category in set(options.classes) - {ALL}:
            if category not in there:
                raise UnknownChoice("class", category, mapped)
            class_map.indices(category)  # or why it has no counterpart among the net's classes
        classes = mapped if ALL in options.classes else options.classes or STUDY_CLASSES
        return Selection(
            classes=classes,
            per_class=options.per_class,
            seed=options.seed,
            image_ids=options.image_ids,
            min_area=options.min_area,
            max_area=options.max_area,
        )

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Id to method, in the registry's order."""
        from xai_core.methods import METHODS

        wanted = set(self.options.methods or METHODS)
        for name in sorted(wanted):
            METHODS.get(name)
        return {name: METHODS.get(name) for name in METHODS if name in wanted}

    @cached_property
    def specs(self) -> dict[str, NetSpec]:
        """Id to net spec, in the order asked for."""
        from xai_core.nets import STUDY_NETS, get_spec

        specs = [get_spec(name) for name in self.options.nets or STUDY_NETS]
        return {spec.id: spec for spec in specs}

    @cached_property
    def weights(self) -> dict[str, str | None]:
        """Net id to where its weights come from; None for the spec's own."""
        from xai_core.nets import parse_weights
        from xai_core.nets.weights import scenes_weights

        asked = parse_weights(self.options.weights)
        for net in asked:
            if net not in self.specs:
                raise UnknownChoice("net in --weights", net, self.specs)
        found: dict[str, str | None] = {}
        for net, spec in self.specs.items():
            default = spec.weights
            if not self.options.coco and default == "imagenet":
                default = scenes_weights(net)
            found[net] = asked.get(net, default)
        return found

    def _check_weights(self) -> None:
        from xai_core.nets.weights import check_weights

        for net, where in self.weights.items():
            if where is not None:
                check_weights(net, self.specs[net].build, where)

    def check(self) -> None:
        """Look every name up before anything runs; `pytest.UsageError` says what is wrong."""
        try:
            _ = self.device, self.methods, self.specs, self.samples
            self._check_weights()
        except (UnknownChoice, DataMissing, BadInput, Unsupported) as error:
            raise pytest.UsageError(str(error)) from error

    # ---- computing ---------------------------------------------------------------------------

    @cached_property
    def device(self) -> torch.device:
        """The torch device; raises `BadInput` if it is not there."""
        import torch

        try:
            device = torch.device(self.options.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(f"--device {self.options.device!r} can't be used: {reason}") from error
        return device

    @cached_property
    def engine(self) -> AutogradEngine:
        """What computes the maps; the first use sets torch's threads."""
        import torch

        from xai_core.engine import AutogradEngine

        threads = self.options.threads
        if threads is None and self.place.workers > 1:
            threads = max(1, (os.cpu_count() or 1) // self.place.workers)
        if threads is not None:
            torch.set_num_threads(threads)
        return AutogradEngine()

    @cached_property
    def store(self) -> Store:
        """The part files of this run."""
        from xai_core.store import Store

        return Store(self.folder / PARTS)

    def load(self, net: str) -> Net:
        """Build a net and load its weights."""
        import torch

        from xai_core.nets import load_net

        _ = self.engine  # sets the threads
        return load_net(
            self.specs[net],
            self.weights[net],
            device=self.device,
            dtype=getattr(torch, self.options.dtype),
        )

    def release(self) -> None:
        """Forget what belongs to the last net."""
        import torch

        self._outcomes.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def plan(self, cells: Iterable[tuple[str, str, str, str]]) -> None:
        """Say which (net, size, sample, method) will be asked for, in their order."""
        for net, size, sample, method in cells:
            self._plan.setdefault((net, size), {}).setdefault(sample, {})[method] = None

    @property
    def planned(self) -> int:
        """Number of cells of the plan."""
        return sum(len(m) for samples in self._plan.values() for m in samples.values())

    def outcome(self, net: Net, size: str, sample: str, method: str) -> Outcome:
        """The record of a cell, or why there is none; computes the cell's chunk if need be.

        Raises:
            OSError: the part or a map can't be written.
        """
        chunk = self._chunk_of(net.id, size, sample)
        remembered = self._outcomes.get((net.id, chunk))
        if remembered is None:
            remembered = {outcome.cell: outcome for outcome in self._compute(chunk, net)}
            self._outcomes[net.id, chunk] = remembered
            while len(self._outcomes) > _REMEMBERED_CHUNKS:
                self._outcomes.popitem(last=False)
        return remembered[net.id, size, sample, method]

    def _chunk_of(self, net: str, size: str, sample: str) -> Chunk:
        from xai_core.study import plan_chunks

        chunks = self._chunks.get((net, size))
        if chunks is None:
            planned = [
                (self.samples[sample_id], tuple(m for m in self.methods if m in methods))
                for sample_id, methods in self._plan[net, size].items()
            ]
            chunks = {
                member.id: chunk
                for chunk in plan_chunks(planned, size, self.options.batch_size, self._shape(size))
                for member in chunk.samples
            }
            self._chunks[net, size] = chunks
        return chunks[sample]

    def _shape(self, size: str) -> Callable[[Sample], object]:
        def shape(sample: Sample) -> object:
            try:
                return self.data.image(sample).shape if size == "original" else size
            except BadInput:
                return sample.id  # on its own: it will fail by name

        return shape

    def _compute(self, chunk: Chunk, net: Net) -> list[Outcome]:
        from xai_core.study import chunk_key, run_chunk

        options, data, engine = self.options, self.data, self.engine
        key = chunk_key(chunk, net, data, engine, options.dilation)
        stored = self.store.read(key)
        if stored is not None and self._has_maps(stored):
            return stored
        maps: list[MapOf] = []
        outcomes = run_chunk(
            chunk,
            net,
            data,
            engine,
            [self.methods[name] for name in chunk.methods],
            dilation=options.dilation,
            keep_map=maps.append if options.save_maps else None,
        )
        self.store.write(key, outcomes)
        if maps:
            from xai_core.report.maps import save_map

            for entry in maps:
                save_map(self.folder / MAPS, entry.cell, entry.map, entry.image)
        return outcomes

    def _has_maps(self, outcomes: Iterable[Outcome]) -> bool:
        from xai_core.report.maps import map_files
        from xai_core.types import Record

        if not self.options.save_maps:
            return True
        files = (
            file
            for outcome in outcomes
            if isinstance(outcome, Record)
            for file in map_files(self.folder / MAPS, outcome.cell, outcome.channels == 1)
        )
        return all(file.exists() for file in files)

    # ---- what the run is ---------------------------------------------------------------------

    def write_manifest(self) -> Path:
        """Write the chosen samples as an annotation file of their own: it pins the run."""
        from xai_core.store import write_atomically

        path = self.folder / MANIFEST
        write_atomically(path, json.dumps(self.data.subset(self.samples.values())).encode())
        return path

    def settings(self) -> dict[str, Any]:
        """What records depend on; a run is only resumed under the same."""
        options = self.options
        return {
            "nets": {net: self.weights[net] or "as built" for net in self.specs},
            "sizes": list(options.sizes),
            "methods": list(self.methods),
            "data": self.data.name,
            "samples": list(self.samples),
            "dilation": options.dilation,
            "device": options.device,
            "dtype": options.dtype,
            "batch_size": options.batch_size,
            "torch": version("torch"),
        }

    def open_folder(self) -> None:
        """Make the run's folder and write down its settings.

        Raises:
            pytest.UsageError: it can't be written, or holds a run with other settings.
        """
        from xai_core.store import write_atomically

        path, settings = self.folder / SETTINGS, self.settings()
        try:
            if self.options.resume:
                before = json.loads(path.read_text("utf-8"))
                changed = sorted(k for k in settings if before.get(k) != settings[k])
                if changed:
                    raise pytest.UsageError(
                        f"--resume {self.folder}: this run was made with other settings "
                        f"({changed[0]}: {before.get(changed[0])}); resume it with the same ones"
                    )
            write_atomically(path, (json.dumps(settings, indent=1) + "\n").encode())
            self.write_manifest()
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error)
            doing = "resumed" if self.options.resume else "written"
            raise pytest.UsageError(f"the run {self.folder} can't be {doing}: {what}") from error

    def versions(self) -> str:
        """Of what computes and judges."""
        packages = ("torch", "torchvision", "numpy", "pytest", "pytest-benchmark", "pycocotools")
        found = [f"{package} {version(package)}" for package in packages]
        return ", ".join([f"Python {platform.python_version()}", *found])


def new_folder(options: Options) -> Path:
    """A folder for a new run that does not exist yet, named by the time; or the one to resume."""
    if options.resume:
        return options.resume
    stem = datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    data = options.coco.stem if options.coco else SCENES
    folder = options.report_dir / f"{stem}-{data}"
    number = 2
    while folder.exists():
        folder = options.report_dir / f"{stem}-{data}-{number}"
        number += 1
    return folder


def sorted_records(outcomes: Iterable[Outcome]) -> list[Record]:
    """The records among outcomes, each cell once (the last counts), in a fixed order."""
    from xai_core.types import Record

    found = {outcome.cell: outcome for outcome in outcomes}
    return sorted(
        (outcome for outcome in found.values() if isinstance(outcome, Record)),
        key=lambda record: record.cell,
    )
