"""The report as markdown, in the style of the study's Table 7.1."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from xai_core.report import sanity
from xai_core.report.recognition import nothing_recognised, sentences
from xai_core.report.statistics import few_images, intervals, sections
from xai_core.report.summary import Gap, Summary, by_method, frame
from xai_core.report.table import escape, interval, markdown_table, number

RANDOM_NOTE = (
    "**Randomly initialised, never trained.** Their P is the architecture's own level, not a "
    "finding about the methods on a trained net."
)
MANY = 20
"""Unexplained tests that are listed by name."""

LEGEND = (
    "P is the share of a map's energy inside the dilated mask; its interval comes from a bootstrap "
    "over images. In italics: reference methods, to be beaten. *Chance* is the P of a uniform "
    "map (the dilated mask's share of the image), *gain* is mean P / chance: below 1 the method "
    "points away from the object; *below chance* is the share of records in which it does. A map "
    "of zeros counts as P = 0; *mean P, no zeros* leaves such maps out. A *dead logit* is exactly "
    "0 behind a final ReLU, so that its gradient is zero."
)


def render(summary: Summary) -> str:
    """The whole report."""
    return head(summary) + "\n" + body(summary)


def head(summary: Summary) -> str:
    """Title, warnings and the main table."""
    parts = [f"# Concentration of attribution energy: {summary.name}", *_banner(summary)]
    parts += _recognition(summary)
    if summary.records:
        parts += _headline(summary)
    return "\n\n".join(parts) + "\n"


def body(summary: Summary) -> str:
    """All that follows the main table."""
    parts: list[str] = []
    if summary.records:
        table = frame(summary.records)
        parts += [
            *sections(summary),
            *sanity.sections(summary),
            *_per_net(table, summary),
            *_nets(table),
        ]
        parts += [*_timings(table, summary), *_details(table, summary)]
    parts += _gaps("Skipped", summary.skipped)
    parts += _gaps("Failed", [*summary.failed, *summary.broken])
    if summary.unexplained:
        parts += ["## Unexplained", "Planned, but nothing is known of them:"]
        parts += [_bullets(f"`{test}`" for test in summary.unexplained[:MANY])]
        if len(summary.unexplained) > MANY:
            parts += [f"... and {len(summary.unexplained) - MANY} more."]
    parts += ["## Provenance", _bullets(f"**{k}**: {v}" for k, v in summary.provenance.items())]
    return "\n\n".join(parts) + "\n"


def headline_rows(summary: Summary) -> list[tuple[str, list[str], list[list[str]]]]:
    """(caption, header, rows) of the main table: trained and random nets are never mixed."""
    table = frame(summary.records)
    return [
        (_caption(part, random), METHOD_HEADER, _method_rows(by_method(part), part, summary))
        for random, part in table.groupby("weights_random", sort=True)
    ]


METHOD_HEADER = [
    "Method",
    "Records",
    "Sum of P",
    "Mean P",
    "95 % interval",
    "Median P",
    "Chance",
    "Gain",
    "Below chance",
    "Zero maps",
    "Dead logits",
    "Mean P, no zeros",
]


def _banner(summary: Summary) -> list[str]:
    lines = []
    if summary.partial:
        reason = f" ({summary.interrupted})" if summary.interrupted else ""
        lines.append(
            f"> **PARTIAL**{reason}: {summary.computed} records of {summary.planned} planned, "
            f"{_cells(summary.skipped)} skipped, {_cells(summary.failed)} failed, "
            f"{len(summary.unexplained)} unexplained. The tables below hold what was computed."
        )
    if summary.broken:
        lines.append(f"> **FAILED**: {len(summary.broken)} other tests; see Failed below.")
    if any(record.weights_random for record in summary.records):
        nets = sorted({record.net for record in summary.records if record.weights_random})
        lines.append(f"> **Random weights**: {', '.join(nets)} were never trained here.")
    return lines


def _recognition(summary: Summary) -> list[str]:
    found = summary.recognition
    if not found:
        return []
    heading = "## Recognised samples"
    parts = [heading, f"All others are skipped (`--recognised {found[0].top}`)."]
    nothing = nothing_recognised(found)
    return [*parts, _bullets(sentences(found)), *([f"**{nothing}**"] if nothing else [])]


def _headline(summary: Summary) -> list[str]:
    parts = ["## Concentration by method"]
    for caption, header, rows in headline_rows(summary):
        parts += [caption, markdown_table(header, rows, numbers_from=1)]
    return [*parts, LEGEND]


def _caption(part: pd.DataFrame, random: object) -> str:
    nets = ", ".join(sorted(part["net"].unique()))
    sizes = ", ".join(sorted(part["size"].unique()))
    images = part["image_id"].nunique()
    facts = (
        f"Nets: {nets}. Sizes: {sizes}. {part['sample'].nunique()} samples "
        f"in {images} images of {part['data'].iloc[0]}."
    )
    warning = few_images(images)
    facts += f" **{warning}**" if warning else ""
    return f"{RANDOM_NOTE} {facts}" if random else f"**Trained nets.** {facts}"


def _method_rows(figures: pd.DataFrame, part: pd.DataFrame, summary: Summary) -> list[list[str]]:
    """Methods first, then the reference methods, in italics."""
    together = figures.merge(intervals(part)[["method", "low", "high"]], on="method")
    rows = sorted(together.to_dict("records"), key=lambda row: row["method"] in summary.baselines)
    return [[_named(row["method"], summary), *_figures(row)] for row in rows]


def _named(method: str, summary: Summary) -> str:
    title = summary.titles.get(method, method)
    return f"*{title}*" if method in summary.baselines else title


def _figures(row: Mapping[Hashable, Any]) -> list[str]:
    return [
        str(row["records"]),
        number(row["sum_p"], 2),
        number(row["mean_p"]),
        interval(row["low"], row["high"]),
        number(row["median_p"]),
        number(row["chance"]),
        number(row["gain"], 2),
        f"{row['below_chance']:.0%}",
        str(row["zero_energy"]),
        str(row["dead_logit"]),
        number(row["mean_alive"]),
    ]


def _per_net(table: pd.DataFrame, summary: Summary) -> list[str]:
    parts = ["## Mean P per net"]
    for size, part in table.groupby("size", sort=True):
        figures = by_method(part, ("method", "net"))
        means = figures.pivot(index="method", columns="net", values="mean_p")
        nets = list(means.columns)
        random = set(part.loc[part["weights_random"].astype(bool), "net"])
        ordered = sorted(means.index, key=lambda method: method in summary.baselines)
        rows = [
            [_named(method, summary), *(number(means.loc[method, n]) for n in nets)]
            for method in ordered
        ]
        chance = part.groupby("net")["chance"].mean()
        rows.append(["*Chance*", *(number(chance[net]) for net in nets)])
        header = [f"{net} (random weights)" if net in random else net for net in nets]
        parts += [f"### Size {size}", markdown_table(["Method", *header], rows, numbers_from=1)]
    return parts


def _nets(table: pd.DataFrame) -> list[str]:
    columns = ["net", "target_layer", "weights", "weights_sha256", "weights_random"]
    rows = [
        [net, f"`{layer}`" if layer else "none", label, sha[:12], "**no**" if random else "yes"]
        for net, layer, label, sha, random in table[columns].drop_duplicates().to_numpy().tolist()
    ]
    header = ["Net", "Target layer", "Weights", "SHA-256", "Trained"]
    return ["## Nets", markdown_table(header, sorted(rows))]


def _timings(table: pd.DataFrame, summary: Summary) -> list[str]:
    once = table.drop_duplicates(["net", "size", "sample"])
    together = once.groupby(["net", "size"])["seconds"].median()
    alone = {(t.net, t.size, t.method): t for t in summary.timings}
    methods = sorted({t.method for t in summary.timings})
    rows = []
    for net, size in sorted({*together.index, *((t.net, t.size) for t in summary.timings)}):
        cells = [alone.get((net, size, method)) for method in methods]
        shared = together.get((net, size))
        rows.append([net, size, _ms(shared), *(_ms(t.median if t else None) for t in cells)])
    header = ["Net", "Size", "All methods", *(summary.titles.get(m, m) for m in methods)]
    device = ", ".join(sorted(table["device"].unique()))
    threads = ", ".join(str(n) for n in sorted(table["threads"].unique()))
    engine = ", ".join(sorted(table["engine"].unique()))
    note = (
        f"Milliseconds per image, engine `{engine}` on {device}, {threads} threads. *All methods*: "
        "median over the samples of computing all requested methods together. "
    )
    if summary.timings:
        rounds = summary.timings[0].rounds
        note += f"Single methods: median of {rounds} rounds on one image (pytest-benchmark)."
    else:
        note += f"Single methods were not timed: {summary.no_timings}."
    return ["## Time", note, markdown_table(header, rows, numbers_from=2)]


def _details(table: pd.DataFrame, summary: Summary) -> list[str]:
    keys = ["net", "size", "weights_random", "method"]
    figures = by_method(table, keys).merge(intervals(table, keys)[[*keys, "low", "high"]], on=keys)
    rows = [
        [
            row["net"] + (" (random weights)" if row["weights_random"] else ""),
            row["size"],
            _named(row["method"], summary),
            *_figures(row),
        ]
        for row in figures.to_dict("records")
    ]
    header = ["Net", "Size", *METHOD_HEADER]
    return ["## Every net, size and method", markdown_table(header, rows, numbers_from=3)]


def _gaps(heading: str, gaps: Sequence[Gap]) -> list[str]:
    if not gaps:
        return []
    rows = [[gap.what, str(gap.cells), gap.reason] for gap in gaps]
    return [f"## {heading}", markdown_table(["What", "Records", "Reason"], rows)]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _cells(gaps: Sequence[Gap]) -> int:
    return sum(gap.cells for gap in gaps)


def _ms(seconds: object) -> str:
    return "-" if seconds is None else f"{1000 * float(seconds):.1f}"  # type: ignore[arg-type]
