"""Where COCO 2017 lies: its own site, or a mirror."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from xai_core.errors import BadInput, DataMissing

COCO = "http://images.cocodataset.org"
"""COCO's own site."""

ARCHIVE = "annotations/annotations_trainval2017.zip"
SHA256 = "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"
"""Of `ARCHIVE`, 252,907,541 bytes, as pinned by ParlAI, among others."""


LONGEST = 2000
"""Characters of an address."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds without a byte, or in which less than `rate` times so many bytes come.
        attempts: in a row without progress.
        pause: seconds before the second attempt; doubled before each further one.
        rate: bytes a second.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 0.5
    rate: float = 1024.0


@dataclass(frozen=True)
class Site:
    """Where COCO is fetched from.

    Attributes:
        url: without a slash at its end; below it lies what lies below `COCO`.
        sha256: of its `ARCHIVE`; None where it is not known.
        patience: with the server.
    """

    url: str = COCO
    sha256: str | None = SHA256
    patience: Patience = field(default_factory=Patience)

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read ``URL`` or ``URL#sha256=HEX``.

        Raises:
            BadInput: it is none.
        """
        url, _, fragment = text.partition("#")
        url = url.rstrip("/")
        digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc or (fragment and not digest):
            raise BadInput(
                f"{text!r} is no site: give http(s)://HOST[/PATH], with #sha256= and the 64 digits "
                f"of the SHA-256 of its {PurePosixPath(ARCHIVE).name} to have that checked"
            )
        return cls(url, digest[1] if digest else SHA256 if url == COCO else None)

    @property
    def hosts(self) -> frozenset[str]:
        """The one host that is asked."""
        return frozenset({urlsplit(self.url).netloc})

    def find(self, coco_url: object) -> str:
        """Where an image lies, by its entry in the annotations.

        Raises:
            DataMissing: it lies neither on this site nor on COCO's.
        """
        if not isinstance(coco_url, str):
            raise DataMissing("the annotations give no coco_url")
        check_host(coco_url, self.hosts | {urlsplit(COCO).netloc})
        parts = urlsplit(coco_url)
        return coco_url if parts.netloc in self.hosts else f"{self.url}{parts.path}"


def check_host(url: str, hosts: frozenset[str]) -> None:
    """Refuse what is no http(s) address or lies elsewhere; a host is ``name`` or ``name:port``.

    Raises:
        DataMissing: it does.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataMissing(f"{url[:LONGEST]} is no address: {error}") from error
    if len(url) > LONGEST:
        raise DataMissing(f"{url[:LONGEST]}... is longer than {LONGEST} characters")
    if parts.scheme not in ("http", "https") or parts.netloc not in hosts:
        allowed = " or ".join(sorted(hosts))
        raise DataMissing(f"{url} is not fetched: only http(s) from {allowed} is allowed")
