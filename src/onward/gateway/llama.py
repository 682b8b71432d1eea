"""The program behind the provider `local`, run as a child: llama.cpp's own server on loopback, from `xllamacpp`.

    python -m onward.gateway.llama '{"model": PATH, "window": 2048, "seed": 1, "parent": PID, "log": PATH or null}'

It prints its base URL when it answers, and ends when its parent does: the kernel tells it (Linux), and its standard
input closes. With `log`, requests pass a small front that appends one line of JSON for each.

Everything that lets one request touch another is off (prompt cache, parallel slots, context shift), and it computes
on one thread: at temperature 0 the same request has the same answer, always.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from onward.clock import SystemClock
from onward.fingerprint import digest_of

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_now = SystemClock().now


def _die_with(parent: int) -> None:
    """Two ways, because the first is Linux's alone and the second needs the pipe to have no other holder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _server(model: str, window: int, seed: int) -> Any:
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path, given.offline = model, True
    given.n_ctx, given.n_parallel, given.ctx_shift = window, 1, False
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.cache_prompt, given.cache_ram_mib, given.cache_idle_slots = False, 0, False
    given.n_cache_reuse, given.n_ctx_checkpoints, given.slot_prompt_similarity = 0, 0, 0.0
    given.sampling.seed = seed
    given.hostnames, given.port = ["127.0.0.1"], 0
    given.ui = given.endpoint_slots = False
    return xllamacpp.Server(given)


def _await(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            threading.Event().wait(0.02)


class _Front(BaseHTTPRequestHandler):
    """Passes each request on as it is, and writes down that it came."""

    protocol_version = "HTTP/1.1"
    target = ""
    log = -1

    def do_GET(self) -> None:
        self._pass(b"")

    def do_POST(self) -> None:
        self._pass(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _pass(self, body: bytes) -> None:
        received = _now()
        link = HTTPConnection(self.target)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        link.request(self.command, self.path, body or None, headers)
        answer = link.getresponse()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        delivered = True
        while piece := answer.read1(65536):
            try:
                self.wfile.write(piece)
            except OSError:
                delivered = False
        link.close()
        line = {
            "received": received, "answered": _now(), "path": self.path, "digest": _digest(body),
            "status": answer.status, "delivered": delivered,
        }  # fmt: skip
        os.write(self.log, (json.dumps(line) + "\n").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: standard error is kept for what goes wrong."""


def _digest(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    delivery = ("stream", "stream_options")
    return digest_of({name: value for name, value in found.items() if name not in delivery})


def _fronted(url: str, log: str) -> str:
    _Front.target = urlsplit(url).netloc
    _Front.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    front = ThreadingHTTPServer(("127.0.0.1", 0), _Front)
    front.daemon_threads = True
    threading.Thread(target=front.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{front.server_address[1]}"


def main(argv: list[str]) -> int:
    """Serve until the parent ends."""
    given = json.loads(argv[1])
    _die_with(given["parent"])
    server = _server(given["model"], given["window"], given["seed"])
    url = server.listening_address
    url = url if url.startswith("http") else f"http://{url}"
    _await(url)
    if given.get("log"):
        url = _fronted(url, given["log"])
    os.write(1, f"{url}/v1\n".encode())
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
