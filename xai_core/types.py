"""The nouns that travel between modules: samples, nets, records, and what a plug-in must offer."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from msgspec import Meta

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    Image = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

ORIGINAL = "original"
"""The size that leaves images as they are stored; every other size is a number of pixels N."""

LARGEST_SIZE = 8192
"""Largest N: more pixels than any photo has."""


def is_size(text: str) -> bool:
    """Whether it is `ORIGINAL`, or a whole number from 1 to `LARGEST_SIZE`."""
    digits = text.isdecimal() and len(text) <= len(str(LARGEST_SIZE))
    return text == ORIGINAL or (digits and 0 < int(text) <= LARGEST_SIZE)


Count = Annotated[int, Meta(ge=1)]
Real = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""A finite number."""
Positive = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
"""A finite number, 0 or more."""
Share = Annotated[float, Meta(ge=0, le=1)]
SampleId = Annotated[str, Meta(pattern=r"^[\w%-][\w.%-]*$")]
Size = Annotated[str, Meta(pattern=rf"^({ORIGINAL}|[1-9][0-9]{{0,4}})$")]
Name = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, order=True)
class Sample:
    """One image and one class in it.

    Attributes:
        image_id: the data set's id of the image.
        category: the data set's name of the class, e.g. ``traffic light``.
        class_indices: the outputs of the net that mean this class (one to many where the net's
            classes are finer).
    """

    image_id: int
    category: str
    class_indices: tuple[int, ...]

    @property
    def id(self) -> str:
        """Stable name, e.g. ``000000000139-traffic_light``: node id, column value, file name.

        A blank is written as ``_``; ``_`` itself, and what may mean something to a file system, as
        ``%5F`` and ``%2F``: no two categories have the same name.
        """

        def escaped(character: re.Match[str]) -> str:
            if character[0] == " ":
                return "_"
            return "".join(f"%{byte:02X}" for byte in character[0].encode(errors="surrogatepass"))

        name = re.sub(r"[^\w.-]|_", escaped, self.category)
        return f"{self.image_id:012d}-{name}"


class DataSet(Protocol):
    """Where samples come from. Four functions, and a name that stands in every record."""

    name: str

    def samples(self) -> Sequence[Sample]:
        """All (image, class) pairs with at least one non-crowd instance, sorted."""

    def image(self, sample: Sample) -> Image:
        """The decoded image, uint8 RGB, (H, W, 3); raises `BadInput` if it can't be used."""

    def mask(self, sample: Sample) -> Mask:
        """The union of the class's instances, bool, (H, W), not dilated; may raise `BadInput`."""

    def fingerprint(self, sample: Sample) -> str:
        """SHA-256 of the image file and the sample's annotations."""


@dataclass(frozen=True)
class Weights:
    """Where a net's parameters came from.

    Attributes:
        label: e.g. ``imagenet:IMAGENET1K_V1``, ``scenes``, ``random:0`` or a file's name.
        sha256: hash of the loaded values, so that the same weights in two files agree.
        random: never trained: whatever they score is the architecture's own level.
    """

    label: str
    sha256: str
    random: bool


@dataclass(frozen=True)
class Net:
    """A classification net, ready to be explained.

    Attributes:
        id: name in options, records and reports.
        module: maps normalised images (B, 3, H, W) to logits (B, classes).
        target_layer: dotted name of the module whose output is the target layer; None without one.
        mean: per-channel mean that normalises images in [0, 1].
        std: per-channel standard deviation, likewise.
        weights: where the parameters came from.
        class_names: names of the outputs, or None where they are not known.
        randomised: the stage of `xai_core.nets.randomise` that its weights went through, if any.
        base: id of the net that it is a randomised copy of; empty for the net itself.
        input_size: N where it takes images of N x N pixels only; None for any size.
        no_target_layer: why it has none, in one sentence; empty where it has one.
    """

    id: str
    module: nn.Module
    target_layer: str | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: Weights
    class_names: tuple[str, ...] | None = None
    randomised: str = ""
    input_size: int | None = None
    no_target_layer: str = ""
    base: str = ""


@dataclass(frozen=True)
class Record:
    """One flat row: the result of one method on one sample at one size with one net.

    The types say which values are possible; `xai_core.records` holds what it reads to them. All
    text is printable: names that are not stand here as `xai_core.files.printable` gives them.

    Attributes:
        net: id of the net.
        method: id of the method.
        size: ``original``, or N for N x N pixels, as a string.
        sample: id of the sample.
        image_id: the data set's id of the image.
        category: the class, by the data set's name.
        class_index: the explained output: the highest logit among the class's outputs.
        logit: its value before softmax.
        probability: its softmax probability.
        rank: its place among all outputs, 1 = the net's first choice.
        height: rows of the map, in pixels.
        width: columns of the map, in pixels.
        channels: channels of the map, 3 or 1.
        map_min: smallest value of the map.
        map_max: largest value of the map.
        metrics: metric id to value; `concentration` (P), `energy` (E), `energy_total` (E_total).
        zero_energy: the map is zero everywhere; P is 0 by definition.
        dead_logit: the logit is exactly 0 (behind a final ReLU): its plain gradient is zero.
        chance: share of the dilated mask in the image = P of a uniform map.
        mask_share: share of the mask before dilation.
        dilation: share of its area by which the mask was dilated.
        target_layer: module whose output is the target layer; empty where the net has none.
        weights: label of the weights.
        weights_sha256: hash of the weights.
        weights_random: whether the weights were never trained.
        data: name of the data set.
        sample_sha256: hash of image file and annotations.
        engine: id of the engine that computed the map.
        device: torch device type.
        dtype: floating type of net and map.
        threads: torch threads.
        batch_size: number of images computed together.
        torch: version of torch.
        seconds: engine time of the batch, all methods together, divided by the batch size.
        reference: whether the method is a reference method, there to be beaten (uniform, edges).
        randomised: stage of the cascading randomisation of the net; empty for the net itself.
        processor: model and instruction set of the CPU, or name of the GPU.
        base: id of the net that this one is a randomised copy of; empty for the net itself.
    """

    net: Name
    method: Name
    size: Size
    sample: SampleId
    image_id: int
    category: str
    class_index: Annotated[int, Meta(ge=0)]
    logit: Real
    probability: Share
    rank: Count
    height: Count
    width: Count
    channels: Count
    map_min: Real
    map_max: Real
    metrics: dict[str, float]
    zero_energy: bool
    dead_logit: bool
    chance: Share
    mask_share: Share
    dilation: Positive
    target_layer: str
    weights: str
    weights_sha256: str
    weights_random: bool
    data: str
    sample_sha256: str
    engine: str
    device: str
    dtype: str
    threads: Count
    batch_size: Count
    torch: str
    seconds: Positive
    reference: bool
    randomised: str = ""
    processor: str = ""
    base: str = ""

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """(net, size, sample, method): what identifies a record within a run."""
        return self.net, self.size, self.sample, self.method

    def row(self) -> dict[str, Any]:
        """The record as one flat dict, metrics as columns of their own."""
        row: dict[str, Any] = dict(vars(self))  # asdict would copy each value
        metrics = row.pop("metrics")
        return {**row, **metrics}


WhyNot: TypeAlias = Literal["unsupported", "unrecognised", "failed"]


@dataclass(frozen=True)
class NoRecord:
    """Why a cell has no record.

    Attributes:
        net: id of the net.
        size: ``original`` or N.
        sample: id of the sample.
        method: id of the method.
        kind: ``unsupported`` (the method is not defined for the net), ``unrecognised`` (the class
            is not among the net's top K, and only such samples were asked for) or ``failed``.
        reason: one sentence.
    """

    net: Name
    size: Size
    sample: SampleId
    method: Name
    kind: WhyNot
    reason: str

    @property
    def cell(self) -> tuple[str, str, str, str]:
        """(net, size, sample, method)."""
        return self.net, self.size, self.sample, self.method


Outcome: TypeAlias = Record | NoRecord
