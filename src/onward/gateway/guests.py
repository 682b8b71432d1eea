"""One trial at the gateway: which of its requests are answered from the record, which join one under way, which leave.

In this order: a retry joins the flight that it repeats; an answer that nobody saw the end of goes to its next equal;
what earlier attempts recorded is served where it matches; everything else is a new exchange, or a miss that the policy
decides (SEMANTICS §7). All of it is decided between two awaits, so that no two requests are given the same answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Literal

from onward.clock import Clock
from onward.context import Context
from onward.episode import Told
from onward.errors import (
    BudgetReached,
    CallError,
    OnwardError,
    ProviderStopped,
    StepFailed,
    StepOwed,
    StepTimeout,
    Stopping,
    UsageError,
)  # fmt: skip
from onward.fingerprint import Fingerprint
from onward.gateway.bodies import Bodies
from onward.gateway.exchanges import Request
from onward.gateway.flights import Asked, Flight, Head
from onward.gateway.matching import Match, State, match
from onward.gateway.normalisers import GENERIC, Rules
from onward.gateway.prices import Prices
from onward.gateway.providers import Provider
from onward.gateway.recording import Sending, bound_of
from onward.gateway.refusals import refusal
from onward.gateway.serving import PREFIX, Beside, answer_of, before, exchange_of
from onward.gateway.upstream import Upstream
from onward.keys import Key
from onward.once import Step
from onward.protocols import Malformed, Reported

__all__ = ["Guest", "Miss", "Terms"]

Miss = Literal["warn", "strict", "fork", "fail"]
"""What is done with a request that no recorded exchange answers while some are left, and with a prefix match:
`live` asks the model (SEMANTICS calls it `warn`), `strict` ends the trial, `fork` gives the lane up and asks the model.
`fail` asks the model for nothing at all."""


_DIVERGENT = ("opening", "prefix")
"""Levels at which an agent first leaves its record."""
_REMEMBERED = 256
"""How many of the answers last given are held ready for a client that asks for one again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a trial is admitted."""

    providers: Mapping[str, Provider]
    """By wire format."""
    rules: Rules = GENERIC
    miss: Miss = "warn"
    live: Mapping[str, str] = field(default_factory=dict)
    """{model that the agent asks for: model that is asked, where no record answers}."""
    exact_only: bool = False
    """The step's fingerprint changed since its exchanges were recorded: only the exact level serves them."""
    cut: bool = False
    """Where the record ends, so does the step: no model is asked for anything, whatever the policy."""

    @property
    def closed(self) -> bool:
        """Whether nothing goes to a model."""
        return self.cut or self.miss == "fail"


class Guest:
    """A trial that is admitted, until it is dismissed."""

    def __init__(self, context: Context, terms: Terms, upstream: Upstream, prices: Prices) -> None:
        self.context, self.bodies = context, Bodies()
        self._upstream, self._prices = upstream, prices
        self.recorder = context.world.recorder
        found = before(context, terms.rules, terms.live, exact_only=terms.exact_only)
        self.terms = replace(terms, rules=found.rules)
        self._recorded, self._state = found.recorded, State(opens=found.rules.agent != GENERIC.agent)
        self._replays = len(found.recorded) > 0
        self._order = count(found.ends + 1)
        self._flights: dict[bytes, list[Flight]] = {}
        self._unseen: dict[bytes, deque[Key]] = {}
        self._seen: dict[bytes, Key] = {}
        self._settled: dict[bytes, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._levels: Counter[str] = Counter()
        self._divergences: list[str] = []
        self._paid = 0
        self._beside = Beside(self.terms.rules.background)
        self.over = asyncio.Event()
        """Set when nothing more may be done in this step (`context.ended` says why)."""
        self.on_live: Callable[[], None] | None = None
        """Called when the first exchange leaves that no record answered."""
        self.replaying = self._replays
        """Whether all that was asked so far was answered from the record."""
        self.trouble: CallError | StepOwed | None = None
        """The last exchange came to nothing for reasons of ours or the provider's; an agent that gives up now has not
        failed by itself."""

    @property
    def clock(self) -> Clock:
        """The run's."""
        return self.recorder.clock

    def provider(self, protocol: str) -> Provider:
        """Who answers this format. Raises UsageError where nobody does."""
        found = self.terms.providers.get(protocol)
        if found is None:
            raise UsageError(f"no provider speaks the {protocol} format here")
        try:
            found.check()
        except UsageError as error:
            raise self._ended(error) from None
        return found

    async def answer(self, asked: Asked) -> Flight:
        """The flight that answers this request, with one reader more until `left`. Raises what ends the trial, and
        UsageError."""
        if self.context.ended is not None:
            raise self.context.ended
        joined = self._joined(asked)
        if joined is not None:
            joined.readers += 1
            return joined
        known = self._unheard(asked)
        if known is not None:
            return await self._serve(known, asked, Match(known, "exact"))
        if self._replays:
            found = match(asked.request, self._recorded, self._state)
            if found.key is not None and (found.level not in _DIVERGENT or self.terms.miss in ("warn", "fail")):
                self._state.served(asked.request, self._recorded.named[found.key])
                return await self._serve(Key(found.key), asked, found)
            await self._missed(asked.request, found)
        elif self.terms.closed:
            said = "no recorded exchange is left, and the model must not be asked"
            raise self._ended(StepOwed(said, kind="CutPoint"))
        return self._fly(asked)

    # from the record

    def _joined(self, asked: Asked) -> Flight | None:
        """The flight under way that this request repeats: one that nobody waits for, or any where an SDK says so."""
        equal = [one for one in self._flights.get(asked.digest, ()) if one.asked.stream == asked.stream]
        left = next((one for one in equal if one.alone), None)
        if left is None and asked.retried and equal:
            return equal[0]
        return left

    def _unheard(self, asked: Asked) -> Key | None:
        """An answer to this request that no client got whole. Bytes that a socket took may never have been read: an
        SDK that asks again says so."""
        whole = asked.digest
        known = self._unseen.get(whole)
        if not known:
            return self._seen.pop(whole, None) if asked.retried else None
        key = known.popleft()
        if not known:
            del self._unseen[whole]
        return key

    async def _serve(self, key: Key, asked: Asked, found: Match) -> Flight:
        data = {"request": asked.digest.hex(), "level": found.level}
        if found.difference:
            data["difference"] = str(found.difference)
        flight = self._departed(Flight(key, asked))  # before it is noted: a client may ask again meanwhile
        try:
            value = await self.recorder.served(self.context.history, key, data)
            head, body = answer_of(asked.protocol, value, asked.stream)
        except BaseException as error:
            self._end_refused(flight, 403, str(error))
            self.left(flight)
            if isinstance(error, Malformed | Reported):
                raise UsageError(f"the record of {key} cannot be rendered: {error}") from None
            raise
        self._levels[str(found.level)] += 1
        if found.level != "exact":
            self._divergences.append(found.reason)
        flight.end(head, [body], answered=True)
        self._heed(flight, value, str(found.level))
        meter = self.context.meter
        if meter is not None and not (meter.own and self.context.history.is_elsewhere(key)):
            self._spend(value.get("usage") or {})
        return flight

    def _heed(self, flight: Flight, value: Mapping[str, Any], level: str = "") -> None:
        """Only an agent whose tools take such an argument can be told to use it."""
        asked, told = flight.asked, self.context.world.on_exchange
        if told is not None:
            told(Told(flight.key, asked.protocol, asked.body, value, level))
        self._beside.heed(asked.protocol, asked.request.kind, asked.body, value)

    async def _missed(self, request: Request, found: Match) -> None:
        """No recorded exchange may answer this. Returns where it goes to the model; else raises what it comes to."""
        policy = self.terms.miss
        diverges = found.left or found.level in _DIVERGENT
        if diverges:
            self._divergences.append(found.reason)
        if policy == "strict" and diverges:
            self.recorder.limits.stop(f"{self.context.key}: {found.reason}")
            raise self._ended(Stopping(found.reason))
        if self.terms.closed:
            raise self._ended(StepOwed(found.reason, kind="Miss" if diverges else "CutPoint"))
        self._state.missed(request, found)
        if policy == "fork" and diverges:
            await self._forked(found)

    async def _forked(self, found: Match) -> None:
        given_up = dict.fromkeys(found.lane)
        if found.key:  # a match that is a divergence: this one, and what extends it
            end = self._recorded.named[found.key].request.chain
            longer = (one for one in self._recorded if len(one.request.chain) >= len(end))
            given_up.update((one.key, None) for one in longer if one.request.chain[len(end) - 1] == end[-1])
        given_up = {key: None for key in given_up if self._state.free(self._recorded.named[key])}
        if given_up:
            self._state.abandoned(given_up)
            await self.recorder.void(given_up, f"fork: {found.reason}")

    def _departed(self, flight: Flight) -> Flight:
        flight.readers = 1
        self._flights.setdefault(flight.asked.digest, []).append(flight)
        return flight

    def left(self, flight: Flight) -> None:
        """One client reads this answer no more."""
        flight.readers -= 1
        self._settle(flight)

    def _settle(self, flight: Flight) -> None:
        """What is over is no flight any more, but for an answer that is still read: who reads it may have hung up
        unnoticed, and ask again. If nobody saw its end, its next equal is given it."""
        whole = flight.asked.digest
        flights = self._flights.get(whole, [])
        if flight not in flights or not flight.over or (flight.answered and not flight.alone):
            return
        flights.remove(flight)
        if not flights:
            del self._flights[whole]
        if not flight.answered:
            return
        if not flight.delivered:
            self._unseen.setdefault(whole, deque()).append(flight.key)
            return
        self._seen.pop(whole, None)
        self._seen[whole] = flight.key
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    # live

    def _fly(self, asked: Asked) -> Flight:
        provider = self.provider(asked.protocol)
        if self.context.meter is not None:
            try:
                self.context.meter.check()
            except StepTimeout as error:
                raise self._ended(error) from None
        if self.replaying or self.on_live is not None:
            self.replaying, told, self.on_live = False, self.on_live, None
            if told is not None:
                told()
        self._seen.pop(asked.digest, None)  # a retry from now on is one of this
        flight = self._departed(Flight(self._key(asked), asked))
        task = asyncio.create_task(self._record(flight, provider), name=f"onward exchange {flight.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return flight

    def _key(self, asked: Asked) -> Key:
        """`llm:HASH12#k`: the first of its equals that has no answer and is not under way."""
        whole = asked.digest
        name = f"{PREFIX}{whole.hex()[:12]}"
        flying = {one.key for one in self._flights.get(whole, ())}
        number = self._settled.get(whole, 0) + 1
        first = True
        while True:
            key = self.context.key / f"{name}#{number}"
            kept = self.context.history.newest(key)
            if kept is not None and kept.row.outcome == "ok":
                if first:  # all before it are answered too, and stay so
                    self._settled[whole] = number
            elif key in flying:
                first = False
            else:
                return key
            number += 1

    async def _record(self, flight: Flight, provider: Provider) -> None:
        asked, whole = flight.asked, flight.asked.digest
        sent = asked.as_model(self.terms.live[asked.model]) if asked.model in self.terms.live else asked
        sending = Sending(flight, sent, provider, self._upstream, self._prices, self.clock, self._order)
        step = Step(
            flight.key, Fingerprint.of(model=f"{provider.name}/{sent.model}", request=whole.hex()), _never, "error",
            self.context.meter,
        )  # fmt: skip
        try:
            # What the agent asked is what it will ask again: it is recorded with its own word for the model.
            call = replace(bound_of(sent, provider, self._prices), body=asked.body, turns=asked.turns)
            value = await self.recorder.call(self.context.history, step, call, sending)
            self._answered(flight, sending, value)
        except OnwardError as error:
            self._refused(flight, sending, error)
        except BaseException as error:
            self._refused(flight, sending, OnwardError(f"{type(error).__name__}: {error}"))
            if isinstance(error, Exception):
                self._ended(error)
                return
            raise
        finally:
            self._settle(flight)

    def _answered(self, flight: Flight, sending: Sending, value: Mapping[str, Any]) -> None:
        asked = flight.asked
        self._paid += 1
        self.trouble = None
        if self._replays:
            self._state.served(asked.request, self._recorded.add(exchange_of(flight.key, asked.request, value)))
        head = sending.head
        if "body" in value:
            length = str(sum(map(len, sending.held)))
            head = Head(head.status, {**head.headers, "content-length": length})
        flight.end(head, sending.held, answered=True)
        self._heed(flight, value)
        self._spend(value.get("usage") or {})

    def _refused(self, flight: Flight, sending: Sending, error: OnwardError) -> None:
        """The exchange came to nothing: the agent sees the provider's own refusal, where there was one."""
        if isinstance(error, Stopping | BudgetReached | StepTimeout | ProviderStopped) or not isinstance(
            error, StepOwed | StepFailed
        ):
            self._ended(error)
        if isinstance(error, StepOwed | CallError):
            self.trouble = error
        if flight.refused is None:
            status, said = (502, error.reason) if isinstance(error, StepOwed) else (403, str(error))
            self._end_refused(flight, status, said)
            return
        head, body = flight.refused
        flight.end(Head(head.status, {**head.headers, "content-length": str(len(body))}), [body], answered=False)

    @staticmethod
    def _end_refused(flight: Flight, status: int, said: str) -> None:
        body = refusal(flight.asked.protocol, status, said)
        head = Head(status, {"content-type": "application/json", "content-length": str(len(body))})
        flight.end(head, [body], answered=False)

    def _spend(self, usage: Mapping[str, Any]) -> None:
        if self.context.meter is not None:
            try:
                self.context.meter.spent(int(usage.get("input", 0)) + int(usage.get("output", 0)))
            except StepTimeout as error:
                self._ended(error)

    def _ended(self, error: Exception) -> Exception:
        """Nothing more may be done in this step, and why: the step itself raises it when its body is over."""
        if self.context.ended is None:
            self.context.ended = error
        self.over.set()
        return self.context.ended

    # its end

    async def leave(self, *, drain: bool) -> None:
        """Wait until what is under way is recorded; without `drain` it is given up, and is in doubt."""
        tasks = list(self._tasks)
        if not drain:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def report(self) -> dict[str, Any]:
        """What was served and paid, for the trial's result."""
        left = [one for one in self._recorded if self._state.free(one)] if self._replays else []
        return {
            "paid": self._paid, "served": dict(self._levels), "divergences": len(self._divergences),
            "first_divergence": self._divergences[0] if self._divergences else None, "policy": self.terms.miss,
            "rules": self.terms.rules.name, "left": len(left),
            "reproducible": not self._beside.started,
        }  # fmt: skip


async def _never() -> Any:
    raise AssertionError("an exchange is sent, not run")
