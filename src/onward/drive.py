"""Puts one invocation together and drives it: settings → gateway → contexts → runner. All verbs come through here."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onward import lease
from onward.ask import Ask
from onward.clock import Clock, SystemClock
from onward.config import Settings
from onward.context import World, trial_context
from onward.errors import NotThere, OnwardError, StepError, StepFailed, StepTimeout, Stopping
from onward.experiment import Assembled, LimitsSpec
from onward.gateway import PROVIDERS, Gateway, Prices, Provider, from_entry, parse_price, with_keys
from onward.gateway.local import LocalModel
from onward.gateway.upstream import Upstream
from onward.history import History
from onward.journal import Journal, SqliteJournal
from onward.keys import Key
from onward.limits import Bounds, Limits, Rate, Spending
from onward.once import Recorder
from onward.plan import Standing
from onward.progress import Progress, Watch
from onward.retry import Retry
from onward.runner import Runner
from onward.runs import Run, cut_off, read_run
from onward.stages import State, Work, trial

__all__ = ["Ending", "Invocation", "drive", "gateway_of", "prices_of", "providers_of", "upstream_of"]

Prelude = Callable[[Run, Recorder], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an invocation ended. `code` is the command line's exit code (SEMANTICS §8)."""

    run: str
    folder: Path
    code: int
    done: int
    total: int
    settled: int = 0
    """Trials that this invocation settled."""
    calls: int = 0
    usd: float = 0.0
    stopped: str | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why trials are still owed: reason → how many."""
    unpriced: int = 0
    """Calls of this invocation of which nobody knows what they cost."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One go at a run."""

    folder: Path
    assembled: Assembled
    settings: Settings
    watch: Watch
    ask: Ask
    only: Callable[[str], bool] | None = None
    """Which task ids this invocation may touch; None: all."""
    prelude: Prelude | None = None
    """Voids or extensions to write, under the lease, before the work is counted."""
    verb: str = "run"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    open: Callable[[Path], Journal] = SqliteJournal
    """Opens the folder's journal for writing; tests hand in one that fails on purpose."""
    signals: Callable[[Runner, Watch], AbstractContextManager[None]] | None = None
    """What Ctrl-C and SIGTERM mean while it runs; None: they stop the run."""
    again: bool = False
    """Whether settled trials are taken on too: then their fingerprints alone say what runs."""


def gateway_of(assembled: Assembled, settings: Settings, models: Mapping[str, Any] | None = None) -> Gateway:
    """The gateway for an experiment: known providers, its own, keys and prices from the settings."""
    return Gateway(
        providers_of(assembled, settings), models=models, prices=prices_of(assembled, settings),
        local=LocalModel(log=settings.local_log), upstream=upstream_of(assembled, settings),
    )  # fmt: skip


def providers_of(assembled: Assembled, settings: Settings) -> dict[str, Provider]:
    """Who may be asked, by name and with keys: the known ones, where the environment points them, and its own."""
    spec = assembled.spec
    providers = dict(PROVIDERS)
    for name, url in settings.base_urls.items():
        providers[name] = from_entry(name, {"base_url": url})
    for name, entry in spec.providers.items():
        stated = entry.model_dump(exclude_none=True, include={"base_url", "protocol", "key_name"})
        if stated:
            providers[name] = from_entry(name, stated)
    return with_keys(providers, settings.keys)


def prices_of(assembled: Assembled, settings: Settings) -> Prices:
    """What calls cost: list prices, and what is stated over them."""
    stated = {**assembled.spec.prices, **settings.prices}
    return Prices(dict(parse_price(f"{model}={price}") for model, price in stated.items()))


def upstream_of(assembled: Assembled, settings: Settings) -> Upstream:
    """The network, with the patience that the limits allow."""
    return Upstream(stall=_limits(assembled, settings).stall)


def _limits(assembled: Assembled, settings: Settings) -> LimitsSpec:
    stated = {name: value for name, value in settings.flags.limits.items() if value is not None}
    return assembled.spec.limits.model_copy(update=stated)


def _bounds(assembled: Assembled, limits: LimitsSpec) -> Bounds:
    rates = {
        name: Rate(entry.concurrency, entry.requests_per_minute, entry.tokens_per_minute)
        for name, entry in assembled.spec.providers.items()
    }
    rates.setdefault("local", Rate(concurrency=1))
    return Bounds(
        limits.concurrency, rates, limits.budget_usd, limits.budget_tokens, limits.max_errors, limits.max_wait
    )


@asynccontextmanager
async def _held(invocation: Invocation) -> AsyncIterator[tuple[Journal, Any]]:
    journal = invocation.open(invocation.folder)
    try:
        dead = lease.claim(journal, invocation.clock, force=invocation.settings.flags.take_over)
        try:
            for number, _ in journal.poll():
                journal.clear(number)  # a wish left for a driver that is gone
            yield journal, dead
        finally:
            with suppress(OnwardError, OSError):
                journal.release()
    finally:
        journal.close()


async def drive(invocation: Invocation) -> Ending:
    """Drive a run as far as it goes. Raises Held, Damaged, UsageError, OSError; all else is in the Ending."""
    ending: Ending | None = None
    error: BaseException | None = None
    with ExitStack() as signals:  # until the last word: who has stopped a run may press once more
        try:
            async with _held(invocation) as (journal, dead):
                ending = await _driven(invocation, journal, dead, signals)
                return ending
        except BaseException as found:
            error = found
            raise
        finally:
            with suppress(Exception):
                await invocation.ask.close()
            invocation.watch.end(_facts(invocation, ending, error))


async def _driven(invocation: Invocation, journal: Journal, dead: Any, signals: ExitStack) -> Ending:
    clock, flags, assembled = invocation.clock, invocation.settings.flags, invocation.assembled
    limits = _limits(assembled, invocation.settings)
    fresh = Limits(Bounds(), clock)
    run = read_run(invocation.folder, journal)
    if invocation.prelude is not None:
        await invocation.prelude(run, Recorder(journal, clock, fresh))
        run = read_run(invocation.folder, journal)
    if flags.restart:
        cut = cut_off(run)
        if cut:
            await Recorder(journal, clock, fresh).void(cut, "--in-flight restart")
            run = read_run(invocation.folder, journal)
    sums = journal.sums()
    spending = Spending(sums.spent[0] + sums.doubt[0], sums.spent[1] + sums.doubt[1])
    gate = Limits(_bounds(assembled, limits), clock, spending)
    recorder = Recorder(journal, clock, gate, Retry(limits.attempts, max_wait=limits.max_wait))
    standings = {} if invocation.again else run.standings(flags.until)
    shared = _Shared(invocation, run, recorder, limits, standings)
    progress = shared.progress
    progress.spent_before, progress.reused_usd = sums.spent[0], sums.reused[0]
    progress.asking = lambda: gate.inside
    gate.on_wait = lambda note: setattr(progress, "note", note)
    recorder.listeners += [progress.take, invocation.watch.event]
    shared.check_reach()
    doubt, doubt_usd = run.in_doubt()
    told = {**_facts(invocation, None, None), "died": dead, "sums": sums, "doubt": doubt, "doubt_usd": doubt_usd}
    invocation.watch.begin(progress, told)
    if doubt and flags.in_doubt == "stop":
        why = f"{doubt} calls are in doubt (at most ${doubt_usd:.2f}): --in-doubt resend asks them again"
        return shared.ending(3, why)
    runner = Runner(recorder, window=4 * limits.concurrency + 24, max_errors=limits.max_errors)
    async with _performers(shared, limits):
        signals.enter_context((invocation.signals or _Signals)(runner, invocation.watch))
        with _seldom_collected():
            await runner.run(shared.work())
    return shared.ending(None, runner.outcome.stopped or _first(gate.stopped_providers), runner.outcome.reasons)


@asynccontextmanager
async def _performers(shared: _Shared, limits: LimitsSpec) -> AsyncIterator[None]:
    """Whoever performs for the run's agents, while it goes on. A run without any pays nothing for it."""
    invocation = shared.invocation
    assembled, settings = invocation.assembled, invocation.settings
    if not any(solver.is_agent for solver in assembled.solvers):
        yield
        return
    from onward.gateway.proxy import Door
    from onward.staging import bounds_of, staged

    door = Door({}, prices=prices_of(assembled, settings), upstream=upstream_of(assembled, settings))
    say = invocation.watch.say
    async with staged(assembled.spec, shared.run, settings, invocation.ask, door, say, limits.sandboxes) as performer:
        shared.world = replace(shared.world, performer=performer)
        shared.bounds_of = bounds_of
        yield


def _first(stopped: Mapping[str, str]) -> str | None:
    return next(iter(stopped.values()), None)


class _Shared:
    """What the trials of one invocation share."""

    def __init__(
        self, invocation: Invocation, run: Run, recorder: Recorder, limits: LimitsSpec,
        standings: Mapping[str, Standing],
    ) -> None:  # fmt: skip
        self.invocation, self.run, self.recorder, self.standings = invocation, run, recorder, standings
        flags, watch = invocation.settings.flags, invocation.watch
        assembled = invocation.assembled
        self.bounds = {"time": limits.time, "tokens": limits.tokens}
        self.bounds_of: Callable[..., Mapping[str, Any]] = lambda run, task, limits: limits
        """The bounds of an agent's trial."""
        self.world = World(
            recorder, invocation.ask, lambda digest: run.journal.blob(bytes.fromhex(digest)), assembled.spec.seed,
            *((watch.text, watch.exchange) if flags.stream else ()),
        )  # fmt: skip
        self.solvers = {solver.name: solver for solver in assembled.solvers}
        before = sum(1 for standing in standings.values() if standing == "settled")
        stages = assembled.stages
        primary = next(iter([*stages.scorers, *(judge.name for judge in stages.judges)]), "")
        self.progress = Progress(run.name, len(run.plan), before, 0, primary, started=recorder.clock.ticks())
        self.started_empty = next(iter(run.journal.rows("", kinds=("intent", "result"))), None) is None
        self.progress.wanted = sum(len(list(todo)) for _, todo in self._todo())

    def _todo(self) -> Iterator[tuple[Any, list[tuple[str, str, Key]]]]:
        """Chunks with the trials in them that this invocation takes on, in the plan's order."""
        flags, only = self.invocation.settings.flags, self.invocation.only
        begun = flags.resume_from is None
        left = flags.max_new
        for chunk in self.run.plan.chunks:
            todo: list[tuple[str, str, Key]] = []
            for solver, task, key in self.run.plan.trial_keys(chunk):
                begun = begun or task == flags.resume_from
                if not begun or self.standings.get(key) == "settled" or (only is not None and not only(task)):
                    continue
                if left is not None and (not todo or todo[-1][1] != task):
                    if left == 0:
                        break
                    left -= 1
                todo.append((solver, task, key))
            if todo:
                yield chunk, todo
        if not begun:
            raise NotThere(f"--resume-from {flags.resume_from}: this run has no such task")

    def check_reach(self) -> None:
        """Raise UsageError where nothing of the work can be done on this machine, before any of it is begun."""
        if all(solver.is_agent for solver in self.solvers.values()):
            from onward.staging import asked, check_reach

            wanted = ((asked(self.run, key, work.solver.name), work.task) for key, work in self._wanted())
            check_reach(self.invocation.assembled.spec, wanted)

    def work(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """A body for each trial to take on; tasks are read chunk by chunk, so memory stays flat."""
        return (self._body(key, work) for key, work in self._wanted())

    def _wanted(self) -> Iterator[tuple[Key, Work]]:
        stages = self.invocation.assembled.stages
        for chunk, todo in self._todo():
            content = {task.id: (digest, task) for digest, task in self.run.tasks(chunk)}
            for solver, task_id, key in todo:
                digest, task = content[task_id]
                yield key, Work(task, digest, self.solvers[solver], key.rpartition("/")[2], stages)

    def _body(self, key: Key, work: Work) -> Callable[[], Awaitable[None]]:
        async def body() -> None:
            progress, watch = self.progress, self.invocation.watch
            voids = self.run.voids
            history = History(voids) if self.started_empty else History.read(self.run.journal, key, voids)
            bounds = self.bounds_of(self.run, work.task, self.bounds) if work.solver.is_agent else self.bounds
            context = trial_context(self.world, key, history, bounds)
            progress.in_flight += 1
            if work.solver.is_agent and context.meter is not None:
                progress.working[key] = context.meter
            try:
                state = await trial(context, work, self.invocation.settings.flags.until)
            except (StepFailed, StepTimeout) as error:
                progress.settled += 1
                progress.failed += 1
                progress.score({})
                watch.trial(key, error.outcome, {}, error.reason)
                raise
            except Stopping:
                raise
            except StepError as error:
                progress.errors += 1
                watch.trial(key, "error", {}, error.reason)
                raise
            finally:
                progress.in_flight -= 1
                progress.working.pop(key, None)
            self._settled(key, work, state)

        return body

    def _settled(self, key: Key, work: Work, state: State) -> None:
        self.progress.settled += 1
        if state.scores:
            self.progress.score(state.scores)
        ended = state.timeout
        said = state.output if ended is None else ended.reason
        self.invocation.watch.trial(key, "ok" if ended is None else "timeout", state.scores, said)

    def ending(self, code: int | None, stopped: str | None, reasons: Mapping[str, int] | None = None) -> Ending:
        """How it ended; `code` None: 0 if nothing planned is owed, else 3."""
        progress = self.progress
        if code is None:
            code = 0 if progress.done >= progress.total else 3
        return Ending(
            self.run.name, self.invocation.folder, code, progress.done, progress.total, progress.settled,
            progress.calls, progress.usd, stopped, dict(reasons or {}), progress.unpriced,
        )  # fmt: skip


def _facts(invocation: Invocation, ending: Ending | None, error: BaseException | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "run": invocation.folder.name, "folder": str(invocation.folder), "verb": invocation.verb,
        "arguments": dict(invocation.arguments),
    }  # fmt: skip
    if ending is not None:
        facts["ending"] = ending
    if error is not None:
        facts["error"] = error
    return facts


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """A run makes millions of objects that die by themselves and few cycles: looking for these costs a fifth of it.

    The writer's thread asks for its turn hundreds of times a second: each time sooner than needed costs a switch, and
    all of them together a thirtieth of the run.
    """
    before, turns = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    sys.setswitchinterval(0.02)
    try:
        yield
    finally:
        sys.setswitchinterval(turns)
        gc.set_threshold(*before)
        gc.unfreeze()


class _Signals:
    """Ctrl-C: once stops starting work, twice stops at once. SIGTERM is the first of these."""

    def __init__(self, runner: Runner, watch: Watch) -> None:
        self.runner, self.watch, self.count = runner, watch, 0

    def __enter__(self) -> None:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._on)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError, RuntimeError, NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)

    def _on(self) -> None:
        self.count += 1
        if self.count == 1:
            self.watch.say("stopping: what is in flight finishes; Ctrl-C again stops at once")
            self.runner.stop("Ctrl-C")
        else:
            self.runner.stop_now("Ctrl-C, twice")
