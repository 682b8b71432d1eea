"""How much may be under way, how fast, and for how much money. Taken only at leaves: a provider call, a tool process.

A call takes all at once or nothing: a place in the run, a place at its provider, its share of the rate, its reservation
of the budget. Who waits holds nothing, and who holds a permit never waits for another, so nothing can deadlock, and a
provider that is full, slow or closed holds up only its own calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from onward.ask import Call
from onward.clock import Clock, iso
from onward.errors import BudgetReached, CallError, ProviderStopped, Stopping

__all__ = ["Bounds", "Limits", "Permit", "Rate", "Spending"]


@dataclass(frozen=True, slots=True)
class Rate:
    """Bounds at one provider. None: no bound of its own."""

    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """All bounds of a run. Money in USD over all its invocations; None: no bound."""

    concurrency: int = 10
    providers: Mapping[str, Rate] = field(default_factory=dict)
    budget_usd: float | None = None
    budget_tokens: int | None = None
    max_errors: int = 20
    max_wait: float = 6 * 3600.0


@dataclass(slots=True)
class Spending:
    """What this run has spent so far, over all invocations: billed, plus calls in doubt at their upper bound."""

    usd: float = 0.0
    tokens: int = 0
    reserved_usd: float = 0.0
    reserved_tokens: int = 0


class _Bucket:
    """A rate per minute, with one minute's worth as its largest burst for tokens and one second's for requests."""

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self.rate, self.burst = per_minute / 60.0, burst
        self.level, self.at = burst, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there. More than a burst is let through at a full one, and paid off after."""
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        missing = min(amount, self.burst) - self.level
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Take it; call `wait` first."""
        self.level -= amount


class _Door:
    """One provider: who is inside, how wide it stands open, until when it is closed."""

    def __init__(self, name: str, rate: Rate, default: int, now: float) -> None:
        self.name = name
        self.most = min(rate.concurrency or default, default)
        self.width = float(self.most)
        self.inside = 0
        self.closed_until = 0.0
        self.told = 0.0
        self.narrowed_at = -60.0
        self.stopped: CallError | None = None
        rpm, tpm = rate.requests_per_minute, rate.tokens_per_minute
        self.requests = _Bucket(rpm, max(1.0, rpm / 60.0), now) if rpm else None
        self.tokens = _Bucket(tpm, tpm, now) if tpm else None

    def wait(self, call: Call, now: float) -> float:
        """Seconds until the provider's Retry-After and its rates let this call through."""
        pause = self.closed_until - now
        if self.requests:
            pause = max(pause, self.requests.wait(1.0, now))
        if self.tokens:
            pause = max(pause, self.tokens.wait(call.tokens or 0, now))
        return pause

    def take(self, call: Call) -> None:
        """Let it in."""
        self.inside += 1
        if self.requests:
            self.requests.take(1.0)
        if self.tokens:
            self.tokens.take(call.tokens or 0)

    def narrow(self, now: float) -> None:
        """A 429: halve, once per five seconds, since what was in flight is answered alike."""
        if now - self.narrowed_at >= 5.0:
            self.width, self.narrowed_at = max(1.0, self.width / 2), now

    def widen(self) -> None:
        """An answer: one more place per round of answers."""
        if self.width < self.most:
            self.width = min(float(self.most), self.width + 1.0 / self.width)


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one call now."""

    door: _Door
    usd: float
    tokens: int


class Limits:
    """The bounds of one run at work."""

    def __init__(self, bounds: Bounds, clock: Clock, spending: Spending | None = None) -> None:
        self.bounds, self.clock = bounds, clock
        self.spending = spending or Spending()
        self.inside = 0
        self.stopping: str | None = None
        self.on_wait: Callable[[str], None] = lambda _: None
        self._doors: dict[str, _Door] = {}
        self._waiting: deque[tuple[_Door, Call, asyncio.Future[None]]] = deque()
        self._alarm: asyncio.Task[None] | None = None
        self._rings_at = 0.0

    def _door(self, provider: str) -> _Door:
        door = self._doors.get(provider)
        if door is None:
            rate = self.bounds.providers.get(provider, Rate())
            door = _Door(provider, rate, self.bounds.concurrency, self.clock.ticks())
            self._doors[provider] = door
        return door

    def stop(self, why: str) -> None:
        """Let nothing new start; what waits is told so."""
        self.stopping = self.stopping or why
        self._wake()

    @property
    def stopped_providers(self) -> dict[str, str]:
        """Providers that will answer nothing until somebody acts, and why."""
        return {name: str(door.stopped) for name, door in self._doors.items() if door.stopped}

    async def enter(self, call: Call) -> Permit:
        """Wait until this call may leave.

        Raises Stopping (the run stops), ProviderStopped, BudgetReached (it does not fit what is left).
        """
        door = self._door(call.provider)
        if self._waiting or not self._fits(door, call):
            await self._queue(door, call)
        else:
            self._take(door, call)
        return Permit(door, call.usd or 0.0, call.tokens or 0)

    async def pause(self, seconds: float) -> None:
        """Wait before a call is tried again, holding nothing. Raises Stopping as soon as the run stops."""
        while seconds > 0:
            if self.stopping:
                raise Stopping(self.stopping)
            step = min(seconds, 1.0)
            await self.clock.sleep(step)
            seconds -= step

    def _refuse_if_stopped(self, door: _Door) -> None:
        if self.stopping:
            raise Stopping(self.stopping)
        if door.stopped:
            raise ProviderStopped(door.stopped.reason, provider=door.name, status=door.stopped.status)

    def _fits(self, door: _Door, call: Call) -> bool:
        """Whether the call may start now. Raises where it never may."""
        self._refuse_if_stopped(door)
        if self.inside >= self.bounds.concurrency or door.inside >= int(door.width):
            return False
        if not self._fits_budget(call):
            return False
        now = self.clock.ticks()
        pause = door.wait(call, now)
        if pause > 0:
            self._wake_at(now + pause)
            self._tell(door, now)
            return False
        return True

    def _tell(self, door: _Door, now: float) -> None:
        if door.closed_until - now > 10.0 and door.told != door.closed_until:
            door.told = door.closed_until
            self.on_wait(f"waiting for {door.name} until {iso(self.clock.now() + door.closed_until - now)}")

    def _fits_budget(self, call: Call) -> bool:
        spending, bounds = self.spending, self.bounds
        if bounds.budget_usd is not None:
            if call.usd is None:
                raise BudgetReached(
                    f"the price or the largest output of {call.model} is not known, so a budget cannot hold: "
                    "give --price IN/OUT and max_tokens, or leave out --budget-usd"
                )
            if spending.usd + spending.reserved_usd + call.usd > bounds.budget_usd + 1e-12:
                if self.inside > 0:
                    return False
                left = max(0.0, bounds.budget_usd - spending.usd)
                raise BudgetReached(f"the next call may cost ${call.usd:.4f}, ${left:.4f} of the budget is left")
        if bounds.budget_tokens is not None:
            need = call.tokens or 0
            if spending.tokens + spending.reserved_tokens + need > bounds.budget_tokens:
                if self.inside > 0:
                    return False
                left_tokens = max(0, bounds.budget_tokens - spending.tokens)
                raise BudgetReached(f"the next call may take {need} tokens, {left_tokens} of the budget are left")
        return True

    def _take(self, door: _Door, call: Call) -> None:
        self.inside += 1
        door.take(call)
        if door.told:
            door.told = 0.0
            self.on_wait("")
        self.spending.reserved_usd += call.usd or 0.0
        self.spending.reserved_tokens += call.tokens or 0

    async def _queue(self, door: _Door, call: Call) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((door, call, place))
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave(Permit(door, call.usd or 0.0, call.tokens or 0), usd=0.0, tokens=0)
            else:
                self._wake()
            raise

    def _wake_at(self, when: float) -> None:
        """Look again at this moment: the first of those at which a provider opens."""
        if self._alarm is not None:
            if self._rings_at <= when + 1e-6:
                return
            self._alarm.cancel()
        self._rings_at = when
        self._alarm = asyncio.ensure_future(self._ring(when))

    async def _ring(self, when: float) -> None:
        await self.clock.sleep(max(0.0, when - self.clock.ticks()))
        self._alarm = None
        self._wake()

    def _wake(self) -> None:
        """Let in whoever fits, in order; a full provider does not hold up those who wait for another."""
        left: list[tuple[_Door, Call, asyncio.Future[None]]] = []
        while self._waiting:
            if self.inside >= self.bounds.concurrency and not self.stopping:
                break
            door, call, place = self._waiting.popleft()
            if place.done():
                continue
            try:
                fits = self._fits(door, call)
            except (CallError, Stopping) as error:
                place.set_exception(error)
                continue
            if fits:
                self._take(door, call)
                place.set_result(None)
            else:
                left.append((door, call, place))
        self._waiting.extendleft(reversed(left))
        if not self._waiting and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def leave(self, permit: Permit, *, usd: float | None, tokens: int | None, error: CallError | None = None) -> None:
        """The call is over: give the places back and turn the reservation into what was billed.

        `usd` None means that the price is unknown. A 429 narrows its provider, a Retry-After closes it until then.
        """
        door, spending = permit.door, self.spending
        self.inside -= 1
        door.inside -= 1
        spending.reserved_usd = max(0.0, spending.reserved_usd - permit.usd)
        spending.reserved_tokens -= permit.tokens
        if not self.inside:
            spending.reserved_usd, spending.reserved_tokens = 0.0, 0  # what adding and taking away left of fractions
        spending.usd += usd or 0.0
        spending.tokens += tokens or 0
        if error is None:
            door.widen()
        elif isinstance(error, ProviderStopped):
            door.stopped = error
        else:
            now = self.clock.ticks()
            if error.status == 429:
                door.narrow(now)
            if error.retry_after and error.retry_after <= self.bounds.max_wait:
                door.closed_until = max(door.closed_until, now + error.retry_after)
        self._wake()
