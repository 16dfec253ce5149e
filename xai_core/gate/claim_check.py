"""Whether claims hold for a run, and whether they speak of nets and methods that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from xai_core.errors import BadInput
from xai_core.gate.baseline import Baseline
from xai_core.gate.claims import Claim
from xai_core.gate.finding import LISTED, Finding, Row
from xai_core.gate.sides import EXACT


def unknown_names(
    claims: Iterable[Claim], nets: Collection[str], methods: Collection[str]
) -> list[BadInput]:
    """One error for each name in a claim that is that of no net or method among these."""
    found = []
    for number, claim in enumerate(claims, 1):
        for key, name in claim.names:
            kind, known = ("net", nets) if key == "net" else ("method", methods)
            if name not in known:
                found.append(
                    BadInput(
                        f"claim {number}, {claim}: no {kind} {name!r} is in the run or in a "
                        f"baseline; there are {', '.join(sorted(known)) or 'none'}"
                    )
                )
    return found


def check_claim(claim: Claim, run: Baseline, accept_new: bool) -> Finding:
    """Whether it holds in every trained net and size that it is about.

    Where the run has nothing to judge it by, that is a failure unless records may be missing.
    """
    broken: list[Row] = []
    judged = 0
    for (net, size), means in sorted(_means(claim, run).items()):
        held = _against(claim, means, _reference(run))
        if held is None:
            continue
        judged += 1
        holds, other = held
        if not holds:
            broken.append([net, size, claim.subject, means[claim.subject], other])
    what = f"claim: {claim}"
    if not judged:
        sentence = "Not judged: this run has no records for it."
        sentence += "" if accept_new else " --accept-new accepts that."
        return Finding(what, not accept_new, sentence, judged=False)
    sentence = f"Holds in {judged - len(broken)} of {judged} (net, size)."
    header = ("Net", "Size", "Method", "Mean P", "Against") if broken else ()
    return Finding(what, bool(broken), sentence, header, broken[:LISTED])


def _means(claim: Claim, run: Baseline) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Mean P by method, for each trained net and size that the claim is about."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for e in run.values():
        if not e.weights_random and claim.net in (None, e.net) and claim.size in (None, e.size):
            values.setdefault((e.net, e.size), {}).setdefault(e.method, []).append(e.p)
    return {
        place: {method: sum(p) / len(p) for method, p in by_method.items()}
        for place, by_method in values.items()
    }


def _reference(run: Baseline) -> set[str]:
    return {entry.method for entry in run.values() if entry.reference}


def _against(
    claim: Claim, means: Mapping[str, float], reference: Collection[str]
) -> tuple[bool, str] | None:
    """Whether it holds, and what it was held against; None where there is nothing to judge.

    A lead within rounding is none.
    """
    if claim.subject not in means:
        return None
    mean = means[claim.subject]
    if claim.first or claim.last:
        rivals = {m: p for m, p in means.items() if m not in reference and m != claim.subject}
        if not rivals:
            return None
        pick = max if claim.first else min
        rival = pick(rivals, key=lambda m: rivals[m])
        sign = 1 if claim.first else -1
        return sign * (mean - rivals[rival]) > EXACT, f"{rival} {rivals[rival]:.3f}"
    if claim.above:
        if claim.above not in means:
            return None
        return mean - means[claim.above] > EXACT, f"{claim.above} {means[claim.above]:.3f}"
    if claim.at_least is not None:
        return mean >= claim.at_least, f"at least {claim.at_least:g}"
    return mean <= (claim.at_most or 0.0), f"at most {claim.at_most:g}"
