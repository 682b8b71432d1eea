"""A trial's own limits: its active time and its tokens, over all attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from onward.clock import Clock
from onward.errors import StepTimeout

__all__ = ["Meter"]

_TICK = 5.0
"""Seconds of active time that a kill may forget."""


class Meter:
    """A trial's active time: the sum over its attempts, less what was served from the record and less waiting for
    our limiter or a provider's Retry-After.

    Samples of one trial share it. While one call waits and another is under way, time counts.
    """

    def __init__(
        self, clock: Clock, limit: float | None, before: float = 0.0, tokens: int | None = None, used_tokens: int = 0,
        *, own: bool = False,
    ) -> None:  # fmt: skip
        self.clock, self.limit, self.tokens, self.used_tokens = clock, limit, tokens, used_tokens
        self.own = own
        """Only what this run used is charged: what it took over was charged where it was paid."""
        self._active, self._noted, self._at = before, before, 0.0
        self._running = self._waiting = self._sending = 0
        self._held = 0

    @property
    def active(self) -> float:
        """Seconds so far, over all attempts."""
        now = self.clock.ticks()
        if self._running and not self._parked:
            self._active += now - self._at
        self._at = now
        return self._active

    @property
    def running(self) -> bool:
        """Whether something that it bounds is under way."""
        return self._running > 0

    @property
    def _parked(self) -> bool:
        return self._held >= self._running > 0 or (self._waiting > 0 and not self._sending)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For our own limiter, or for a provider's Retry-After."""
        _ = self.active
        self._waiting += 1
        try:
            yield
        finally:
            _ = self.active
            self._waiting -= 1

    def hold(self) -> None:
        """One of what runs is served from the record: what it does was counted when it was first done."""
        _ = self.active
        self._held += 1

    def release(self) -> None:
        """Its record is used up: time counts again."""
        _ = self.active
        self._held -= 1

    @contextmanager
    def sending(self) -> Iterator[None]:
        """A call is under way."""
        _ = self.active
        self._sending += 1
        try:
            yield
        finally:
            _ = self.active
            self._sending -= 1

    def spent(self, tokens: int) -> None:
        """Count tokens against the trial's own limit. Raises StepTimeout when it is passed."""
        self.used_tokens += tokens
        self.check()

    def check(self) -> None:
        """Raise StepTimeout where the trial's token limit is used up: before a call, so none is paid in vain."""
        if self.tokens is not None and self.used_tokens >= self.tokens:
            raise StepTimeout(f"the trial's limit of {self.tokens} tokens is used up", kind="TokenLimit")

    async def run(self, body: Awaitable[Any], tick: Callable[[float], Awaitable[None]]) -> Any:
        """Await the body within what is left of the limit; `tick` every five seconds of active time."""
        _ = self.active
        self._running += 1
        task = asyncio.ensure_future(body)
        pause: asyncio.Future[None] | None = None
        try:
            while True:
                left = _TICK if self.limit is None else self.limit - self.active
                if left <= 1e-6:
                    raise StepTimeout(f"the trial's limit of {self.limit:g} s of active time", kind="TimeLimit")
                pause = asyncio.ensure_future(self.clock.sleep(1.0 if self._parked else min(_TICK, left)))
                done, _ = await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
                if task in done:
                    return task.result()
                if self.active - self._noted >= _TICK - 1e-6:
                    self._noted = self.active
                    await tick(self.active)
        finally:
            if pause is not None:
                pause.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            _ = self.active
            self._running -= 1
