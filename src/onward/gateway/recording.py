"""An exchange that goes to the provider: sent as it came, passed on as it comes, and kept whole.

    {"status", "headers", "frames": [[milliseconds, text] …] or "body": text, "usage", "order": [start, end]}

is what the journal holds of it, beside the request in its intent. The last frame (all that follows the format's
terminal event; the whole body where nothing is streamed) is not passed on here: it waits for the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from onward.ask import Answer, Call, Reply, Usage
from onward.clock import Clock
from onward.errors import CallError, CallRejected, CallTransient
from onward.gateway import upstream as network
from onward.gateway.bounds import input_bound
from onward.gateway.faults import failure, reported
from onward.gateway.flights import Asked, Flight, Head
from onward.gateway.prices import Prices
from onward.gateway.providers import Provider
from onward.protocols import PROTOCOLS, Assembly, Malformed, Reported
from onward.protocols.recorded import read_whole
from onward.protocols.sse import Event, Frames, event_of
from onward.protocols.turns import FORMS
from onward.protocols.wire import whole

__all__ = ["Bill", "Sending", "bound_of", "passed_on", "sent_on"]

_KEPT = ("content-type", "request-id", "x-request-id")
_PASSED = (*_KEPT, "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "openai-version")
_PASSED_KINDS = ("x-ratelimit-", "anthropic-ratelimit-")
_LINGER = 2.0
"""Seconds that a stream may stay open after its terminal event: some servers keep the connection."""


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """What an agent sees of a provider's response headers."""
    return {name: value for name, value in headers.items() if name in _PASSED or name.startswith(_PASSED_KINDS)}


def sent_on(provider: Provider, protocol: str, headers: Mapping[str, str]) -> dict[str, str]:
    """An agent's headers as they go to the provider: with its key, and what it wants sent with every request."""
    found = {name.lower(): value for name, value in PROTOCOLS[protocol].headers(provider.key).items()}
    fixed = {name.lower() for name in provider.headers}
    made = {name: value for name, value in {**found, **headers}.items() if name not in fixed}
    if "content-type" in made:
        made["Content-Type"] = made.pop("content-type")
    return made


def bound_of(asked: Asked, provider: Provider, prices: Prices) -> Call:
    """The exchange as the engine sees a call, with the most that it can cost."""
    wire, body = PROTOCOLS[asked.protocol], asked.body
    most_in = input_bound(body, len(asked.raw), FORMS[asked.protocol].messages(body))
    try:
        most_out = wire.largest_output(body)
    except (TypeError, ValueError, LookupError, AttributeError):
        most_out = None  # the provider will say what is wrong with it
    usd: float | None = None
    tokens: int | None = None
    if most_out is not None:
        used = Usage(most_in, most_out)
        caching = asked.protocol == "messages" and b'"cache_control"' in asked.raw
        tokens, usd = used.total, prices.bound(provider.name, asked.model, used, caching=caching)
    elif prices.bound(provider.name, asked.model, Usage(1, 1)) == 0:
        usd = 0.0
    return Call(provider.name, asked.protocol, asked.model, body, tokens, usd)


@dataclass(frozen=True, slots=True)
class Bill:
    """What an answer says and used."""

    usage: Usage
    estimated: bool
    usd: float | None
    response: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, asked: Asked, provider: Provider, prices: Prices, response: Mapping[str, Any], size: int) -> Bill:
        """`size`: bytes of the answer, which bound its tokens where the provider does not count them. Raises Reported
        for a response that says that it failed."""
        try:
            answer = PROTOCOLS[asked.protocol].parse(response)
        except Malformed:
            answer = Answer("")  # complete, and kept as it is; only its counts are not known
        used, estimated = answer.usage, not answer.usage.total
        if estimated:
            messages = FORMS[asked.protocol].messages(asked.body)
            used = Usage(input_bound(asked.body, len(asked.raw), messages), size)
        counts = response.get("usage")
        writes = int(counts.get("cache_creation_input_tokens") or 0) if isinstance(counts, Mapping) else 0
        return cls(used, estimated, prices.cost(provider.name, asked.model, used, cache_writes=writes), response)

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        used = self.usage
        form: dict[str, Any] = {"input": used.input, "output": used.output}
        form.update({name: count for name, count in (("cached", used.cached), ("reasoning", used.reasoning)) if count})
        return {**form, "estimated": True} if self.estimated else form


@dataclass(slots=True)
class Sending:
    """Sends one flight's request, once each time it is called; what came last is in `head`, `held` and `bill`."""

    flight: Flight
    asked: Asked
    """What is sent: the flight's request, or the same for another model."""
    provider: Provider
    upstream: network.Upstream
    prices: Prices
    clock: Clock
    order: Iterator[int]
    head: Head = field(default_factory=lambda: Head(502, {}))
    held: Sequence[bytes] = ()
    bill: Bill | None = None

    async def __call__(self) -> Reply:
        """Raises CallError. What the provider will never answer is an answer too: its status and body are recorded."""
        asked, provider = self.asked, self.provider
        self._begin()
        start, began = next(self.order), self.clock.ticks()
        headers = sent_on(provider, asked.protocol, asked.headers)
        async with self.upstream.exchange(provider, asked.path, asked.raw, headers) as reply:
            self.head = Head(reply.status, passed_on(reply.headers))
            if not 200 <= reply.status < 300:
                body = await self._refused(reply)
            elif "event-stream" in reply.headers.get("content-type", ""):
                body = await self._streamed(reply, began)
            else:
                body = await self._whole(reply)
        kept = {name: reply.headers[name] for name in _KEPT if name in reply.headers}
        value: dict[str, Any] = {"status": reply.status, "headers": kept, **body}
        bill = self.bill
        if bill is not None:
            value["usage"] = bill.to_json()
        value["order"] = [start, next(self.order)]
        return Reply(value, bill.usd if bill else 0.0, bill.usage.total if bill else 0)

    def _begin(self) -> None:
        self.flight.begin()
        self.bill, self.held = None, ()

    async def _refused(self, reply: network.Reply) -> dict[str, Any]:
        body = await reply.read()
        error = failure(self.provider, self.asked.model, reply.status, reply.headers, body)
        return self._said_no(error, body.decode("utf-8", "replace"), "body")

    def _said_no(self, error: CallError, text: str, form: str) -> dict[str, Any]:
        text = self.provider.without_secrets(text)  # some providers repeat the key that they refuse
        if not isinstance(error, CallRejected):
            self.flight.refused = (self.head, text.encode())
            raise error
        self.held = [text.encode()]
        return {form: text if form == "body" else [[0, text]]}

    async def _whole(self, reply: network.Reply) -> dict[str, Any]:
        raw, asked = await reply.read(), self.asked
        try:
            text = raw.decode()
            response = read_whole(asked.protocol, text)
            self.bill = Bill.of(asked, self.provider, self.prices, response, len(raw))
        except Reported as said:
            no = reported(self.provider, asked.model, said.error)
            return self._said_no(no, raw.decode("utf-8", "replace"), "body")
        except (Malformed, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        self.held = [raw]
        return {"body": text}

    async def _streamed(self, reply: network.Reply, began: float) -> dict[str, Any]:
        asked = self.asked
        assembly, tape = PROTOCOLS[asked.protocol].assembly(), _Tape()
        try:
            await self._play(reply, assembly, tape, began)
            if not assembly.done:
                cut = "the stream was cut: it ended before its terminal event"
                raise CallTransient(cut, provider=self.provider.name, sent_whole=True)
            response = whole(assembly.response(), "\\ud" if tape.odd else "")
            self.bill = Bill.of(asked, self.provider, self.prices, response, tape.size)
        except Reported as said:
            error = reported(self.provider, asked.model, said.error)
            text = "".join(text for _, text in tape.frames)
            if isinstance(error, CallRejected):
                self.held = tape.held
                return {"frames": tape.frames}
            return self._said_no(error, text, "frames")
        except (Malformed, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None
        self.held = tape.held
        return {"frames": tape.frames}

    async def _play(self, reply: network.Reply, assembly: Assembly, tape: _Tape, began: float) -> None:
        chunks = reply.chunks.__aiter__()
        while True:
            try:
                if assembly.done:
                    async with asyncio.timeout(_LINGER):
                        chunk = await anext(chunks)
                else:
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except (TimeoutError, CallTransient):
                if assembly.done:
                    return  # all that the format says had come
                raise
            shown = tape.take(chunk, assembly, round((self.clock.ticks() - began) * 1000))
            if shown:
                self.flight.show(self.head, shown)

    def _unreadable(self, error: ValueError) -> CallTransient:
        said = "the answer is not text" if isinstance(error, UnicodeDecodeError) else str(error)[:300]
        said = self.provider.without_secrets(said)
        return CallTransient(said, provider=self.provider.name, status=200, sent_whole=True)


class _Tape:
    """The frames of a stream as they come: those before its terminal event are passed on, the others held."""

    def __init__(self) -> None:
        self.frames: list[list[Any]] = []
        self.held: list[bytes] = []
        self.size = 0
        self.odd = False
        self._cut = Frames()

    def take(self, chunk: bytes, assembly: Assembly, offset: int) -> bytes:
        """What of this chunk may be passed on. Raises Malformed, Reported."""
        shown: list[bytes] = []
        for frame in self._cut.feed(chunk):
            self.frames.append([offset, frame.decode()])
            self.size += len(frame)
            event = event_of(frame)
            if event is not None:
                self.odd = self.odd or "\\ud" in event.data or "\\uD" in event.data
                try:
                    self._feed(assembly, event)
                except (Malformed, Reported):
                    self.held = [*shown, frame]
                    raise
            if assembly.done:
                self.held.append(frame)
            else:
                shown.append(frame)
        return b"".join(shown)

    @staticmethod
    def _feed(assembly: Assembly, event: Event) -> None:
        if not assembly.done:
            assembly.feed(event)
            return
        with suppress(Malformed, Reported):  # counts may still come; nothing here can undo a complete answer
            assembly.feed(event)
