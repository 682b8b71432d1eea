"""A rehearsal: a real agent plays a small episode against a scripted provider, twice, with nothing at stake.

What its requests then differ in, and no rule covers, is what a resume would stumble over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from onward import lease
from onward.agents.contract import Agent, Said
from onward.agents.performing import Stage
from onward.clock import SystemClock
from onward.context import Context, World, trial_context
from onward.episode import Episode
from onward.fingerprint import Fingerprint
from onward.gateway.normalisers import Uncovered, rules_for, uncovered
from onward.gateway.providers import Provider
from onward.gateway.proxy import Door
from onward.gateway.script import EQUAL_EPISODE, Script
from onward.gateway.scripted import ProviderServer
from onward.history import History
from onward.journal import MemoryJournal
from onward.keys import Key
from onward.limits import Bounds, Limits
from onward.once import Recorder
from onward.plan import Voids
from onward.retry import Retry
from onward.sandbox import scratch

__all__ = ["Rehearsal", "rehearse"]

_TRIAL = Key.of("rehearsal", "episode", "1")
_SECONDS = 300.0
_MODELS = {"chat": "openai", "responses": "openai-responses", "messages": "anthropic", "gemini": "google"}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it."""

    rules: str
    calls: tuple[int, int]
    """How many requests each of the two made."""
    same_work: bool
    """Whether both left the same files."""
    uncovered: tuple[Uncovered, ...]


async def rehearse(adapter: Agent, options: Mapping[str, Any], cache: Path, place: Path, say: Said) -> Rehearsal:
    """Play it twice, in sandboxes below `place`. Raises UsageError, and StepError where the agent comes to no end."""
    adapter.check(options)
    rules = rules_for(adapter.name, adapter.wanted(options))
    requests, works = [], []
    for attempt in ("first", "second"):
        say(f"{adapter.name}: the {attempt} episode")
        asked, work = await _play(adapter, options, cache, place, say)
        requests.append(asked)
        works.append(work)
    calls = (len(requests[0]), len(requests[1]))
    return Rehearsal(rules.name, calls, works[0] == works[1], tuple(uncovered(requests[0], requests[1], rules)))


async def _play(
    adapter: Agent, options: Mapping[str, Any], cache: Path, place: Path, say: Said
) -> tuple[list[tuple[str, Mapping[str, Any]]], str]:
    """The requests of one episode, and the digest of what it left."""
    episode = Episode(adapter.name, "scripted/model", "Write the notes, then out.json.", options)
    # Its ids are always the same: on a resume the agent is given the recorded ones.
    async with ProviderServer(Script(EQUAL_EPISODE, ids="call")) as server:
        provider = server.providers()[_MODELS[adapter.protocols[0]]]

        @asynccontextmanager
        async def reach(model: str) -> AsyncIterator[tuple[Provider, str]]:
            yield provider, "model"

        door = Door({})
        with scratch() as folder:
            socket = folder / "gateway.sock"
            await door.open(str(socket))
            try:
                stage = Stage(door, reach, cache, place, socket, "rehearsal", say)
                trial = _context()
                step = trial.child("generate")
                perform = partial(stage.perform, step, episode)
                value = await trial.run(step, Fingerprint.of(agent=adapter.name), perform, timed=True, whole=False)
            finally:
                await door.close()
        return [(request.protocol, request.body) for request in server.requests], str(value["workspace"])


def _context() -> Context:
    """A trial of a run that nobody keeps."""
    journal, clock = MemoryJournal(), SystemClock()
    lease.claim(journal, clock, force=True)
    recorder = Recorder(journal, clock, Limits(Bounds(), clock), Retry(attempts=1))
    world = World(recorder, None, _nothing)  # type: ignore[arg-type]  # agents ask through the door alone
    return trial_context(world, _TRIAL, History.read(journal, _TRIAL, Voids()), {"time": _SECONDS})


def _nothing(digest: str) -> bytes:
    raise LookupError(digest)
