"""A web server on 127.0.0.1 that misbehaves as it is told, as real ones do now and then."""

from __future__ import annotations

import io
import random
import re
import socket
import struct
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("stall", "reset", "short", "cut", "damaged", "drip", "drip-head", "503", "404")
"""What an answer may be instead of the file:

- ``stall``, ``reset``, ``short``: half of it, and then silence, a reset, or the end of the
  connection;
- ``cut``: half of it, by an answer that doesn't say how long it is;
- ``damaged``: all of it, with one byte changed;
- ``drip``: half of it, and then a byte twenty times a second;
- ``drip-head``: its head at that pace;
- ``503``, ``404``: nothing, now or ever.
"""


class Loopback(ThreadingHTTPServer):
    """Serves ``files`` (path to content).

    Attributes:
        faults: path to what its next answers do; ``always`` at the end repeats the one before it.
        asked: (path, first byte asked for) of each request, in order.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = dict(files)
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.asked: list[tuple[str, int]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fault(self, path: str) -> str:
        faults = self.faults[path]
        if faults[1:] == ["always"]:
            return faults[0]
        return faults.pop(0) if faults else ""


NOISE = random.Random(0).randbytes(1 << 19)
"""Makes a file larger than what arrives at once: it is not to be compressed."""


def zipped(files: Mapping[str, bytes]) -> bytes:
    """An archive, the same for the same files."""
    with zipfile.ZipFile(archive := io.BytesIO(), "w") as opened:
        for name, content in files.items():
            opened.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


@contextmanager
def loopback(files: Mapping[str, bytes]) -> Iterator[Loopback]:
    server = Loopback(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Loopback

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.server.asked.append((self.path, first))
        fault = self.server.fault(self.path)
        if fault.startswith("http"):
            self.send_response(302)
            self.send_header("Location", fault)
            self.end_headers()
            return
        if fault == "drip-head":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000)
            self.close_connection = True
            return
        if content is None or fault in ("404", "503"):
            self.send_error(503 if fault == "503" else 404)
            return
        tag = f'"{sha256(content).hexdigest()}"'
        if first and self.headers.get("If-Range") == tag:
            self.send_response(416 if first >= len(content) else 206)
            last = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", last if first < len(content) else f"bytes */{first}")
        else:
            first = 0
            self.send_response(200)
            self.send_header("ETag", tag)
        body = content[first:]
        if fault != "cut":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body, fault)

    def _drip(self, body: bytes) -> None:
        with suppress(OSError):
            for i in range(len(body)):
                if self.server.closing.wait(0.05):
                    return
                self.wfile.write(body[i : i + 1])

    def _send(self, body: bytes, fault: str) -> None:
        half = len(body) // 2
        if fault == "damaged":
            body = body[:half] + bytes([body[half] ^ 255]) + body[half + 1 :]
        if fault not in ("stall", "reset", "short", "cut", "drip"):
            self.wfile.write(body)
            return
        self.wfile.write(body[:half])
        self.wfile.flush()
        if fault == "stall":
            self.server.closing.wait(30)
        if fault == "drip":
            self._drip(body[half:])
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        self.close_connection = True
