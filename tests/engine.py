"""The engine without the world: a journal in memory, a clock that jumps, a model that is a function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from onward import lease
from onward.ask import Answer, Call, Message, Usage
from onward.context import Context, World, trial_context
from onward.entry import Entry, unpack
from onward.errors import CallTransient
from onward.fingerprint import digest_of
from onward.history import History
from onward.journal import Journal, MemoryJournal
from onward.keys import Key
from onward.limits import Bounds, Limits, Spending
from onward.once import Event, Recorder
from onward.plan import Voids
from onward.retry import Retry
from onward.testing import FakeClock, InlineJournal

T = TypeVar("T")
TRIAL = Key.of("solver", "task", "1")
Said = str | Answer | BaseException


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end; a hang is a failure."""
    return asyncio.run(asyncio.wait_for(work, 110))


class Model:
    """An Ask whose model is a function of (message text, params). It knows what was asked and what was answered."""

    def __init__(
        self, answer: Callable[[str, Mapping[str, Any]], Said | Awaitable[Said]] | None = None, *, usd: float = 0.0,
        tokens: int = 0, provider: str = "fake",
    ) -> None:  # fmt: skip
        self.answer = answer or (lambda text, _: f"answer to {text}")
        self.usd, self.tokens, self.provider = usd, tokens, provider
        self.asked: list[str] = []
        self.answered: Counter[str] = Counter()

    def prepare(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Call:
        provider, _, name = model.rpartition("/")
        body = {"messages": [dict(message) for message in messages], "params": dict(params)}
        return Call(provider or self.provider, "python", name, body, self.tokens, self.usd)

    async def send(self, call: Call, on_text: Callable[[str], None] | None = None) -> Answer:
        text = call.body["messages"][-1]["content"]
        self.asked.append(text)
        said = self.answer(text, call.body["params"])
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, BaseException):
            raise said
        self.answered[digest_of(call.body)] += 1
        if isinstance(said, str):
            return Answer(said, usage=Usage(self.tokens, 0), usd=self.usd)
        return said

    async def close(self) -> None:
        pass


class Bench:
    """One run's engine. `again()` is what a new process over the same journal has."""

    def __init__(
        self, model: Model | None = None, *, journal: Journal | None = None, clock: FakeClock | None = None,
        bounds: Bounds | None = None, retry: Retry | None = None, limits: Mapping[str, Any] | None = None,
        stored: Journal | None = None, generation_of: Any = None,
    ) -> None:  # fmt: skip
        self.model = model or Model()
        self.stored = stored or MemoryJournal()
        self.clock = clock or FakeClock()
        self.journal = journal or InlineJournal(self.stored)
        lease.claim(self.journal, self.clock, force=True)
        self.limits, self.bounds, self.retry = limits or {}, bounds or Bounds(), retry
        sums = self.journal.sums()
        self.gate = Limits(
            self.bounds, self.clock, Spending(sums.spent[0] + sums.doubt[0], sums.spent[1] + sums.doubt[1])
        )
        self._recorder: Recorder | None = None
        self.events: list[Event] = []

    @property
    def recorder(self) -> Recorder:
        if self._recorder is None:
            self._recorder = Recorder(self.journal, self.clock, self.gate, self.retry)
            self._recorder.listeners.append(self.events.append)
        return self._recorder

    def again(self, **changes: Any) -> Bench:
        kept: dict[str, Any] = {
            "model": self.model, "clock": self.clock, "bounds": self.bounds, "retry": self.retry,
            "limits": self.limits, "stored": self.stored,
        }  # fmt: skip
        return Bench(**{**kept, **changes})

    def voids(self) -> Voids:
        return Voids((e.seq, e.data["prefixes"]) for e in self.entries("void"))

    def context(self, key: Key = TRIAL) -> Context:
        """A trial's context, with what the journal holds for it."""
        world = World(self.recorder, self.model, lambda _: b"")
        return trial_context(world, key, History.read(self.journal, key, self.voids()), self.limits)

    def entries(self, *kinds: str) -> list[Entry]:
        return [unpack(row, self.journal.blob, seq=seq) for seq, row in self.journal.rows("", kinds=kinds)]

    def results(self) -> dict[str, list[str]]:
        """Key → the outcomes of its results, in order."""
        found: dict[str, list[str]] = {}
        for entry in self.entries("result"):
            found.setdefault(entry.key, []).append(str(entry.outcome))
        return found


def busy(status: int = 503, retry_after: float | None = None) -> CallTransient:
    """A provider's trouble that passes."""
    return CallTransient(f"HTTP {status}", provider="fake", status=status, retry_after=retry_after)
