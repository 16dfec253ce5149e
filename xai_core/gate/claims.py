"""Statements about the methods that a project wants to stay true, from a TOML file.

.. code-block:: toml

    [[claim]]
    first = "guided_grad_cam"     # highest mean P of all that are no reference methods
    net = "squeezenet1_0"         # default: every trained net
    size = "224"                  # default: every size

    [[claim]]
    last = "deconvolution"

    [[claim]]
    method = "guided_grad_cam"
    at_least = 0.7                # or at_most, or above = "edges" (another method)
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from xai_core.errors import BadInput
from xai_core.types import ORIGINAL


@dataclass(frozen=True)
class Claim:
    """One statement; see the module."""

    first: str | None = None
    last: str | None = None
    method: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    above: str | None = None
    net: str | None = None
    size: str | None = None

    @property
    def subject(self) -> str:
        """The method that it is about."""
        return self.first or self.last or self.method or ""

    @property
    def names(self) -> list[tuple[str, str]]:
        """(key, name) of each net and method that it names."""
        keys = ("first", "last", "method", "above", "net")
        return [(key, getattr(self, key)) for key in keys if getattr(self, key) is not None]

    def __str__(self) -> str:
        if self.first or self.last:
            return f"{self.subject} is {'first' if self.first else 'last'}"
        if self.above:
            return f"{self.method} is above {self.above}"
        if self.at_least is not None:
            return f"{self.method} is at least {self.at_least:g}"
        return f"{self.method} is at most {self.at_most:g}"


SIZE = rf"{ORIGINAL}|[1-9][0-9]*"
_TEXTS = {"first", "last", "method", "above", "net", "size"}
_FORMS = "first, last, or method with one of at_least, at_most, above"


def load_claims(path: Path) -> list[Claim]:
    """Read a file of claims.

    Raises:
        BadInput: it can't be read, or a claim is not of a known form.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"the claims {path} can't be read: {error}") from error
    entries = content.get("claim", [])
    if content.keys() - {"claim"} or not isinstance(entries, list):
        raise BadInput(f"{path} should hold [[claim]] tables and nothing else")
    return [_claim(entry, f"claim {number} of {path}") for number, entry in enumerate(entries, 1)]


def _claim(entry: object, where: str) -> Claim:
    known = {field.name for field in fields(Claim)}
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is no table")
    for name, value in entry.items():
        if name not in known:
            raise BadInput(
                f"{where} has an unknown key {name!r}; known: {', '.join(sorted(known))}"
            )
        right = isinstance(value, str) if name in _TEXTS else _is_share(value)
        if not right:
            raise BadInput(
                f"{where}: {name} must be {'a text' if name in _TEXTS else 'a number from 0 to 1'}"
            )
    given = [name for name in ("first", "last", "method") if name in entry]
    limits = [name for name in ("at_least", "at_most", "above") if name in entry]
    if "size" in entry and not re.fullmatch(SIZE, entry["size"]):
        raise BadInput(f"{where}: size {entry['size']!r} must be 'original' or a number of pixels")
    if len(given) != 1 or len(limits) != (given == ["method"]):
        raise BadInput(f"{where} must have {_FORMS}")
    return Claim(**entry)


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= float(str(value)) <= 1
