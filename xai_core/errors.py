"""The ways in which a request can't be met, each carrying one sentence for the user."""

from __future__ import annotations

from collections.abc import Iterable

from xai_core.files import printable


class XaiError(Exception):
    """Base of all errors that this project raises on purpose; ``str()`` is one clear sentence.

    Names from files stand in such sentences: what can't be printed is escaped, so that none of them
    breaks the line or writes into a log what nobody said.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(printable(str(sentence)))


class UnknownChoice(XaiError):
    """A name that no registry knows; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(known)}")


class Unsupported(XaiError):
    """The request is well formed, but not defined here: skip it and say why."""


class DataMissing(XaiError):
    """Data or weights that a run needs are absent: nothing can start without them."""


class BadInput(XaiError):
    """An image, annotation, file or option that can't be used, with the reason."""


class UnknownOutput(BadInput):
    """A class index that the net has no output for."""

    def __init__(self, index: int, outputs: int, net: str) -> None:
        super().__init__(f"class index {index} is not among the {outputs} outputs of {net}")


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough for a sentence of ours; else its name."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0])
