"""Whether explanations still point at the object: a run against a baseline.

`judge` decides in this order. Are the two comparable: the same cells, images, masks and explained
outputs? Did everything that decides P stay the same: then P must, to `EXACT`. Otherwise the rules
compare, paired by cell and tested over images. Last come claims, which hold for the run alone.
"""

from xai_core.gate.baseline import Baseline, baseline_of
from xai_core.gate.claim_check import unknown_names
from xai_core.gate.claims import Claim, load_claims
from xai_core.gate.files import from_files, to_files
from xai_core.gate.finding import Finding, Verdict
from xai_core.gate.judge import judge
from xai_core.gate.rules import RECOMMENDED, Rule, parse_rule, parse_rules
from xai_core.gate.sides import EXACT

__all__ = [
    "EXACT",
    "RECOMMENDED",
    "Baseline",
    "Claim",
    "Finding",
    "Rule",
    "Verdict",
    "baseline_of",
    "from_files",
    "judge",
    "load_claims",
    "parse_rule",
    "parse_rules",
    "to_files",
    "unknown_names",
]
