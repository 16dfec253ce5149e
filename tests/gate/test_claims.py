"""Claims: read, held against a run, and refused where they name what there isn't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.gate.made_up import failures, judged, moved
from xai_core.errors import BadInput
from xai_core.gate import Claim, load_claims, unknown_names


@pytest.mark.parametrize(
    ("claim", "fails"),
    [
        (Claim(first="guided_grad_cam"), False),
        (Claim(first="cam"), True),
        (Claim(last="deconvolution"), False),
        (Claim(last="cam"), True),
        (Claim(method="cam", at_least=0.4), False),
        (Claim(method="cam", at_least=0.9), True),
        (Claim(method="cam", at_most=0.6), False),
        (Claim(method="cam", at_most=0.4), True),
        (Claim(method="guided_grad_cam", above="edges"), False),
        (Claim(method="cam", above="edges"), True),
    ],
    ids=str,
)
def test_claims(records, claim, fails):
    found = judged(records, records, claims=[claim])
    assert found.failed == fails
    assert found.findings[-1].mark == ("FAILED" if fails else "ok")


@pytest.mark.parametrize(
    "claim",
    [
        Claim(first="cam", net="vgg19"),
        Claim(method="cam", at_least=0.1, net="alexnet"),  # never trained
        Claim(last="cam", size="original"),
        Claim(method="grad_cam", at_least=0.1),
        Claim(method="cam", above="noise"),
    ],
    ids=lambda claim: f"{claim} {claim.net} {claim.size}",
)
def test_a_claim_that_can_t_be_judged_is_not_ok(records, claim):
    found = judged(records, records, claims=[claim])
    assert failures(found) == [f"claim: {claim}"]
    assert "Not judged: this run has no records for it." in found.findings[-1].sentence
    accepted = judged(records, records, claims=[claim], accept_new=True)
    assert not accepted.failed
    assert accepted.findings[-1].mark == "not judged"


def test_a_method_without_rivals_is_neither_first_nor_last(records):
    alone = [r for r in records if r.method in {"cam", "edges"}]
    for claim in (Claim(first="cam"), Claim(last="cam")):
        finding = judged(alone, alone, claims=[claim], accept_new=True).findings[-1]
        assert finding.mark == "not judged"


def test_a_claim_is_not_won_by_rounding(make_record):
    """Grad-CAM and CAM of a net with global average pooling differ by rounding alone."""
    for by in (-1e-9, 1e-9):
        both = [make_record(0.5), make_record(0.5 + by, method="cam")]
        for claim in (Claim(first="cam"), Claim(last="cam"), Claim(method="cam", above="grad_cam")):
            assert judged(both, both, claims=[claim]).failed


def test_reference_methods_are_those_that_the_run_says(records):
    """Not those that a summary lists: the records alone decide."""
    claim = Claim(first="guided_grad_cam")
    better = moved(records, 0.3, method="edges", other=False)
    assert not judged(better, better, claims=[claim]).failed
    none = [replace(r, reference=False) for r in better]
    assert judged(none, none, claims=[claim]).failed


def test_names_that_nobody_knows_are_errors():
    claims = [
        Claim(first="cam", net="alexnet"),
        Claim(first="guided_gradcam"),
        Claim(method="cam", above="edge", net="alexnett"),
    ]
    found = [str(e) for e in unknown_names(claims, ["alexnet"], ["cam", "edges"])]
    assert found == [
        "claim 2, guided_gradcam is first: no method 'guided_gradcam' is in the run or in a "
        "baseline; there are cam, edges",
        "claim 3, cam is above edge: no method 'edge' is in the run or in a baseline; there are "
        "cam, edges",
        "claim 3, cam is above edge: no net 'alexnett' is in the run or in a baseline; there are "
        "alexnet",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[claim]]\nfirst = 1", "first must be a text"),
        ("[[claim]]\nbest = 'cam'", "unknown key 'best'; known: above, at_least"),
        ("[[claim]]\nfirst = 'cam'\nlast = 'cam'", "must have first, last, or method"),
        ("[[claim]]\nmethod = 'cam'", "must have first, last, or method"),
        ("[[claim]]\nfirst = 'cam'\nat_least = 0.1", "must have first, last, or method"),
        ("[[claim]]\nfirst = 'cam'\nsize = '224px'", "size '224px' must be 'original' or a number"),
        ("[[claim]]\nmethod = 'cam'\nat_least = nan", "at_least must be a number from 0 to 1"),
        ("[[claim]]\nmethod = 'cam'\nat_least = 70", "at_least must be a number from 0 to 1"),
        ("[[claim]]\nmethod = 'cam'\nat_least = true", "at_least must be a number from 0 to 1"),
        ("claim = 3", "nothing else"),
        ("[other]", "nothing else"),
        ("[[claim", "can't be read"),
    ],
)
def test_claims_that_can_t_be_read(tmp_path, text, sentence):
    path = tmp_path / "thresholds.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        load_claims(path)


def test_the_documented_claims_can_be_read(tmp_path):
    from xai_core.gate import claims

    text = claims.__doc__.partition(".. code-block:: toml\n\n")[2]
    path = tmp_path / "thresholds.toml"
    path.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    assert [str(claim) for claim in load_claims(path)] == [
        "guided_grad_cam is first",
        "deconvolution is last",
        "guided_grad_cam is at least 0.7",
    ]
