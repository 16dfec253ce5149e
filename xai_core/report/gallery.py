"""Figures of maps: one sample seen by all nets and methods, and each method's best and worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from xai_core.files import file_name
from xai_core.report import previews as kept
from xai_core.report import tiles
from xai_core.report.charts import parts
from xai_core.report.charts.chart import STYLE, save
from xai_core.report.charts.sheet import EDGE, FULL_WIDTH, LINE
from xai_core.report.charts.text import BODY, SMALL, TITLE, counted, wrapped
from xai_core.report.mosaic import KEY_HEIGHT, Page, heading
from xai_core.report.palette import QUIET
from xai_core.report.previews import Pictures, Preview
from xai_core.report.summary import Summary, frame

KINDS = ("png", "pdf")
ANCHOR = "guided_grad_cam"
"""The method whose median P chooses the sample of the overview: the study's best."""

LEGEND = "Outline: mask. P: share of energy inside the mask, dilated."

GROUP = 6
"""Methods in one figure."""

GAP = 0.07
"""Between tiles, in inches."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Loader = Callable[[str, str], Pictures | None]


def write(summary: Summary, previews: Path, folder: Path) -> list[Path]:
    """Write the gallery, each figure as PNG and PDF.

    ``sample-SAMPLE`` has one sample, nets as rows and methods as columns (the study's figure 7.8);
    ``sample-SAMPLE-baselines`` the same with the reference methods. ``net-NET`` has the best,
    median and worst sample of each other method. More than six methods go on in ``...-2``. Nothing
    is written where the run kept no previews.

    Args:
        summary: of the run.
        previews: folder of the run's previews.
        folder: of the figures; made if it isn't there.

    Returns:
        The files, in the order above.

    Raises:
        OSError: a file can't be written.
    """

    @lru_cache(maxsize=256)
    def load(net: str, sample: str) -> Pictures | None:
        return kept.load(previews, net, sample)

    table = frame(summary.records)
    size = shown_size(table, load) if len(table) else None
    if size is None:
        return []
    table = table[table["size"] == size]
    paths = []
    with rc_context(STYLE):
        for name, figure in _figures(table, summary, load):
            paths += [save(figure, folder / f"{file_name(name)}.{kind}") for kind in KINDS]
    return paths


def shown_size(table: pd.DataFrame, load: Loader) -> str | None:
    """The size whose maps the previews show; None if there are no previews."""
    for net, sample in table[["net", "sample"]].drop_duplicates().itertuples(index=False):
        pictures = load(net, sample)
        if pictures is not None:
            return pictures.size
    return None


def typical_sample(table: pd.DataFrame, summary: Summary) -> tuple[str, str]:
    """(sample, rule): the one of median P by Guided Grad-CAM, over the trained nets if any.

    Without Guided Grad-CAM the first method decides. Of an even number it is the lower one.
    """
    random, part = parts.by_training(table)[0]
    methods = parts.methods_of(part, summary)
    anchor = ANCHOR if ANCHOR in methods else methods[0]
    mean = part[part["method"] == anchor].groupby("sample")["concentration"].mean()
    ordered = mean.sort_index().sort_values(kind="stable")
    name = summary.titles.get(anchor, anchor)
    nets = f"{'random' if random else 'trained'} net{'s' if part['net'].nunique() > 1 else ''}"
    rule = (
        f"Chosen by rule: of {counted(len(ordered), 'sample')} it has the median P by {name}, mean "
        f"over the {nets}."
    )
    return str(ordered.index[(len(ordered) - 1) // 2]), rule


def extremes(part: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """(what, record) of best, median and worst P; ties by sample; fewer where samples coincide.

    Of an even number the median is the lower one.
    """
    rows = part.sort_values(["concentration", "sample"]).to_dict("records")
    places = {"best": len(rows) - 1, "worst": 0, "median": (len(rows) - 1) // 2}
    used: dict[int, str] = {}
    for what, place in places.items():
        used.setdefault(place, what)
    if len(rows) == 1:
        used = {0: "only sample"}
    found = [(used[place], rows[place]) for place in sorted(used, reverse=True)]
    return [(what, {str(k): v for k, v in row.items()}) for what, row in found]


def scale(preview: Preview) -> str:
    """What full colour stands for: ``±3.2·10⁻⁴``, or ``0 to 1`` for heat."""
    if preview.peak == 0:
        return "all zero"
    number = power_of_ten(preview.scale)
    return f"0 to {number}" if preview.heat else f"±{number}"


def power_of_ten(value: float) -> str:
    """Two significant digits: ``0.32``, ``4.5``, ``3.2·10⁻⁴``."""
    if 0.01 <= value < 100:
        return f"{value:.2g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def _figures(table: pd.DataFrame, summary: Summary, load: Loader) -> Iterator[tuple[str, Figure]]:
    baselines = set(summary.baselines)
    methods = parts.methods_of(table, summary)
    own = [method for method in methods if method not in baselines]
    others = [method for method in methods if method in baselines]
    sample, rule = typical_sample(table, summary)
    for suffix, group in _groups(own):
        yield f"sample-{sample}{suffix}", _overview(table, summary, load, sample, rule, group)
    for suffix, group in _groups(others):
        figure = _overview(table, summary, load, sample, rule, group)
        yield f"sample-{sample}-baselines{suffix}", figure
    for net, _, part in parts.by_net(table):
        present = [method for method in own if method in set(part["method"])]
        for suffix, group in _groups(present):
            yield f"net-{net}{suffix}", _best_and_worst(part, summary, load, net, group)


def _groups(methods: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    return [
        (f"-{at // GROUP + 1}" if at else "", methods[at : at + GROUP])
        for at in range(0, len(methods), GROUP)
    ]


def _overview(
    table: pd.DataFrame,
    summary: Summary,
    load: Loader,
    sample: str,
    rule: str,
    methods: Sequence[str],
) -> Figure:
    """Nets as rows, methods as columns, the image with its mask first."""
    rows = table[table["sample"] == sample]
    nets = [(net, random, part) for net, random, part in parts.by_net(rows)]
    first = rows.iloc[0]
    above, below, top = heading(
        f"One sample, all nets: {first['category']}, image {first['image_id']} of {first['data']}",
        f"{rule} Maps at {parts.sizes(rows)}. {LEGEND}",
    )
    side = (FULL_WIDTH - 2 * EDGE - GROUP * GAP) / (GROUP + 1)
    loaded = {net: load(net, sample) for net, _, _ in nets}
    tall = side * _aspect(list(loaded.values()))
    names = [wrapped(summary.titles.get(m, m), side, BODY, bold=True) for m in methods]
    head = max(len(lines) for lines in names) * BODY * LINE + 0.05
    row_height = BODY * LINE + tall + 2 * SMALL * LINE + 0.13
    page = Page(top + head + len(nets) * row_height + KEY_HEIGHT + 0.06)
    page.text(EDGE, page.text(EDGE, 0.04, above, TITLE, bold=True), below, colour=QUIET)
    columns = [EDGE + i * (side + GAP) for i in range(len(methods) + 1)]
    for x, lines in zip(columns, [["Image"], *names], strict=True):
        lift = head - 0.05 - len(lines) * BODY * LINE
        page.text(x, top + lift, lines, BODY, bold=True)
    y = top + head
    for net, random, part in nets:
        one = part.iloc[0]
        weights = " (random weights)" if random else ""
        page.text(EDGE, y, [f"{net}{weights}, {_choice(one.to_dict())}"], SMALL, QUIET)
        at = y + BODY * LINE + 0.01
        pictures = loaded[net]
        _image(page, columns[0], at, side, tall, pictures)
        for x, method in zip(columns[1:], methods, strict=True):
            preview = pictures.maps.get(method) if pictures else None
            _map(page, x, at, side, tall, pictures, preview)
            own = part[part["method"] == method]
            if len(own) and preview is not None:
                lines = [f"P {own['concentration'].iloc[0]:.3f}", scale(preview)]
                page.text(x, at + tall + 0.02, lines)
        y += row_height
    page.key(y + 0.08)
    return page.figure


def _best_and_worst(
    part: pd.DataFrame, summary: Summary, load: Loader, net: str, methods: Sequence[str]
) -> Figure:
    """Methods as rows; image and map of the best, the median and the worst sample."""
    random = bool(part["weights_random"].iloc[0])
    title = f"Best, median and worst of each method: {net}{' (random weights)' if random else ''}"
    subtitle = (
        f"By P, of {counted(part['sample'].nunique(), 'sample')} in "
        f"{counted(part['image_id'].nunique(), 'image')}, {parts.sizes(part)}. {LEGEND}"
    )
    above, below, top = heading(title, subtitle)
    chosen = {method: extremes(part[part["method"] == method]) for method in methods}
    side = (FULL_WIDTH - 2 * EDGE - 3 * GAP - 2 * 2 * GAP) / 6
    tall = side * _aspect([load(net, r["sample"]) for rows in chosen.values() for _, r in rows])
    row_height = BODY * LINE + tall + 2 * SMALL * LINE + 0.16
    page = Page(top + len(methods) * row_height + KEY_HEIGHT + 0.06)
    page.text(EDGE, page.text(EDGE, 0.04, above, TITLE, bold=True), below, colour=QUIET)
    y = top
    for method, rows in chosen.items():
        page.text(EDGE, y, [summary.titles.get(method, method)], BODY, bold=True)
        for index, (what, record) in enumerate(rows):
            x = EDGE + index * (2 * side + 3 * GAP)
            at = y + BODY * LINE + 0.03
            pictures = load(net, record["sample"])
            preview = pictures.maps.get(method) if pictures else None
            _image(page, x, at, side, tall, pictures)
            _map(page, x + side + GAP, at, side, tall, pictures, preview)
            lines = [f"{what.capitalize()}: P {record['concentration']:.3f}"]
            if preview is not None:
                page.text(x + side + GAP, at + tall + 0.02, [scale(preview)])
            label = _choice(record)
            page.text(x, at + tall + 0.02, lines)
            page.text(
                x, at + tall + 0.02 + SMALL * LINE, wrapped(label, 2 * side + GAP)[:1], colour=QUIET
            )
        y += row_height
    page.key(y + 0.08)
    return page.figure


def _choice(record: dict[Any, Any]) -> str:
    probability = record["probability"]
    number = f"{probability:.2f}" if probability >= 0.005 else "< 0.01"
    return f"{record['category']}: rank {record['rank']}, probability {number}"


def _aspect(loaded: Sequence[Pictures | None]) -> float:
    """Height of a tile by its width that suits all pictures; at most 1."""
    shapes = [pictures.image.shape for pictures in loaded if pictures is not None]
    return max((min(1.0, shape[0] / shape[1]) for shape in shapes), default=1.0)


def _image(
    page: Page, x: float, y: float, side: float, tall: float, pictures: Pictures | None
) -> None:
    if pictures is None:
        page.empty(x, y, side, tall)
        return
    page.picture(x, y, side, tall, tiles.outlined(pictures.image, pictures.mask))


def _map(
    page: Page,
    x: float,
    y: float,
    side: float,
    tall: float,
    pictures: Pictures | None,
    preview: Preview | None,
) -> None:
    if pictures is None or preview is None:
        page.empty(x, y, side, tall)
        return
    shown = tiles.outlined(tiles.colour(preview, pictures.image), pictures.mask)
    page.picture(x, y, side, tall, shown)
    if preview.peak == 0:
        page.words(x, y, side, tall, "all zero")
