"""One file by HTTP: in spite of stalls, resets and busy servers, and from allowed hosts alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from xai_core.data.site import Patience, check_host
from xai_core.errors import DataMissing, first_line

BLOCK = 1 << 16  # bytes
PROGRESS = 1 << 20
"""Bytes that make an attempt worth another: a server that sends drops doesn't hold us for ever."""
REDIRECTS = 5
STRONG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
"""An ETag; a weak one does not promise the same bytes."""


class _Again(Exception):
    """An answer that may be another one later."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str,
    file: Path,
    *,
    hosts: frozenset[str],
    patience: Patience,
    most: int,
    advance: Callable[[int], object] = lambda size: None,
) -> None:
    """Download to ``file``, and go on where it ends if it is there.

    What the server calls the version that it sends (its ETag) lies beside it until all is there:
    ends of another version are not appended.

    Args:
        url: http or https.
        file: where to; what has come stays there when an error is raised.
        hosts: that may be asked, also by redirection.
        patience: with the server.
        most: bytes, at most.
        advance: is told the number of bytes that have come (negative: they were thrown away; 0: an
            attempt begins); it may raise to end the download.

    Raises:
        DataMissing: it can't be had.
        OSError: it can't be written.
    """
    left = patience.attempts
    while True:
        before = size_of(file)
        try:
            advance(0)
            _go_on(url, file, hosts, patience, most, advance)
            _version(file).unlink(missing_ok=True)
            return
        except (requests.exceptions.InvalidURL, UnicodeError) as error:
            raise DataMissing(f"{url} can't be downloaded: {first_line(error)}") from error
        except (requests.RequestException, HTTPError, _Again) as error:
            left = patience.attempts if size_of(file) >= before + PROGRESS else left - 1
            if left <= 0:
                raise DataMissing(f"{url} can't be downloaded: {_reason(error)}") from error
            wait = error.wait if isinstance(error, _Again) else 0.0
            time.sleep(max(wait, patience.pause * 2 ** (patience.attempts - left - 1)))


def _go_on(
    url: str,
    file: Path,
    hosts: frozenset[str],
    patience: Patience,
    most: int,
    advance: Callable[[int], object],
) -> None:
    size, version = size_of(file), _version(file)
    headers = {"Accept-Encoding": "identity"}
    if size and (tag := _tag(version)):
        headers |= {"Range": f"bytes={size}-", "If-Range": tag}
    with _get(url, headers, hosts, patience.timeout) as answer:
        if answer.status_code == 416:  # nothing after what is there
            if answer.headers.get("Content-Range") == f"bytes */{size}":
                return
            version.unlink(missing_ok=True)  # begin anew
            raise _Again("the file has become another one")
        goes_on = answer.status_code == 206
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            version.unlink(missing_ok=True)  # begin anew
            raise _Again("the server sent another part than was asked for")
        if not goes_on:
            advance(-size)
            size = 0
            file.unlink(missing_ok=True)
            version.unlink(missing_ok=True)
            tag = answer.headers.get("ETag", "")
            if STRONG.fullmatch(tag):
                version.write_text(tag, "utf-8")
        with file.open("ab") as out:
            for block in _blocks(answer, patience):
                size += len(block)
                if size > most:
                    raise DataMissing(f"{url} sends more than {most:,} bytes; it was given up")
                out.write(block)
                advance(len(block))


def _blocks(answer: requests.Response, patience: Patience) -> Iterator[bytes]:
    """What comes, as it comes: a full block of a slow server may take hours."""
    begun, came = time.monotonic(), 0
    while block := answer.raw.read1(BLOCK, decode_content=False):
        yield block
        came += len(block)
        if (passed := time.monotonic() - begun) >= patience.timeout:
            if came < patience.rate * passed:
                raise _Again(f"the server sends less than {patience.rate:,.0f} bytes a second")
            begun, came = time.monotonic(), 0


def _get(
    url: str, headers: dict[str, str], hosts: frozenset[str], timeout: float
) -> requests.Response:
    target = url
    for _ in range(REDIRECTS):
        check_host(target, hosts)
        try:
            answer = _ask(target, headers, timeout)
            if answer.is_redirect:
                answer.close()
                target = urljoin(target, answer.headers["Location"])
                continue
        except requests.RequestException:
            raise
        except ValueError as error:  # requests looks at the Location as well
            raise DataMissing(
                f"{url} can't be downloaded: it is redirected to no address ({error})"
            ) from error
        if answer.ok or (answer.status_code == 416 and "Range" in headers):
            return answer
        answer.close()
        reason = f"{answer.status_code} {answer.reason}"
        if answer.status_code == 429 or answer.status_code >= 500:
            wait = answer.headers.get("Retry-After", "")
            raise _Again(reason, min(float(wait), 60.0) if wait.isdecimal() else 0.0)
        raise DataMissing(f"{url} can't be downloaded: {reason}")
    raise DataMissing(f"{url} can't be downloaded: it is redirected again and again")


def _ask(url: str, headers: dict[str, str], timeout: float) -> requests.Response:
    """The head of the answer, all of which must come in time: requests waits for each byte."""
    answers: SimpleQueue[requests.Response | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(
                requests.get(
                    url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
                )
            )
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=2 * timeout)  # connecting has a timeout of its own
    except Empty:
        raise _Again("the server does not answer") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def size_of(file: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return file.stat().st_size if file.exists() else 0


def _version(file: Path) -> Path:
    return file.with_name(f"{file.name}.etag")


def _tag(version: Path) -> str:
    """The noted version; empty where none, or no whole one, is noted."""
    with suppress(OSError, ValueError):
        tag = version.read_text("utf-8")
        return tag if STRONG.fullmatch(tag) else ""
    return ""


def _reason(error: Exception) -> str:
    """For users: requests' own messages are mostly names of classes."""
    if isinstance(error, _Again):
        return str(error)
    if isinstance(error, requests.Timeout | ReadTimeoutError) or "timed out" in str(error):
        return "the server does not answer"
    if "NewConnectionError" in repr(error) or "NameResolutionError" in repr(error):
        return "no connection; is there a network?"
    return "the connection breaks off again and again"
