"""A scripted provider: the other end of the wire formats, over real HTTP on loopback. See `onward.testing`.

It renders with the same modules that the gateway parses with; that these are right is for the tests that hold examples
from the providers' own pages.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from onward.ask import Answer, Usage
from onward.clock import SystemClock
from onward.fingerprint import canonical

if TYPE_CHECKING:
    from aiohttp import web

    from onward.gateway.providers import Provider

__all__ = ["KEY", "Billed", "Fault", "ProviderServer", "Request", "default_answer"]

KEY = "sk-onward-testing-0123456789"
"""What `ProviderServer.providers` uses as key; any key is accepted."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the answer function sees it. `number` counts from 1 over all requests."""

    protocol: str
    model: str
    body: Mapping[str, Any]
    """The body without what only concerns delivery."""
    digest: str
    """Canonical hash of the body: equal requests have equal digests."""
    size: int
    """Bytes of the canonical body."""
    headers: Mapping[str, str]
    number: int
    stream: bool = False

    @property
    def text(self) -> str:
        """All text in the last message, whatever the format."""
        turns = self.body.get("messages") or self.body.get("input") or self.body.get("contents") or ""
        return turns if isinstance(turns, str) else "".join(_texts(turns[-1]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        found = value.get("content", value.get("parts", value.get("text")))
        return [found] if isinstance(found, str) else _texts(found)
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []


@dataclass(frozen=True, slots=True)
class Billed:
    """One request that was answered in full. Times are `time.time()`."""

    received: float
    answered: float
    digest: str
    model: str
    protocol: str
    input: int
    output: int
    retry: int
    """`x-stainless-retry-count`, which SDKs send."""
    delivered: bool
    """Whether the client was still there when the answer's last part was written."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, with how many requests (`times`, None: with all), and which (`when`: text in the body).

    Kinds: an HTTP status such as `401`, `429`, `500`, `529`; `quota` (429, insufficient_quota), `context` (400, too
    long), `content` (400, refused), `error` (reported inside a 200), `truncated` (the JSON or stream ends early, HTTP
    intact), `cut` (the connection is closed in the middle), `hang` (not a byte), `huge` (a true answer of `size`
    bytes), `nul` (a true answer with a NUL in it), `garbage` (NUL bytes instead of JSON), `not-text` (the answer's
    text is a number).
    """

    kind: str
    times: int | None = None
    retry_after: str | None = None
    when: str = ""
    size: int = 50 * 1024 * 1024
    after: int = 0
    """Requests that pass unharmed before it begins."""


_now = SystemClock().now
Said = str | Answer | Fault
Answering = Callable[[Request], Said | Awaitable[Said]]
_ERROR_NAMES = {
    "401": "authentication_error", "402": "billing_error", "403": "permission_error", "404": "not_found_error",
    "429": "rate_limit_error", "529": "overloaded_error",
}  # fmt: skip
_SPECIAL = {
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details"),
    "context": (400, "context_length_exceeded", "This model's maximum context length is 8192 tokens"),
    "content": (400, "content_policy_violation", "Your request was rejected by our safety system"),
    "error": (200, "overloaded_error", "Overloaded"),
}


def default_answer(request: Request) -> str:
    """A text that depends on the request's content and on nothing else."""
    return f"answer {request.digest[:12]}"


class ProviderServer:
    """A scripted provider. `async with` runs it in this event loop, `with` in a thread of its own.

    `answer`: what it says to a request (text, an Answer, or a Fault), default: a text derived from the content.
    `latency`: seconds before the first byte; `pace`: seconds between the frames of a stream. `log`: file to which
    each billed request is appended as one line of JSON (the fields of `Billed`), by O_APPEND, so several servers and
    restarts may share it.
    """

    def __init__(
        self,
        answer: Answering = default_answer,
        *,
        faults: Sequence[Fault] = (),
        latency: float = 0.0,
        pace: float = 0.0,
        log: str | Path | None = None,
        port: int = 0,
    ) -> None:
        self.answer, self.latency, self.pace, self.port = answer, latency, pace, port
        self.faults = list(faults)
        self.calls: list[Billed] = []
        """What was billed, in order of answering."""
        self.requests: list[Request] = []
        """What was received, faults included."""
        self._used: dict[int, int] = {}
        self._log = log
        self._file: int | None = None
        self._runner: web.AppRunner | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Its address, without a version."""
        return f"http://127.0.0.1:{self.port}"

    def providers(self, key: str = KEY) -> dict[str, Provider]:
        """The known providers, all of them pointed here."""
        from onward.gateway.providers import PROVIDERS

        return {
            name: replace(
                known, key=key, base_url=self.url + ("/v1" if known.protocol in ("chat", "responses") else "")
            )
            for name, known in PROVIDERS.items()
            if name != "local"
        }

    async def __aenter__(self) -> Self:
        from aiohttp import web

        if self._log:
            self._file = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._post)
        app.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, ready), daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def _run(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self.__aenter__())
        finally:
            ready.set()
        loop.run_forever()
        loop.run_until_complete(self.__aexit__())
        left = asyncio.all_tasks(loop)  # requests that were left hanging
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    def __exit__(self, *_: object) -> None:
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    async def _get(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if request.path == "/_calls":
            return web.json_response([asdict(call) for call in self.calls])
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        return web.Response(text="onward scripted provider\n")

    async def _post(self, http: web.Request) -> web.StreamResponse:
        from aiohttp import web

        received, raw = _now(), await http.read()
        found = _read(http, raw, len(self.requests) + 1)
        if found is None:
            return web.json_response({"error": {"message": "no such path, or not JSON"}}, status=404)
        self.requests.append(found)
        if self.latency:
            await asyncio.sleep(self.latency)
        said: Any = self._next_fault(raw) or self.answer(found)
        if isinstance(said, Awaitable):
            said = await said
        fault = said if isinstance(said, Fault) else None
        if fault and fault.kind not in ("huge", "nul", "truncated", "cut", "not-text"):
            return await _broken(http, fault, found)
        if fault:
            said = {"huge": "x" * fault.size, "nul": "before\0after"}.get(fault.kind, default_answer(found))
        made = said if isinstance(said, Answer) else Answer(said)
        made = replace(made, response={"id": found.digest, **made.response})
        if not made.usage.total:
            made = replace(made, usage=Usage(found.size // 4, len(made.text) // 4 + 1))
        harm = fault.kind if fault and fault.kind not in ("huge", "nul") else ""
        return await self._write(http, found, made, harm, received)

    def _next_fault(self, raw: bytes) -> Fault | None:
        for index, fault in enumerate(self.faults):
            if fault.when and fault.when.encode() not in raw:
                continue
            used = self._used[index] = self._used.get(index, 0) + 1
            if used > fault.after and (fault.times is None or used <= fault.after + fault.times):
                return fault
        return None

    def _bill(self, http: web.Request, found: Request, used: Usage, received: float) -> None:
        """Written down before the last byte leaves: who has read an answer finds it in the log."""
        delivered = http.transport is not None and not http.transport.is_closing()
        retry = found.headers.get("x-stainless-retry-count", "0")
        billed = Billed(
            received, _now(), found.digest, found.model, found.protocol, used.input, used.output,
            int(retry) if retry.isdigit() else 0, delivered,
        )  # fmt: skip
        self.calls.append(billed)
        if self._file is not None:
            os.write(self._file, (json.dumps(asdict(billed)) + "\n").encode())

    async def _write(
        self, http: web.Request, found: Request, made: Answer, harm: str, received: float
    ) -> web.StreamResponse:
        """Writes the answer to its last byte, or to its middle where it is harmed. A client that has gone does not
        stop a provider from answering, nor from billing."""
        from aiohttp import web

        from onward.protocols import PROTOCOLS

        wire = PROTOCOLS[found.protocol]
        whole = wire.render(made, found.model)
        if harm == "not-text":
            return web.Response(text=_no_text(json.dumps(whole), made), content_type="application/json")
        pieces = list(wire.frames(whole)) if found.stream else [json.dumps(whole).encode()]
        size = sum(map(len, pieces))
        if harm:
            pieces = pieces[: len(pieces) // 2] if found.stream else [pieces[0][: size // 2]]
        kind = "text/event-stream" if found.stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        if not found.stream:
            response.content_length = size if harm == "cut" else len(pieces[0])
        with suppress(ConnectionError):
            await response.prepare(http)
        for number, piece in enumerate(pieces, 1):
            if number == len(pieces) and not harm:
                self._bill(http, found, made.usage, received)
            with suppress(ConnectionError):
                await response.write(piece)
            if self.pace:
                await asyncio.sleep(self.pace)
        if harm == "cut":
            _hang_up(http)
        with suppress(ConnectionError):
            await response.write_eof()
        return response


def _hang_up(http: web.Request) -> None:
    if http.transport is not None:
        http.transport.close()


def _no_text(text: str, made: Answer) -> str:
    return text.replace(json.dumps(made.text), "17")


def _read(http: web.Request, raw: bytes, number: int) -> Request | None:
    path = http.path
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    protocol = next((name for end, name in _PATHS.items() if path.endswith(end)), "")
    if not protocol or not isinstance(body, dict):
        return None
    stream = bool(body.pop("stream", False)) or path.endswith(":streamGenerateContent")
    body.pop("stream_options", None)
    model = path.rpartition("/")[2].partition(":")[0] if protocol == "gemini" else str(body.get("model", ""))
    headers = {name.lower(): value for name, value in http.headers.items()}
    form = canonical({**body, "model": model} if protocol == "gemini" else body)
    return Request(protocol, model, body, sha256(form).hexdigest()[:32], len(form), headers, number, stream)


_PATHS = {
    "/chat/completions": "chat", "/responses": "responses", "/messages": "messages",
    ":generateContent": "gemini", ":streamGenerateContent": "gemini",
}  # fmt: skip


async def _broken(http: web.Request, fault: Fault, found: Request) -> web.StreamResponse:
    from aiohttp import web

    if fault.kind == "hang":
        await asyncio.sleep(3600)
    if fault.kind == "garbage":
        return web.Response(body=b"\0" * 512, content_type="application/json")
    status, code, said = _SPECIAL.get(fault.kind) or (
        int(fault.kind), _ERROR_NAMES.get(fault.kind, "server_error"), f"scripted {fault.kind}",
    )  # fmt: skip
    error: dict[str, Any] = {"message": said, "type": code, "code": code}
    body: dict[str, Any] = {"error": error}
    if found.protocol == "messages":
        body = {"type": "error", "error": {"type": code, "message": said}}
    elif found.protocol == "gemini":
        body = {"error": {"code": 503 if status == 200 else status, "message": said, "status": code.upper()}}
    elif found.protocol == "responses" and found.stream and status == 200:
        body = {"type": "error", "code": code, "message": said}
    if status == 200 and found.stream:
        frame = f"event: error\ndata: {json.dumps(body)}\n\n".encode()
        return web.Response(body=frame, content_type="text/event-stream")
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    return web.json_response(body, status=status, headers=headers)
