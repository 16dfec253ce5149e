"""What was asked for: the options, with every name looked up."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xai_core.data.annotations import find_annotations, load_annotations
from xai_core.data.class_map import load_class_map
from xai_core.data.classes import ClassMap, coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.manifest import chosen
from xai_core.data.notices import notices
from xai_core.data.select import ALL, Selection, select
from xai_core.data.sources import SCENES, get_data_set
from xai_core.errors import BadInput, DataMissing, UnknownChoice, Unsupported, first_line
from xai_core.files import file_name
from xai_core.pytest_plugin.options import Options
from xai_core.types import DataSet, Sample

if TYPE_CHECKING:
    import torch

    from xai_core.engine import Precision
    from xai_core.methods import Method
    from xai_core.nets import NetSpec

SELECTIONS = "selections"
"""Folder of what was chosen from annotation files, within ``--data-dir``."""


@dataclass(frozen=True)
class Place:
    """Where a run is written, agreed between the processes of a session.

    Attributes:
        folder: of the run; may not exist yet.
        manifest: annotation file of the chosen samples, written by the controller so that no worker
            parses COCO's; None where each process chooses them itself.
        images: folder of the images.
        data: name of the data set.
        workers: number of processes that compute at the same time.
        xdist: whether these are pytest-xdist's.
        session: 1 for a new run, one more each time that it is resumed.
    """

    folder: str
    manifest: str | None = None
    images: str | None = None
    data: str = SCENES
    workers: int = 1
    xdist: bool = False
    session: int = 1


class Request:
    """See the module; everything is looked up when first needed.

    Args:
        options: the command line.
        place: where the run is written.
    """

    def __init__(self, options: Options, place: Place) -> None:
        self.options = options
        self.place = place

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.place.folder)

    @cached_property
    def data(self) -> DataSet:
        """The samples to choose from; of annotation files those that are chosen already."""
        if self.place.manifest and self.place.images:
            annotations = load_annotations(Path(self.place.manifest))
            images = Path(self.place.images)
            return CocoDataSet(self.place.data, annotations, images, self.class_map)
        if self.options.coco:
            return chosen(
                *self._annotations(self.options.coco),
                self._selection(),
                self.class_map,
                kept=self.options.data_dir / SELECTIONS,
            )
        wished = self.class_map if self.options.class_map else None
        return get_data_set(self.options.data or SCENES, wished)

    @cached_property
    def class_map(self) -> ClassMap:
        """Category names to outputs of the net: the user's, or COCO's to ImageNet's."""
        path = self.options.class_map
        return load_class_map(path) if path else coco_to_imagenet()

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """Id to sample, in the order of images and classes."""
        is_chosen = self.place.manifest or self.options.coco
        samples = (
            self.data.samples()
            if is_chosen
            else select(self.data, self._selection(), self.class_map)
        )
        return {sample.id: sample for sample in samples}

    def _annotations(self, coco: Path) -> tuple[Path, Path]:
        try:
            return find_annotations(coco)
        except DataMissing as error:
            if not self.options.coco_site:
                raise
            raise DataMissing(
                f"{error}; nothing is downloaded while tests are only collected"
            ) from error

    def _selection(self) -> Selection:
        options = self.options
        return Selection(
            classes=options.classes or ((ALL,) if options.class_map else ()),
            per_class=options.per_class,
            seed=options.seed,
            image_ids=options.image_ids,
            min_area=options.min_area,
            max_area=options.max_area,
        )

    @cached_property
    def methods(self) -> dict[str, Method]:
        """Id to method, by id; reference methods last."""
        from xai_core.methods import DEFAULT_METHODS, METHODS

        wanted = sorted(set(self.options.methods or DEFAULT_METHODS))
        found = [METHODS.get(name) for name in wanted]
        return {method.id: method for method in sorted(found, key=lambda m: m.baseline)}

    @cached_property
    def specs(self) -> dict[str, NetSpec]:
        """Id to net spec, in the order asked for."""
        from xai_core.nets import STUDY_NETS, get_spec

        specs: dict[str, NetSpec] = {}
        files: dict[str, str] = {}
        for name in self.options.nets or STUDY_NETS:
            spec = get_spec(name)
            if not spec.id or not spec.id.isprintable():
                raise BadInput(f"--net {name}: its id {spec.id!r} must be printable, and not empty")
            if specs.setdefault(spec.id, spec) is not spec:
                raise BadInput(f"--net {name} and another net are both called {spec.id!r}")
            other = files.setdefault(file_name(spec.id).casefold(), spec.id)
            if other != spec.id:
                raise BadInput(
                    f"the files of the nets {other!r} and {spec.id!r} would have the same names"
                )
        return specs

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Ids of what is measured, the default first."""
        from xai_core.metrics import DEFAULT_METRICS, METRICS

        names = tuple(dict.fromkeys((*DEFAULT_METRICS, *sorted(self.options.metrics))))
        for name in names:
            METRICS.get(name)
        return names

    @cached_property
    def threads(self) -> int:
        """Of torch in each process that computes: the user's number, or a share of the cores."""
        import torch

        if self.options.threads is not None:
            return self.options.threads
        if self.place.workers > 1:
            return max(1, (os.cpu_count() or 1) // self.place.workers)
        return torch.get_num_threads()

    @cached_property
    def nets(self) -> dict[str, tuple[str, str]]:
        """Id in the grid to (id of the spec, stage of the randomisation; empty without).

        Raises:
            BadInput: copies are asked for of nets that were never trained.
        """
        from xai_core.nets.randomise import STAGES
        from xai_core.nets.weights import random_seed

        found = {net: (net, "") for net in self.specs}
        if self.options.randomise:
            trained = [net for net in self.specs if random_seed(self.weights[net]) is None]
            if not trained:
                raise BadInput(
                    f"--randomise needs trained weights, and {', '.join(self.specs)} have random "
                    "ones: there is nothing to forget"
                )
            copies = {f"{net}~{stage}": (net, stage) for net in trained for stage in STAGES}
            for net in copies.keys() & found.keys():
                raise BadInput(f"--randomise: a net is called {net!r}, as the copy of another")
            found |= copies
        return found

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
            if self.data.name == SCENES and default == "imagenet":
                default = scenes_weights(net)
            found[net] = asked.get(net, default)
        return found

    def _check_weights(self) -> None:
        from xai_core.nets.weights import check_weights

        for net, where in self.weights.items():
            if where is not None:
                check_weights(net, self.specs[net].build, where)

    def check(self, say: Callable[[str], object] | None = None) -> None:
        """Look every name up before anything runs; `pytest.UsageError` says what is wrong.

        Args:
            say: is told what is downloaded; where None, nothing is.
        """
        try:
            _ = self.device, self.precision, self.methods, self.metrics, self.specs
            if say:
                self._fetch_annotations(say)
            _ = self.nets, self.samples
            self._check_weights()
            if say:
                self._fetch_images(say)
                self._say_notices(say)
        except (UnknownChoice, DataMissing, BadInput, Unsupported) as error:
            raise pytest.UsageError(str(error)) from error

    def _fetch_annotations(self, say: Callable[[str], object]) -> None:
        if self.options.coco and self.options.coco_site:
            from xai_core.data.download import fetch_annotations

            fetch_annotations(self.options.coco, self.options.coco_site, say)

    def _fetch_images(self, say: Callable[[str], object]) -> None:
        if self.options.coco_site and isinstance(self.data, CocoDataSet):
            from xai_core.data.download import fetch_images

            samples = self.samples.values()
            failed = fetch_images(self.data, samples, self.options.coco_site, say)
            for name, reason in failed.items():
                say(f"{name} is missing, and its items will fail: {reason}")

    def _say_notices(self, say: Callable[[str], object]) -> None:
        if isinstance(self.data, CocoDataSet):
            for sentence in notices(self.data, self.samples.values()):
                say(sentence)

    @cached_property
    def device(self) -> torch.device:
        """The torch device; raises `BadInput` if it is not there."""
        import torch

        try:
            device = torch.device(self.options.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = first_line(error)
            raise BadInput(f"--device {self.options.device!r} can't be used: {reason}") from error
        return device

    @cached_property
    def precision(self) -> Precision:
        """The arithmetic; raises `BadInput` where device or dtype don't have it."""
        import torch

        from xai_core.engine import Precision

        precision, device = Precision(self.options.precision), self.device.type
        if precision is Precision.FULL:
            return precision
        if self.options.dtype != "float32":
            raise BadInput(f"--precision {precision} is for --dtype float32")
        if precision is Precision.TF32 and device != "cuda":
            raise BadInput(f"--precision tf32 is for --device cuda, not {device}")
        if precision is Precision.BF16 and device == "cpu":
            try:
                there = torch.ops.mkldnn._is_mkldnn_bf16_supported()
            except (AttributeError, RuntimeError):
                there = False
            if not there:
                raise BadInput("--precision bf16 needs a processor with bfloat16 arithmetic")
        return precision
