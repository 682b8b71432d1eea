"""Any program with its model traffic through the gateway: killed and started again, it is served what it was told.

    wrapped = wrap(Child(("inspect", "eval", "task.py"), Path.cwd()), Terms(), settings(), watch)

A program is a run like any other: one solver, one task, one trial, and a generate step over its exchanges.
While that step has no result, the same program goes on with it. Once it has ended by itself the step has one: the next
go voids it and records anew, or with `resume` runs over the same children, which its fingerprint's part `go` allows.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from onward import lineage
from onward.agents.pointing import pointed
from onward.clock import SystemClock
from onward.config import Settings, for_child
from onward.context import Context
from onward.drive import Ending, Invocation, drive, gateway_of, prices_of, providers_of, upstream_of
from onward.entry import unpack
from onward.errors import StepFailed, StepOwed, Stopping, UsageError
from onward.experiment import Assembled, assemble
from onward.fingerprint import digest_of
from onward.gateway.normalisers import GENERIC, Rules
from onward.gateway.providers import PROVIDERS
from onward.gateway.proxy import Door, by_protocol
from onward.keys import Key
from onward.once import Event, Recorder
from onward.progress import Quiet
from onward.regained import left_aside, written_again
from onward.runs import Run, open_run, run_id
from onward.tasks import Task
from onward.tending import Passing, Program
from onward.written import specified

__all__ = ["FORMATS", "Child", "Opening", "Terms", "Told", "Wrapped", "wrap"]

_SOLVER, _TASK = "wrap", "command"
_TRIAL = Key.of(_SOLVER, _TASK, "1")
_STEP = Key(f"{_TRIAL}/generate/0")
FORMATS: Mapping[str, str] = {
    "chat": "openai", "responses": "openai-responses", "messages": "anthropic", "gemini": "google",
}  # fmt: skip
"""Who answers each wire format where nothing else is said."""
_RIVALS = ("ANTHROPIC_AUTH_TOKEN",)
"""Variables that SDKs take for a key before they look at the ones that are set here."""
_SECRET = 8
"""Shorter keys are nobody's secret (`x`, `ollama`), and may stand in any text."""
_DEADLY = range(129, 160)
"""How shells and their like end when the program in them was killed: 128 and the signal."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program, and by what it is known again: its name, else its folder and words."""

    command: tuple[str, ...]
    folder: Path
    name: str = ""

    @property
    def program(self) -> str:
        """The first word without its folder."""
        return Path(self.command[0]).name

    @property
    def said(self) -> str:
        """The command as a shell reads it."""
        return shlex.join(self.command)

    @property
    def words(self) -> tuple[str, ...]:
        """What `onward wrap` is told to find it again."""
        return ("--name", self.name) if self.name else ("--", *self.command)

    @property
    def task(self) -> Task:
        """The one task of its run."""
        return Task(id=_TASK, input=f"onward wrap {shlex.join(self.words)}")

    @property
    def run_name(self) -> str:
        """The name of its run."""
        letters = "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in self.program)
        return self.name or f"wrap-{letters.strip('-.') or 'command'}"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms it is run."""

    resume: bool = False
    """Serve the record of a program that had ended by itself."""
    new: bool = False
    """Record anew, also where it was killed."""
    rules: Rules = GENERIC
    miss: Literal["warn", "strict", "fork", "fail"] = "warn"
    upstream: Mapping[str, str] = field(default_factory=dict)
    """Base URLs by wire format; the one under `""` is for all others."""
    key_name: str = ""
    """The NAME of the variable that holds the key for these."""

    @property
    def words(self) -> tuple[str, ...]:
        """The options of `onward wrap` by which calls find their way to an answer, recorded or not. Of an address only
        what is nobody's secret."""
        found = list[str]()
        for protocol, url in self.upstream.items():
            parts = urlsplit(url)
            plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
            found += ["--upstream", f"{protocol}={plain}" if protocol else plain]
        if self.key_name:
            found += ["--key-name", self.key_name]
        return (*found, *(("--agent", self.rules.agent) if self.rules is not GENERIC else ()))


How = Literal["new", "on", "anew", "again", "back"]


@dataclass(frozen=True, slots=True)
class Opening:
    """What this go begins with."""

    run: str
    how: How
    """`new`: nothing is recorded. `on`: it was killed, and goes on. `anew`: it had ended, and begins again. `again`: it
    had ended, and is served its record. `back`: it had begun anew and recorded nothing, and is served what it
    left aside for that."""
    recorded: int = 0
    """Answers that are there."""
    usd: float = 0.0
    """What they cost."""
    at: str = ""
    """When the last thing was recorded."""
    ended: bool = False
    """Whether it had ended by itself."""
    exit: int | None = None
    """With what; None where it had made no call."""
    go: int = 1
    command: tuple[str, ...] = ()
    """The command that this record was last made by."""
    doubt: int = 0
    doubt_usd: float = 0.0
    aside: int = 0
    """Answers that it left aside when it began anew, and that can be had back."""
    aside_usd: float = 0.0


@dataclass(slots=True)
class Wrapped:
    """What became of it."""

    run: str
    folder: Path
    code: int
    """What to end with: the program's own exit code, as shells have it."""
    exit: int | None = None
    """What it ended with; None: it was not started."""
    finished: bool = False
    """Whether the next go records anew."""
    stopped: str = ""
    """Why it is not finished."""
    silent: bool = False
    """Whether it made no call."""
    served: int = 0
    paid: int = 0
    usd: float = 0.0
    unpriced: int = 0
    """Paid calls without a known price."""
    doubt: int = 0
    doubt_usd: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    """How it was told where the gateway is: `NAME=value`."""
    keys: tuple[str, ...] = ()
    """The variables that hold its token."""


class Told(Protocol):
    """Who hears how it goes."""

    def opened(self, opening: Opening) -> None:
        """Before the program is started."""
        ...

    def say(self, line: str) -> None:
        """One line for people."""
        ...


# ---------------------------------------------------------------- the run


def wrap(child: Child, terms: Terms, settings: Settings, told: Told) -> Wrapped:
    """Find or make the program's run, and run the program in it to its end.

    Raises UsageError, Held, Damaged, OSError; what becomes of the program is in what is returned.
    """
    return asyncio.run(wrap_async(child, terms, settings, told))


async def wrap_async(child: Child, terms: Terms, settings: Settings, told: Told) -> Wrapped:
    """See `wrap`."""
    solver = {"name": _SOLVER, "wrapped": child.words}
    assembled = assemble(specified({"name": child.run_name, "solver": [solver]}), child.folder)
    pointed_at = assembled.spec.model_copy(update={"providers": _providers(terms, settings)})
    go = _Go(child, terms, settings, replace(assembled, spec=pointed_at), told)
    go.refuse_keys()
    folder = await _folder(child, terms, assembled, settings)
    ending = await drive(Invocation(
        folder, go.assembled, settings, go, gateway_of(go.assembled, settings), prelude=go.settle, verb="wrap",
        signals=lambda runner, _: Passing(go.program, runner.stop_now), again=True,
    ))  # fmt: skip
    return go.wrapped(ending)


async def _folder(child: Child, terms: Terms, assembled: Assembled, settings: Settings) -> Path:
    source = {"wrap": 1} if child.name else {"wrap": 1, "folder": str(child.folder)}
    made = lineage.wanted(assembled, source, {}, [child.task], None)
    standing = lineage.existing(settings.store, assembled.spec.name, run_id(made.identity, 0, None))
    notes = {"command": list(child.command), "terms": list(terms.words)}
    return standing or await lineage.create(settings.store, made, SystemClock(), notes=notes)


def _providers(terms: Terms, settings: Settings) -> dict[str, Any]:
    """Where each format's calls go, where that is not its known provider: as an experiment would say it."""
    found: dict[str, Any] = {}
    for protocol, name in FORMATS.items():
        stated = terms.upstream.get(protocol) or terms.upstream.get("")
        if stated:
            key = terms.key_name or PROVIDERS[name].key_name
            known = key if terms.key_name or settings.keys.get(key) else ""  # many a compatible server wants none
            found[name] = {"base_url": _based(protocol, stated), "key_name": known}
        elif protocol == "responses" and "openai" in settings.base_urls:
            found[name] = {"base_url": settings.base_urls["openai"]}
    return {name: specified({"providers": {name: entry}}).providers[name] for name, entry in found.items()}


def _based(protocol: str, url: str) -> str:
    """A base URL as this format has it: with a version in OpenAI's two, without one in the others."""
    base = url.rstrip("/")
    if protocol in ("messages", "gemini"):
        return base.removesuffix("/v1")
    return base if base.count("/") > 2 else f"{base}/v1"


def _opening(run: Run, terms: Terms) -> Opening:
    """What is recorded of it, and so what this go is."""
    since = run.voids.since(_STEP)
    answers: dict[str, float] = {}
    finished: list[int] = []
    value: Mapping[str, Any] = {}
    newest, at = 0, ""
    for seq, row in run.journal.rows(_STEP, kinds=("intent", "result", "served")):
        if seq <= since:
            continue
        newest, at = seq, row.at
        if row.kind == "result" and row.key == _STEP and row.outcome in ("ok", "failed"):
            finished.append(seq)
            value = unpack(row, run.journal.blob, seq=seq).data.get("value") or {}
        elif row.kind == "result" and row.outcome == "ok":
            answers[row.key] = row.usd or 0.0
    how: How = "on"
    is_over = bool(finished) and finished[-1] == newest
    if not newest:
        how = "new"
    elif terms.new:
        how = "anew"
    elif is_over:
        how = "again" if terms.resume else "anew"
    back = [] if answers else left_aside(run, _STEP)
    aside = {row.key: row.usd or 0.0 for _, row in back if row.kind == "result"}
    if aside and terms.resume:
        how, answers, aside = "back", aside, {}
    doubt, doubt_usd = run.in_doubt()
    go = 1 if how == "anew" else len(finished) + 1
    return Opening(
        run.name, how, len(answers), sum(answers.values()), at, is_over, value.get("exit") if is_over else None, go,
        run.command, doubt, doubt_usd, len(aside), sum(aside.values()),
    )  # fmt: skip


# ---------------------------------------------------------------- one go


class _Go(Quiet):
    """One go of the program: what it is told, what it pays, what its end means."""

    def __init__(self, child: Child, terms: Terms, settings: Settings, assembled: Assembled, told: Told) -> None:
        super().__init__()
        self.child, self.terms, self.settings, self.told = child, terms, settings, told
        known = providers_of(assembled, settings)
        self._providers = by_protocol(*(known[name] for name in FORMATS.values()))
        self._parts = dict(assembled.solvers[0].parts)
        solver = replace(assembled.solvers[0], parts=self._parts, solve=self._solve)
        self.assembled = replace(assembled, solvers=(solver,))
        self.program = Program(child.command, child.folder)
        self._same = True
        self._came = Wrapped("", Path(), 3)

    def refuse_keys(self) -> None:
        """Raises UsageError for a command line with a key in it: it would be recorded, and the key is not its."""
        for key, name in self._secrets().items():
            if any(key in word for word in self.child.command):
                raise UsageError(
                    f"the command line holds the value of {name}, for everybody to read. Let the program read the "
                    f"variable itself; in words for a shell, with single quotes: sh -c '... ${name} ...'"
                )

    def _secrets(self) -> dict[str, str]:
        """The keys that stay here, each with the name of the variable that holds it."""
        names = {*(known.key_name for known in self._providers.values()), *_RIVALS}
        held = {self.settings.keys.get(name, ""): name for name in names}
        return {key: name for key, name in held.items() if len(key) >= _SECRET}

    def say(self, line: str) -> None:
        """See `Watch`."""
        self.told.say(line)

    def event(self, event: Event) -> None:
        """See `Watch`."""
        if event.type == "step.completed" and event.tokens is not None:
            self._came.usd += event.usd or 0.0
            self._came.unpriced += event.usd is None

    async def settle(self, run: Run, recorder: Recorder) -> None:
        """Under the lease, before anything runs: settle what this go is."""
        opening = _opening(run, self.terms)
        if opening.how == "anew":
            await recorder.void([_TRIAL], "wrap: recorded anew")
        self._same = opening.command == self.child.command
        if not self._same or run.terms != self.terms.words or opening.how == "back":
            back = written_again(run, left_aside(run, _STEP)) if opening.how == "back" else ()
            await recorder.plan({"command": list(self.child.command), "terms": list(self.terms.words)}, {}, back)
        self._parts.update(command=digest_of(list(self.child.command)), go=digest_of(opening.go))
        self.told.opened(opening)

    async def _solve(self, ctx: Context, _: Task) -> Any:
        prices, upstream = prices_of(self.assembled, self.settings), upstream_of(self.assembled, self.settings)
        recorder, came = ctx.world.recorder, self._came
        async with Door(self._providers, prices=prices, upstream=upstream) as door:
            token = door.admit(ctx, rules=self.terms.rules, miss=self.terms.miss, exact_only=not self._same)
            guest, named = door.guest(token), {known.key_name for known in self._providers.values()} - {""}
            variables = {**pointed(door.url, token), **dict.fromkeys(sorted(named), token)}
            came.variables = tuple(f"{name}={value}" for name, value in variables.items() if value != token)
            came.keys = tuple(name for name, value in variables.items() if value == token)
            env = for_child(variables, self._secrets())
            came.exit = await self.program.run(env, recorder.clock, lambda: recorder.limits.stopping)
            report = await door.dismiss(token)
        came.report, came.paid, came.served = report, report["paid"], sum(report["served"].values())
        return None if ctx.ended else self._meant(came.exit, guest.trouble)  # who asked for it raises what ended it

    def _meant(self, exit_: int, trouble: Exception | None) -> Any:
        """The result of the step. Raises what is none: it was killed, or not heard out by us or the provider."""
        came, code = self._came, 128 - exit_ if exit_ < 0 else exit_
        how = f"exit code {code}"
        if exit_ < 0 or code in _DEADLY:
            with suppress(ValueError):
                how = f"killed by {signal.Signals(code - 128).name}"
            raise Stopping(how)
        if self.program.told:  # many tidy up and end with 0 then: they have not come to their own end all the same
            raise Stopping(f"stopped by {self.program.told}, {how}")
        if trouble is not None and code:
            raise StepOwed(f"{how}, after a call that came to nothing: {getattr(trouble, 'reason', trouble)}")
        came.silent = not (came.paid or came.served or trouble)
        if came.silent:
            raise StepFailed("it made no model call through the gateway", kind="NoCall")
        return {"output": how, "exit": code, "command": list(self.child.command), "exchanges": came.report}

    def wrapped(self, ending: Ending) -> Wrapped:
        """What became of it, once the run is let go."""
        came = self._came
        came.run, came.folder, came.finished = ending.run, ending.folder, ending.code == 0
        came.stopped = ending.stopped or next(iter(ending.reasons), "")
        if came.exit is None:
            came.code = ending.code
        else:
            came.code = 128 - came.exit if came.exit < 0 else came.exit
            came.code = came.code or (1 if came.silent else ending.code)
        run = open_run(ending.folder)
        try:
            came.doubt, came.doubt_usd = run.in_doubt()
        finally:
            run.close()
        return came
