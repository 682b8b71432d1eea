"""An episode: what an agent and its model said to each other under one generate step, as lanes of turns.

The journal holds what was paid, and what of it was given to the agent again in a later attempt. A request that was
answered from the record is in it as a digest only: a served turn shows the request that it was recorded with, and where
the later one first differed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from onward.entry import Entry, unpack
from onward.errors import NotThere, UsageError
from onward.keys import Key
from onward.runs import Run
from onward.views.address import Address
from onward.views.trajectory_lanes import paths
from onward.views.trajectory_turns import Calls, Heard, Turn, answered, heard
from onward.views.trials import trial

__all__ = ["Episode", "GivenUp", "Lane", "episodes", "is_added", "narrowed"]

_WRAPPED = re.compile(r"\s*<([\w-]+)[^>]*>.*</\1>\s*", re.DOTALL)
_PROMPT = 12
"""Characters from which a tool's argument can be what a sub-agent is told."""


@dataclass(slots=True)
class Lane:
    """One conversation."""

    number: int
    kind: str
    """`main`; `branch` of another lane; `sub-agent`, told what a tool was called with; `side call`, which is a single
    exchange; else `conversation`."""
    name: str
    """What its user said first, but for what agents add to it."""
    after: tuple[int, int] | None
    """The lane and turn that it came from."""
    turns: list[Turn]


@dataclass(slots=True)
class GivenUp:
    """What a void put out of account: answers within the episode, or all that was done before it began again. The money
    stays spent."""

    exchanges: int
    usd: float
    why: str
    attempts: int = 0
    """How many attempts began in vain, where it began again; 0: only some of its answers."""
    ended: bool = False
    """Whether the last of these had come to an end."""


@dataclass(slots=True)
class Episode:
    """One sample of a trial."""

    key: Key
    solver: str
    agent: str
    """Name and version, where it was an agent that came to an end."""
    outcome: str
    """The trial's: `missing` while anything is owed."""
    sample: str
    """What this sample itself came to; empty where it is not over."""
    reason: str
    scores: dict[str, Any]
    attempts: int
    generation: int
    active: float | None
    """Seconds, where the step is timed."""
    policy: str = ""
    """What was to be done about a divergence. This and the next three are told by an attempt that came to an end."""
    divergences: int = 0
    first_divergence: str = ""
    reproducible: bool = True
    """Whether nothing was started that went on beside the conversation: no record brings back its timing."""
    models: list[str] = field(default_factory=list)
    exchanges: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    """How many exchanges are `live`, `recorded`, `served`, `in doubt`, …"""
    levels: dict[str, int] = field(default_factory=dict)
    """How many were served at which level."""
    usd: float = 0.0
    """What this run paid, over all attempts."""
    unpriced: int = 0
    """How many answers have no known price."""
    reused_usd: float = 0.0
    reused_tokens: int = 0
    """What was paid elsewhere, for what was taken over."""
    doubt_usd: float = 0.0
    tokens: int = 0
    given_up: list[GivenUp] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)


def episodes(run: Run, place: Address) -> list[Episode]:
    """Those of an address. Raises UsageError for a stage that has none."""
    if place.stage.partition("/")[0] not in ("", "generate") or place.exchange:
        raise UsageError("a trajectory is of a trial: onward show RUN/TASK --trajectory")
    samples = [place.stage] if "/" in place.stage else run.plan.shape.steps("generate")
    return [_episode(run, key, sample, scored=place.scored) for key in place.trials for sample in samples]


def is_added(text: str) -> bool:
    """Whether an agent says this beside the task, wrapped in a tag: a reminder, what surrounds it."""
    return _WRAPPED.fullmatch(text) is not None


def narrowed(found: Sequence[Episode], lane: int | None, turn: int | None) -> None:
    """Leave only this lane, and only the turns of this number. Raises NotThere where no episode has it."""
    if lane is not None:
        most = max((len(episode.lanes) for episode in found), default=0)
        _there("lane", lane, most)
        for episode in found:
            episode.lanes = [one for one in episode.lanes if one.number == lane]
    if turn is not None:
        _there("turn", turn, max((len(one.turns) for episode in found for one in episode.lanes), default=0))
        for episode in found:
            for one in episode.lanes:
                one.turns = [single for single in one.turns if single.number == turn]
            episode.lanes = [one for one in episode.lanes if one.turns]


def _there(what: str, number: int, most: int) -> None:
    if not 0 < number <= most:
        there = f"there are 1 to {most}" if most > 1 else "there is one" if most else "no model was asked"
        raise NotThere(f"there is no {what} {number}: {there}")


def _episode(run: Run, key: Key, sample: str, *, scored: bool) -> Episode:
    step = Key(f"{key}/{sample}")
    known, read = trial(run, key, scored=scored), _read(run, step)
    result = read.own[-1] if read.own and read.own[-1].kind == "result" else None
    done: Mapping[str, Any] = result.value if result is not None and isinstance(result.value, Mapping) else {}
    sampled = str(result.outcome) if result is not None else ""
    attempts, began = read.newest
    agent = " ".join(str(part) for part in (done.get("agent") or {}).values() if part)
    report = done.get("exchanges") or {}
    episode = Episode(
        step, known.solver, agent, known.outcome, sampled, known.reason, known.scores,
        attempts, run.voids.generation(step), read.active, str(report.get("policy") or ""),
        int(report.get("divergences") or 0), str(report.get("first_divergence") or ""),
        report.get("reproducible", True),
    )  # fmt: skip
    told = [heard(calls, began) for calls in read.calls.values()]
    episode.lanes = _lanes(sorted(told, key=lambda one: one.had))
    episode.given_up = _given_up(run, step, read)
    _count(episode, [one.turn for one in told], read)
    return episode


def _models(turns: Sequence[Turn]) -> list[str]:
    """Who was asked; `a (recorded)`, `b (live)` where what was taken over was asked of another."""
    taken = {turn.model for turn in turns if turn.model and turn.origin is not None}
    own = {turn.model for turn in turns if turn.model and turn.origin is None}
    found = dict.fromkeys(turn.model for turn in turns if turn.model)
    if not taken or own <= taken:
        return list(found)
    said = {one: " (recorded)" if one not in own else " (live)" if one not in taken else "" for one in found}
    return [f"{one}{how}" for one, how in said.items()]


def _count(episode: Episode, turns: Sequence[Turn], read: _Read) -> None:
    episode.exchanges = len(turns)
    episode.models = _models(turns)
    episode.marks = dict(Counter(turn.mark for turn in turns))
    episode.levels = dict(Counter(turn.level for turn in turns if turn.mark == "served"))
    results = [entry for calls in read.calls.values() for entry in calls.results]
    for entry in chain(results, read.covered):
        if entry.reused:
            episode.reused_usd += entry.usd or 0.0
            episode.reused_tokens += entry.tokens or 0
        else:
            episode.usd += entry.usd or 0.0
            episode.unpriced += entry.usd is None and bool(entry.tokens)
            episode.tokens += entry.tokens or 0
    episode.doubt_usd = sum(one.usd or 0.0 for turn in turns for one in turn.tries if one.outcome == "in doubt")


# ---------------------------------------------------------------- from the journal


@dataclass(slots=True)
class _Read:
    """What lies under a step."""

    calls: dict[str, Calls] = field(default_factory=dict)
    own: list[Entry] = field(default_factory=list)
    """The step's own entries: what was noted of an attempt, and what it came to."""
    served: list[Entry] = field(default_factory=list)
    covered: list[Entry] = field(default_factory=list)
    """Results of exchanges that a void put out of account."""
    earlier: list[Entry] = field(default_factory=list)
    """The step's own entries before it began again."""

    @property
    def active(self) -> float | None:
        """Seconds of active time, as last noted."""
        under = (entry for calls in self.calls.values() for entry in (*calls.intents, *calls.results))
        noted = (float(entry.data["active"]) for entry in chain(self.own, under) if "active" in entry.data)
        return max(noted, default=None)

    @property
    def newest(self) -> tuple[int, int]:
        """The number of the newest attempt, and the seq at which it began.

        An attempt notes what it is about to do. Where none did (the traffic of a program that is not ours), it is known
        by what it was served: in one attempt no exchange is served twice.
        """
        attempt = max((entry.attempt for entry in self.own), default=1)
        if any(entry.kind == "intent" for entry in self.own):
            return attempt, min(entry.seq for entry in self.own if entry.attempt == attempt)
        began, seen, served = 0, set[str](), 1
        for entry in self.served:
            if not seen or entry.key in seen:
                began, seen, served = entry.seq, set(), served + 1
            seen.add(entry.key)
        return max(attempt, served), began


def _read(run: Run, step: Key) -> _Read:
    found = _Read()
    for seq, row in run.journal.rows(step, kinds=("intent", "result", "served")):
        leaf = row.key != step
        if leaf and row.tokens is None and row.key not in found.calls:
            continue  # a step that the solver named: what it asked lies below it
        if seq > run.voids.since(row.key):
            entry = unpack(row, run.journal.blob, seq=seq)
            if not leaf:
                found.own.append(entry)
                continue
            calls = found.calls.setdefault(row.key, Calls(row.key[len(step) + 1 :]))
            {"intent": calls.intents, "result": calls.results, "served": calls.served}[row.kind].append(entry)
            if row.kind == "served":
                found.served.append(entry)
        elif row.kind == "result" or not leaf:
            (found.covered if leaf else found.earlier).append(unpack(row, run.journal.blob, seq=seq))
    return found


def _given_up(run: Run, step: Key, read: _Read) -> list[GivenUp]:
    """What voids covered: those below the step a part of it; those of the step and above it began it again."""
    found: list[GivenUp] = []
    left, own = [entry for entry in read.covered if entry.outcome == "ok"], list(read.earlier)
    for void in run.entries("", ("void",)) if left or own else ():
        prefixes = [Key(prefix) for prefix in void.data["prefixes"]]
        whole = any(prefix.covers(step) for prefix in prefixes)
        below = [step] if whole else [prefix for prefix in prefixes if step.covers(prefix)]
        gone = [one for one in left if one.seq < void.seq and any(prefix.covers(one.key) for prefix in below)]
        begun = [one for one in own if whole and one.seq < void.seq]
        left = [one for one in left if one not in gone]
        own = [one for one in own if one not in begun]
        if not gone and not begun:
            continue
        attempts = max((one.attempt for one in begun), default=1) if whole else 0
        ended = bool(begun) and begun[-1].outcome in ("ok", "failed", "timeout")
        usd = sum(one.usd or 0.0 for one in gone)
        found.append(GivenUp(len(gone), usd, str(void.data.get("why", "")), attempts, ended))
    return found


# ---------------------------------------------------------------- lanes


def _lanes(told: Sequence[Heard]) -> list[Lane]:
    """The conversations, as their first answers came, which is how they are numbered while they grow too. The longest
    is the main one."""
    found = paths([one.spoken for one in told])
    main = max(found, key=lambda path: (path.after is None, len(path.places)), default=None)
    where = {place: (number, at) for number, path in enumerate(found, 1) for at, place in enumerate(path.places, 1)}
    lanes = []
    for number, path in enumerate(found, 1):
        turns = [told[place].turn for place in path.places]
        for at, turn in enumerate(turns, 1):
            turn.number = at
            if at > 1:
                turn.system = ""
        for place, following in zip(path.places, path.places[1:], strict=False):
            answered(told[place].turn.calls, told[following].results)
        opening = told[path.places[0]].spoken.opening
        lane = Lane(number, "main" if path is main else "", _name(opening), None, turns)
        if path.after is not None:
            lane.kind, lane.after = "branch", where[path.after]
        lanes.append(lane)
    _tell_apart(lanes, [told[path.places[0]].spoken.opening for path in found])
    return lanes


def _tell_apart(lanes: Sequence[Lane], openings: Sequence[Sequence[str]]) -> None:
    """Sub-agents, side calls, and others: by whether a tool of another lane was called with what their user says."""
    for lane, opening in zip(lanes, openings, strict=True):
        if lane.kind:
            continue
        said = [text.strip() for text in opening]
        prompts = {
            text: (other.number, turn.number)
            for other in lanes if other is not lane for turn in other.turns for call in turn.calls
            for text in _strings(call.arguments) if len(text) >= _PROMPT
        }  # fmt: skip
        told = next((prompts[text] for text in said if text in prompts), None)
        lane.after = told or next(
            (where for part, where in prompts.items() if any(part in text for text in said)), None
        )
        single = len(lane.turns) == 1 and not told
        lane.kind = "side call" if single else "sub-agent" if lane.after else "conversation"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)


def _name(opening: Sequence[str]) -> str:
    """The first thing said that is not wrapped in a tag."""
    own = (text for text in opening if text.strip() and not is_added(text))
    return next(own, next(iter(opening), ""))
