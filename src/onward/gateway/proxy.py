"""The local endpoint through which all model traffic of agents passes: an ASGI application and its server.

async with Door(providers) as door:
    token = door.admit(context)          # the Context of the trial's open generate step
    ...                                  # an agent is told door.url and the token as its key
    report = await door.dismiss(token)

It speaks OpenAI Chat Completions and Responses, Anthropic Messages and Gemini by passing them on, translating nothing.
A trial is known by its token, wherever its SDK puts the key. What is asked is answered by its `Guest`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import orjson

from onward.context import Context
from onward.errors import CallError, OnwardError, UsageError
from onward.gateway.exchanges import request_of
from onward.gateway.flights import Asked, Head
from onward.gateway.guests import Guest, Miss, Terms
from onward.gateway.listening import Listener
from onward.gateway.normalisers import GENERIC, Rules
from onward.gateway.prices import Prices
from onward.gateway.providers import Provider
from onward.gateway.recording import passed_on, sent_on
from onward.gateway.refusals import refusal
from onward.gateway.serving import target_of
from onward.gateway.upstream import Upstream
from onward.protocols.turns import FORMS

__all__ = ["Door", "by_protocol"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LARGEST = 64 * 1024 * 1024
_LONG = 1024
"""Bytes of a body whose conversation is worth remembering."""
_JSON = {"content-type": "application/json"}
_ENDS = {"/chat/completions": "chat", "/responses": "responses", "/messages": "messages"}
_UNSENT = frozenset({
    "authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie", "host", "content-length", "transfer-encoding",
    "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "proxy-authorization", "proxy-connection",
    "accept-encoding", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
})  # fmt: skip
"""Headers of an agent that end here: who it is, and how this one connection works."""


class _No(Exception):
    """The gateway itself refuses a request."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def by_protocol(*providers: Provider) -> dict[str, Provider]:
    """These providers by the format that each speaks; the first of a format counts."""
    found: dict[str, Provider] = {}
    for provider in providers:
        found.setdefault(provider.protocol, provider)
    return found


class Door:
    """`providers`: who answers each wire format, with keys; a trial may have others. One door serves one event loop."""

    def __init__(
        self, providers: Mapping[str, Provider], *, prices: Prices | None = None, upstream: Upstream | None = None
    ) -> None:
        self._providers, self._prices = dict(providers), prices or Prices()
        self._upstream = upstream or Upstream()
        self._guests: dict[str, Guest] = {}
        self._listener = Listener(self)

    @property
    def url(self) -> str:
        """Its address on loopback, without a version."""
        return self._listener.url

    async def open(self, unix: str | None = None) -> None:
        """Listen on a free port of loopback, and on a unix socket at this path."""
        await self._listener.open(unix)

    async def close(self, *, drain: bool = True) -> None:
        """Close, once what is under way is recorded (without `drain` it is given up, and is in doubt)."""
        for token in list(self._guests):
            await self.dismiss(token, drain=drain)
        await self._listener.close()
        await self._upstream.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.close(drain=kind is None)

    def admit(
        self, context: Context, *, providers: Mapping[str, Provider] | None = None, rules: Rules = GENERIC,
        miss: Miss = "warn", live: Mapping[str, str] | None = None, exact_only: bool = False, cut: bool = False,
    ) -> str:  # fmt: skip
        """A token for the agent of this open step. What the step recorded before is served to it (see `Terms`)."""
        terms = Terms(self._providers if providers is None else providers, rules, miss, live or {}, exact_only, cut)
        token = f"onward-{secrets.token_urlsafe(24)}"
        self._guests[token] = Guest(context, terms, self._upstream, self._prices)
        return token

    async def dismiss(self, token: str, *, drain: bool = True) -> dict[str, Any]:
        """The token is worth nothing from now on. Waits until what is under way is recorded (without `drain` it is
        given up, and is in doubt); says what was served and paid."""
        guest = self._guests.pop(token)
        await guest.leave(drain=drain)
        return guest.report()

    def guest(self, token: str) -> Guest:
        """The trial behind a token."""
        return self._guests[token]

    # the application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # before accepting: the handshake is answered by 403
            return
        visit = _Visit(scope, receive, send)
        try:
            await self._welcome(visit)
        except _No as no:
            await visit.reply(no.status, refusal(visit.protocol, no.status, str(no)))
        except UsageError as error:
            await visit.reply(400, refusal(visit.protocol, 400, str(error)))
        except (OnwardError, CallError) as error:
            # 403: what ended the trial is not mended by asking again, and no SDK tries.
            await visit.reply(403, refusal(visit.protocol, 403, str(error)))

    async def _welcome(self, visit: _Visit) -> None:
        if "upgrade" in visit.headers:
            raise _No(426, "WebSockets are not spoken here: use HTTP")
        if visit.path == "/" and visit.method in ("HEAD", "GET"):
            await visit.reply(200, b"" if visit.method == "HEAD" else b'{"gateway":"onward"}')
            return
        guest = self._guests.get(visit.token)
        if guest is None:
            raise _No(401, "this key is not known here: it belongs to no open trial")
        if visit.method == "POST" and visit.kind == "exchange":
            await self._exchange(guest, visit)
        elif (visit.method, visit.kind) in (("POST", "count"), ("GET", "models")):
            await self._pass_on(guest, visit)
        else:
            raise _No(404, f"{visit.method} {visit.path} is not spoken here")

    async def _exchange(self, guest: Guest, visit: _Visit) -> None:
        flight = await guest.answer(await visit.asked(guest))
        gone = asyncio.ensure_future(visit.left())
        try:
            started = False
            async for head, piece, last in flight.read(gone):
                if not started:
                    await visit.start(head)
                    started = True
                flight.delivered = flight.delivered or last
                await visit.write(piece, more=not last)
        finally:
            gone.cancel()
            guest.left(flight)

    async def _pass_on(self, guest: Guest, visit: _Visit) -> None:
        """What costs nothing and is not recorded: counts of tokens, the list of models."""
        raw = await visit.body()
        if guest.terms.closed:
            await visit.reply(200, orjson.dumps(_by_ourselves(visit, raw)))
            return
        provider = guest.provider(visit.protocol)
        headers = sent_on(provider, visit.protocol, visit.to_send)
        async with self._upstream.exchange(provider, visit.target, raw or None, headers, method=visit.method) as reply:
            body = provider.without_secrets((await reply.read()).decode("utf-8", "replace")).encode()
            await visit.reply(reply.status, body, passed_on(reply.headers))


class _Visit:
    """One HTTP request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.method, self.path = str(scope["method"]), str(scope["path"])
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        self.query = [(name, value) for name, value in query if name != "key"]
        self.protocol, self.kind = _spoken(self.path, self.headers)
        self.token = _token(self.headers, query)
        self._started = False

    @property
    def target(self) -> str:
        """What follows the provider's base URL: OpenAI's formats have their version in that."""
        path = self.path.removeprefix("/v1") if self.protocol in ("chat", "responses") else self.path
        return f"{path}?{urlencode(self.query, safe=':,')}" if self.query else path

    @property
    def to_send(self) -> dict[str, str]:
        """The headers that are sent on."""
        return {name: value for name, value in self.headers.items() if name not in _UNSENT}

    async def body(self) -> bytes:
        """The whole body. Raises _No where it is too large, or encoded."""
        if self.headers.get("content-encoding", "identity") != "identity":
            raise _No(415, "an encoded body is not read here: send it as it is")
        pieces, size = [], 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _No(400, "the request was cut")
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > _LARGEST:
                raise _No(413, f"the request is over {_LARGEST // 2**20} MB")
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def asked(self, guest: Guest) -> Asked:
        """The request as an exchange. Raises _No for what is not JSON."""
        raw = await self.body()
        try:
            body, said, around = guest.bodies.read(raw, FORMS[self.protocol].history)
        except ValueError as error:
            raise _No(400, f"the body is not a JSON object: {error}") from None
        if self.protocol == "gemini":
            model, _, verb = self.path.rpartition("/")[2].partition(":")
            stream = verb == "streamGenerateContent"
        else:
            model, stream = str(body.get("model") or ""), body.get("stream") is True
        target = target_of(self.protocol, model)
        before, same = (around.request, around.same) if around is not None else (None, False)
        rules = guest.terms.rules
        request = request_of(self.protocol, body, rules, target=target, said=said, before=before, same_around=same)
        if around is not None:
            around.request = request
        retried = self.headers.get("x-stainless-retry-count", "0") not in ("", "0")
        turns = around.turns if around is not None and len(raw) >= _LONG else None
        return Asked(self.protocol, model, body, raw, self.target, self.to_send, stream, retried, request, turns)

    async def left(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, head: Head) -> None:
        """The head of the response."""
        self._started = True
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers.items()]
        await self._send({"type": "http.response.start", "status": head.status, "headers": lines})

    async def write(self, piece: bytes, *, more: bool) -> None:
        """A part of the body. A client that has gone is no error."""
        with suppress(OSError):
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str] = _JSON) -> None:
        """A whole response."""
        await self.start(Head(status, {**headers, "content-length": str(len(body))}))
        await self.write(body, more=False)


def _by_ourselves(visit: _Visit, raw: bytes) -> dict[str, Any]:
    """What an agent is told where no provider may be asked: a count about right, a list of no models."""
    if visit.kind == "count":
        return {"totalTokens" if visit.protocol == "gemini" else "input_tokens": len(raw) // 4}
    return {"models": []} if visit.protocol == "gemini" else {"object": "list", "data": []}


def _spoken(path: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """The wire format that a path belongs to, and what it is: `exchange`, `count`, `models`, or nothing known."""
    verb = path.rpartition(":")[2] if "/models/" in path else ""
    if verb in ("generateContent", "streamGenerateContent", "countTokens"):
        return "gemini", "count" if verb == "countTokens" else "exchange"
    if path.endswith("/messages/count_tokens"):
        return "messages", "count"
    for end, protocol in _ENDS.items():
        if path in (end, f"/v1{end}"):
            return protocol, "exchange"
    kind = "models" if path.endswith("/models") else ""
    if "anthropic-version" in headers:
        return "messages", kind
    return "gemini" if "x-goog-api-key" in headers or path.startswith("/v1beta") else "chat", kind


def _token(headers: Mapping[str, str], query: list[tuple[str, str]]) -> str:
    """The key that the caller shows, wherever its SDK puts it."""
    scheme, _, found = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and found:
        return found.strip()
    named = (headers.get(name, "") for name in ("x-api-key", "x-goog-api-key", "api-key"))
    return next(filter(None, named), "") or dict(query).get("key", "")
