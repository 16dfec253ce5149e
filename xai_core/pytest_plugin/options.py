"""The command line: what is offered, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_path

from xai_core.data.select import STUDY_CLASSES
from xai_core.data.site import COCO, Site
from xai_core.errors import BadInput
from xai_core.types import LARGEST_SIZE, ORIGINAL, is_size

DOWNLOAD = "download"
CACHE = "xai-concentration"
SIZES = ("224", ORIGINAL)
DTYPES = ("float32", "float64")
PRECISIONS = ("full", "tf32", "bf16")
REPORTS = ("full", "tables")


_DEFAULTS: dict[str, Any] = {
    "net": [],
    "method": [],
    "metric": [],
    "size": [],
    "coco": None,
    "coco_site": COCO,
    "data_dir": None,
    "data": None,
    "class_map": None,
    "weights": [],
    "classes": [],
    "per_class": "30",
    "seed": "0",
    "image_ids": [],
    "min_area": "0.01",
    "max_area": "0.70",
    "recognised": None,
    "dilation": "0.2",
    "device": "cpu",
    "dtype": "float32",
    "precision": "full",
    "batch_size": "1",
    "threads": None,
    "rounds": "3",
    "save_maps": False,
    "randomise": False,
    "report": "full",
    "report_dir": None,
    "resume": None,
}
_HELP = {
    "net": ("NET", "nets to explain (the study's four)"),
    "method": ("METHOD", "attribution methods (all that this package has)"),
    "metric": ("METRIC", "metrics beside the concentration, of packages that add some (none)"),
    "size": ("SIZE", "original, or N for NxN pixels (224,original)"),
    "coco": (
        "PATH",
        "a COCO folder or annotation file, or download[:DIR]: COCO 2017's annotations and only the "
        "images that are needed (the bundled scenes)",
    ),
    "coco_site": ("URL", f"where --coco download asks; add #sha256=... for a mirror ({COCO})"),
    "data_dir": ("DIR", "for downloads and selections (the user's cache folder)"),
    "data": (
        "NAME",
        "voc:PATH, another data set by name, or package.module:DATASET (the bundled scenes)",
    ),
    "class_map": (
        "FILE",
        "JSON of category names and class indices of the nets, for --coco and --data (COCO's "
        "categories to ImageNet's classes)",
    ),
    "weights": (
        "NET=WHERE",
        "imagenet, imagenet:V2, scenes, random, random:SEED or a state_dict file (.pth, "
        ".safetensors) (on the scenes: scenes where they ship, else random:0; with --coco: "
        "imagenet)",
    ),
    "classes": ("CLASS", f"categories, or all ({', '.join(STUDY_CLASSES)})"),
    "per_class": ("N", "samples per class (30)"),
    "seed": ("N", "of the choice of samples (0)"),
    "image_ids": ("ID", "only these images of the data set (all)"),
    "min_area": ("SHARE", "least share of the image that a mask may have (0.01)"),
    "max_area": ("SHARE", "largest share of the image that a mask may have (0.70)"),
    "recognised": ("K", "only samples whose class is among the net's top K (all)"),
    "dilation": ("SHARE", "share of its area by which a mask grows (0.2)"),
    "device": ("DEVICE", "torch device, e.g. cuda (cpu)"),
    "dtype": ("DTYPE", "float32 or float64 (float32)"),
    "precision": (
        "PRECISION",
        "full, tf32 (GPUs round convolutions), or bf16 (gradients in bfloat16) (full)",
    ),
    "batch_size": ("N", "images computed together (1)"),
    "threads": ("N", "torch threads (torch's own number; with -n, cores / workers)"),
    "rounds": ("N", "timed rounds of each benchmark (3)"),
    "save_maps": (None, "write each map as PNG and NPY, CAM-like maps as overlay too"),
    "randomise": (None, "explain copies of each trained net, too, that forget what it learnt"),
    "report": ("WHAT", "full, or tables: without charts, gallery and page (full)"),
    "report_dir": ("DIR", "folder of all runs (reports)"),
    "resume": ("RUN", "complete the run in this folder"),
}


def add_options(parser: pytest.Parser) -> None:
    """Every option of the suite. Lists may be given by commas, by repetition, or both."""
    group = parser.getgroup("xai-concentration", "attribution benchmark")
    for name, default in _DEFAULTS.items():
        metavar, help_text = _HELP[name]
        option = "--" + name.replace("_", "-")
        if default is False:
            group.addoption(option, action="store_true", help=help_text)
        elif default == []:
            group.addoption(option, action="append", default=[], metavar=metavar, help=help_text)
        else:
            group.addoption(option, default=default, metavar=metavar, help=help_text)


@dataclass(frozen=True)
class Options:
    """The command line, parsed and checked for form; names are not looked up yet.

    Attributes:
        nets: ids or module paths; empty for the default.
        methods: ids; empty for the default.
        metrics: ids of those beside the default.
        sizes: ``original`` or N.
        coco: folder or annotation file; None without.
        coco_site: where COCO is downloaded from on this explicit wish; None without.
        data_dir: folder of downloads and selections.
        data: name or module path of a data set; None for the scenes or ``coco``.
        class_map: file of category names and class indices; None for COCO's to ImageNet's.
        weights: ``NET=WHERE`` pairs.
        classes: categories, ``all`` for all of the data; empty for the default.
        per_class: samples per class.
        seed: of the choice of samples.
        image_ids: pinned images; empty for all.
        min_area: smallest share of the image that a mask may have.
        max_area: largest share.
        recognised: largest rank that a sample's class may have on a net; None for any.
        dilation: growth of the mask's area.
        device: torch device.
        dtype: floating type of nets and maps.
        precision: of the arithmetic; see `xai_core.engine.Precision`.
        batch_size: images computed together.
        threads: torch threads; None for the default.
        rounds: timed rounds per benchmark.
        save_maps: whether to write each map.
        randomise: whether to explain copies with cascading randomised weights, too.
        report: how much of the report to make; one of `REPORTS`.
        report_dir: folder of all runs.
        resume: folder of the run to complete; None for a new one.
        given: whether any of these was on the command line.
    """

    nets: tuple[str, ...]
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    sizes: tuple[str, ...]
    coco: Path | None
    coco_site: Site | None
    data_dir: Path
    data: str | None
    class_map: Path | None
    weights: tuple[str, ...]
    classes: tuple[str, ...]
    per_class: int
    seed: int
    image_ids: tuple[int, ...]
    min_area: float
    max_area: float
    recognised: int | None
    dilation: float
    device: str
    dtype: str
    precision: str
    batch_size: int
    threads: int | None
    rounds: int
    save_maps: bool
    randomise: bool
    report: str
    report_dir: Path
    resume: Path | None
    given: bool

    @classmethod
    def of(cls, config: pytest.Config) -> Options:
        """Read the options of a session; `pytest.UsageError` names the first that is wrong."""
        get = config.getoption
        here = config.invocation_params.dir
        if get("coco") and get("data"):
            raise pytest.UsageError("give --coco or --data, not both")
        paths = {n: get(n) for n in ("class_map", "data_dir", "report_dir", "resume")}
        data_dir = here / paths["data_dir"] if paths["data_dir"] else user_cache_path(CACHE)
        coco, site = _coco(get("coco"), get("coco_site"), here, data_dir)
        reports = config.rootpath / "reports"
        threads, recognised = get("threads"), get("recognised")
        return cls(
            nets=_list(get("net")),
            methods=_list(get("method")),
            metrics=_list(get("metric")),
            sizes=tuple(_size(size) for size in _list(get("size")) or SIZES),
            weights=_list(get("weights")),
            classes=_list(get("classes")),
            per_class=_whole("--per-class", get("per_class"), 1),
            seed=_whole("--seed", get("seed"), 0),
            data=get("data"),
            image_ids=tuple(_whole("--image-ids", i, 0) for i in _list(get("image_ids"))),
            min_area=_number("--min-area", get("min_area"), 1.0),
            max_area=_number("--max-area", get("max_area"), 1.0),
            recognised=None if recognised is None else _whole("--recognised", recognised, 1),
            dilation=_number("--dilation", get("dilation"), 100.0),
            device=get("device"),
            dtype=_one_of("--dtype", get("dtype"), DTYPES),
            precision=_one_of("--precision", get("precision"), PRECISIONS),
            batch_size=_whole("--batch-size", get("batch_size"), 1),
            threads=None if threads is None else _whole("--threads", threads, 1),
            rounds=_whole("--rounds", get("rounds"), 1),
            save_maps=get("save_maps"),
            randomise=get("randomise"),
            report=_one_of("--report", get("report"), REPORTS),
            coco=coco,
            coco_site=site,
            data_dir=data_dir,
            class_map=here / paths["class_map"] if paths["class_map"] else None,
            report_dir=here / paths["report_dir"] if paths["report_dir"] else reports,
            resume=here / paths["resume"] if paths["resume"] else None,
            given=any(get(name) != default for name, default in _DEFAULTS.items()),
        )


def _coco(
    text: str | None, site: str, here: Path, data_dir: Path
) -> tuple[Path | None, Site | None]:
    """Folder or file, and where it is downloaded from if that is wished."""
    wish, _, folder = (text or "").partition(":")
    if wish == DOWNLOAD:
        try:
            return here / folder if folder else data_dir / "coco", Site.parse(site)
        except BadInput as error:
            raise pytest.UsageError(f"--coco-site {error}") from error
    if site != COCO:
        raise pytest.UsageError("--coco-site is for --coco download")
    return here / text if text else None, None


def _list(values: Iterable[str]) -> tuple[str, ...]:
    """Commas and repetition; order kept, repeats dropped."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _size(text: str) -> str:
    if is_size(text):
        return text if text == ORIGINAL else str(int(text))
    raise pytest.UsageError(
        f"unknown size {text!r}; known: {ORIGINAL}, or a number of pixels such as 224, "
        f"at most {LARGEST_SIZE}"
    )


def _whole(option: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise pytest.UsageError(f"{option} {text!r} must be a whole number, {least} or more")
    return int(text)


def _number(option: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise pytest.UsageError(f"{option} {text!r} must be a number from 0 to {most:g}")
    return value


def _one_of(option: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise pytest.UsageError(f"unknown {option} {text!r}; known: {', '.join(known)}")
    return text
