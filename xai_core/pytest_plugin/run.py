"""One run in one process: its plan, and the outcomes, each chunk computed once."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xai_core.errors import BadInput
from xai_core.pytest_plugin.folder import MAPS
from xai_core.pytest_plugin.options import Options
from xai_core.pytest_plugin.request import Place, Request
from xai_core.store import PARTS, Store
from xai_core.types import ORIGINAL, Net, NoRecord, Outcome, Record, Sample

if TYPE_CHECKING:
    from xai_core.engine import FusedEngine
    from xai_core.study import Chunk, Input, MapOf

RUN = pytest.StashKey["Run"]()
_REMEMBERED_CHUNKS = 4


class Run(Request):
    """A request that is being computed.

    Args:
        options: the command line.
        place: where the run is written.
    """

    def __init__(self, options: Options, place: Place) -> None:
        super().__init__(options, place)
        self.planned = 0  # cells
        self.started = datetime.now().astimezone()
        self._ahead: tuple[Chunk, Future[list[Input | NoRecord]]] | None = None
        self._plan: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        self._chunks: dict[tuple[str, str], dict[str, Chunk]] = {}
        self._following: dict[tuple[str, str, str], Chunk] = {}  # by net, size and first sample
        self._outcomes: OrderedDict[tuple[str, Chunk], dict[tuple[str, ...], Outcome]] = (
            OrderedDict()
        )

    @cached_property
    def engine(self) -> FusedEngine:
        """What computes the maps; the first use sets up the process: threads, memory."""
        import torch

        from xai_core.engine import FusedEngine
        from xai_core.engine.allocator import keep_freed_memory

        keep_freed_memory()

        torch.set_num_threads(self.threads)
        return FusedEngine(precision=self.precision)

    @cached_property
    def store(self) -> Store:
        """The part files of this run."""
        return Store(self.folder / PARTS, self.place.session)

    def load(self, net: str) -> Net:
        """Build a net and load its weights."""
        import torch

        from xai_core.nets import load_net

        _ = self.engine  # sets the threads
        base, randomised = self.nets[net]
        return load_net(
            self.specs[base],
            self.weights[base],
            randomised=randomised,
            device=self.device,
            dtype=getattr(torch, self.options.dtype),
        )

    def release(self) -> None:
        """Forget what belongs to the last net."""
        import torch

        self._outcomes.clear()
        self._ahead = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def plan(self, cells: Collection[tuple[str, str, str, str]]) -> None:
        """Say which (net, size, sample, method) will be asked for, in their order."""
        self.planned = len(set(cells))  # a plug-in may repeat items
        for net, size, sample, method in cells:
            self._plan.setdefault((net, size), {}).setdefault(sample, {})[method] = None

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
            ordered = plan_chunks(planned, size, self.options.batch_size, self._shape(size))
            chunks = {member.id: chunk for chunk in ordered for member in chunk.samples}
            for chunk, following in pairwise(ordered):
                self._following[net, size, chunk.samples[0].id] = following
            self._chunks[net, size] = chunks
        return chunks[sample]

    def _shape(self, size: str) -> Callable[[Sample], object]:
        def shape(sample: Sample) -> object:
            try:
                return self.data.image(sample).shape if size == ORIGINAL else size
            except BadInput:
                return sample.id  # on its own: it will fail by name

        return shape

    def _compute(self, chunk: Chunk, net: Net) -> list[Outcome]:
        from xai_core.report import previews
        from xai_core.report.maps import save_map
        from xai_core.study import Scoring, chunk_key, run_chunk

        options, data, engine = self.options, self.data, self.engine
        # A copy that has forgotten all recognises nothing, and is held against the net's samples.
        recognised = None if net.randomised else options.recognised
        scoring = Scoring(options.dilation, recognised, self.metrics)
        key = chunk_key(chunk, net, data, engine, scoring)
        stored = self.store.read(key)
        if stored is not None and self._is_complete(stored, chunk, net):
            return stored
        prepared = self._prepared(chunk, net)
        maps: list[MapOf] = []
        outcomes = run_chunk(
            chunk,
            net,
            data,
            engine,
            [self.methods[name] for name in chunk.methods],
            scoring=scoring,
            keep_map=maps.append if options.save_maps or self._shows(chunk, net) else None,
            prepared=prepared,
        )
        if options.save_maps:
            for entry in maps:
                save_map(self.folder / MAPS, entry.cell, entry.map, entry.image)
        if self._shows(chunk, net):
            for sample in chunk.samples:
                of_sample = [entry for entry in maps if entry.cell[2] == sample.id]
                if of_sample:
                    first = of_sample[0]
                    previews.save(
                        self.folder / previews.FOLDER,
                        net.id,
                        chunk.size,
                        sample.id,
                        {entry.cell[3]: entry.map for entry in of_sample},
                        first.image,
                        first.mask,
                        first.dilated,
                    )
        self.store.write(key, outcomes)  # last: a part says that its maps are there
        return outcomes

    def _shows(self, chunk: Chunk, net: Net) -> bool:
        """Whether the report shows this chunk's maps: those of the first size."""
        first = chunk.size == self.options.sizes[0] and not net.randomised
        return first and self.options.report == "full"

    def _prepared(self, chunk: Chunk, net: Net) -> list[Input | NoRecord]:
        """The chunk, ready for the net; the next one is then got ready while this one computes."""
        from xai_core.study import prepare_chunk

        def prepare(chunk: Chunk) -> list[Input | NoRecord]:
            return prepare_chunk(chunk, net, self.data, self.options.dilation)

        ahead, self._ahead = self._ahead, None
        prepared = ahead[1].result() if ahead and ahead[0] is chunk else prepare(chunk)
        following = self._following.get((net.id, chunk.size, chunk.samples[0].id))
        if following is not None:
            self._ahead = following, self._reader.submit(prepare, following)
        return prepared

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="reader")

    def _is_complete(self, outcomes: Sequence[Outcome], chunk: Chunk, net: Net) -> bool:
        """Whether nothing is missing, and nothing failed that may work when it is tried again."""
        from xai_core.report import previews
        from xai_core.report.maps import map_files

        cells = {(net.id, chunk.size, s.id, m) for s in chunk.samples for m in chunk.methods}
        failed = any(isinstance(o, NoRecord) and o.kind == "failed" for o in outcomes)
        if failed or {outcome.cell for outcome in outcomes} != cells:
            return False
        records = [outcome for outcome in outcomes if isinstance(outcome, Record)]
        files: list[Path] = []
        if self._shows(chunk, net):
            for sample in {record.sample for record in records}:
                files += previews.files(self.folder / previews.FOLDER, net.id, sample)
        if self.options.save_maps:
            for record in records:
                files += map_files(self.folder / MAPS, record.cell, record.channels == 1)
        return all(file.exists() for file in files)
