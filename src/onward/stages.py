"""generate → reduce → parse → score → judge, as data. A new stage is one function and a line in `PIPELINE`.

Each stage is a function of (context of the trial, what is wanted, what the trial has so far). It says *what* is to be
done; whether it is done already is the verb's business. Below a step that failed nothing runs, and the score is 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.context import Context
from onward.errors import StepError, StepFailed, StepOwed, StepTimeout
from onward.fingerprint import Fingerprint, digest_of
from onward.functions import Function
from onward.once import Missing
from onward.parsers import parse as parsed
from onward.plan import STAGES, Shape
from onward.reducers import Candidate
from onward.reducers import reduce as reduced
from onward.scorers import score as scored
from onward.scorers.judge import judging_messages, verdict
from onward.solvers import Solver
from onward.tasks import Task

__all__ = ["PIPELINE", "Judge", "Stages", "Work", "sample_fingerprint", "trial"]


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that grades by a rubric."""

    name: str
    model: str
    rubric: str
    params: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What its grades depend on."""
        return {"judge": 1, "model": self.model, "rubric": self.rubric, "params": dict(self.params)}


@dataclass(frozen=True, slots=True)
class Stages:
    """What every trial of a run goes through. The digests are made once, since every trial needs them."""

    samples: int = 1
    reducer: Function | None = None
    parser: Function | None = None
    scorers: Mapping[str, Function] = field(default_factory=dict)
    judges: Sequence[Judge] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, samples: int, reducer: Function | None, parser: Function | None, scorers: Mapping[str, Function],
        judges: Sequence[Judge],
    ) -> Stages:  # fmt: skip
        """The stages with the digests of their functions."""
        digests = {f"score/{name}": digest_of(scorer.identity) for name, scorer in scorers.items()}
        digests |= {f"judge/{judge.name}": digest_of(judge.identity) for judge in judges}
        digests["parse"] = digest_of(parser.identity if parser else None)
        digests["reduce"] = digest_of(reducer.identity if reducer else None)
        return cls(samples, reducer, parser, scorers, judges, digests)

    @property
    def shape(self) -> Shape:
        """The steps of every trial, for the plan."""
        names = tuple(judge.name for judge in self.judges)
        return Shape(self.samples, self.reducer is not None, self.parser is not None, tuple(self.scorers), names)


@dataclass(frozen=True, slots=True)
class Work:
    """One trial: this solver on this task, through these stages."""

    task: Task
    task_digest: str
    solver: Solver
    trial: str
    stages: Stages


@dataclass(slots=True)
class State:
    """What a trial has so far."""

    candidates: list[Candidate] = field(default_factory=list)
    output: Any = None
    answer: Any = None
    scores: dict[str, Any] = field(default_factory=dict)
    timeout: StepTimeout | None = None
    """The limit that ended the work, where it was judged all the same."""


Stage = Callable[[Context, Work, State], Awaitable[None]]


async def generate(ctx: Context, work: Work, state: State) -> None:
    """Every sample; those that failed are left out and counted. All failed: the trial has failed."""
    wanted = range(work.stages.samples)
    if work.stages.samples == 1:
        state.output = await _sample(ctx, work, state, 0)
        state.candidates = [Candidate(0, state.output)]
        return
    found = await asyncio.gather(*(_sample(ctx, work, state, sample) for sample in wanted), return_exceptions=True)
    failure: StepError | None = None
    ours = [value for value in found if isinstance(value, BaseException)]
    _raise_first([error for error in ours if not isinstance(error, StepFailed | StepTimeout)])
    for sample, value in enumerate(found):
        if isinstance(value, StepFailed | StepTimeout):
            failure = failure or value
            state.candidates.append(Candidate(sample, None, failed=True))
        else:
            state.candidates.append(Candidate(sample, value))
    if failure is not None and all(candidate.failed for candidate in state.candidates):
        raise failure
    state.output = next(candidate.output for candidate in state.candidates if not candidate.failed)


def sample_fingerprint(solver: Solver, task_digest: str, seed: int) -> Fingerprint:
    """What one sample depends on."""
    return Fingerprint.join({**solver.parts, "task": task_digest, "seed": digest_of(seed)})


async def _sample(ctx: Context, work: Work, state: State, sample: int) -> Any:
    name = f"generate/{sample}"
    child = ctx.child_path(name)
    child.seed = child.sample_seed(work.task.id, work.trial, sample)
    fingerprint = sample_fingerprint(work.solver, work.task_digest, child.seed)
    solver = work.solver
    try:
        value = await ctx.run(
            child, fingerprint, lambda: solver.solve(child, work.task), timed=True, whole=not solver.is_agent
        )
    except StepTimeout as error:
        if error.value is None:
            raise
        state.timeout, value = error, error.value  # work that was cut short is judged as it stands
    return value["output"]


async def reduce(ctx: Context, work: Work, state: State) -> None:
    """One candidate out of several."""
    reducer = work.stages.reducer
    if reducer is None:
        return
    parts = {
        "reducer": work.stages.digests["reduce"],
        "parser": work.stages.digests["parse"],
        "samples": digest_of([[c.sample, c.output, c.failed] for c in state.candidates]),
    }

    async def body() -> Any:
        return reduced(reducer, [_parsed(work, candidate) for candidate in state.candidates], work.task)

    value = await ctx.run(ctx.child_path("reduce"), Fingerprint.join(parts), body, fails_as="error")
    state.output = value["output"]


def _parsed(work: Work, candidate: Candidate) -> Candidate:
    """A candidate with what the parser makes of it; one that cannot be parsed has failed."""
    parser = work.stages.parser
    if candidate.failed or parser is None:
        return Candidate(candidate.sample, candidate.output, candidate.output, failed=candidate.failed)
    try:
        return Candidate(candidate.sample, candidate.output, parsed(parser, candidate.output))
    except StepFailed:
        return Candidate(candidate.sample, candidate.output, failed=True)


async def parse(ctx: Context, work: Work, state: State) -> None:
    """The answer in the output; an output that cannot be parsed is the solver's failure."""
    parser = work.stages.parser
    if parser is None:
        state.answer = state.output
        return
    parts = {"parser": work.stages.digests["parse"], "output": digest_of(state.output)}

    async def body() -> Any:
        return parsed(parser, state.output)

    state.answer = await ctx.run(ctx.child_path("parse"), Fingerprint.join(parts), body, fails_as="error")


async def score(ctx: Context, work: Work, state: State) -> None:
    """Every scorer. A task without a known answer is not scored; a scorer that breaks is an error of ours."""
    if work.task.target is not None:
        await _all(_score(ctx, work, state, name, scorer) for name, scorer in work.stages.scorers.items())


async def _score(ctx: Context, work: Work, state: State, name: str, scorer: Function) -> None:
    step = f"score/{name}"
    parts = {"scorer": work.stages.digests[step], "answer": digest_of(state.answer), "task": work.task_digest}

    async def body() -> Any:
        return scored(scorer, state.answer, work.task).to_json()

    state.scores[name] = await ctx.run(ctx.child_path(step), Fingerprint.join(parts), body, fails_as="error")


async def judge(ctx: Context, work: Work, state: State) -> None:
    """Every judge, each asking its model by calls that are steps below it. Its trouble is an error of ours."""
    await _all(_judge(ctx, work, state, grader) for grader in work.stages.judges)


async def _judge(ctx: Context, work: Work, state: State, grader: Judge) -> None:
    step = f"judge/{grader.name}"
    parts = {"judge": work.stages.digests[step], "output": digest_of(state.output), "task": work.task_digest}
    child = ctx.child_path(step)
    child.meter = None  # the trial's limits are those of what is under test

    async def body() -> Any:
        messages = judging_messages(grader.rubric, work.task, state.output)
        try:
            answer = await child.ask(messages, model=grader.model, **grader.params)
        except StepFailed as error:  # its failure is not that of what it judges
            raise StepOwed(f"the judge gave no answer: {error.reason}", kind=error.kind) from error
        return verdict(answer.text).to_json()

    state.scores[grader.name] = await ctx.run(child, Fingerprint.join(parts), body, fails_as="error")


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Steps that do not depend on each other: one that fails holds up none of the others."""
    waiting = list(steps)
    if not waiting:
        return
    if len(waiting) == 1:
        await waiting[0]
        return
    _raise_first([found for found in await asyncio.gather(*waiting, return_exceptions=True) if found is not None])


def _raise_first(errors: Sequence[BaseException]) -> None:
    if not errors:
        return
    missing = [error for error in errors if isinstance(error, Missing)]
    if missing:
        missing[0].others = [*missing[0].others, *missing[1:]]
        raise missing[0]
    raise errors[0]


PIPELINE: Mapping[str, Stage] = {
    "generate": generate,
    "reduce": reduce,
    "parse": parse,
    "score": score,
    "judge": judge,
}


_INDEPENDENT = frozenset({"score", "judge"})
"""Stages that need what is above them, but not each other."""


async def trial(ctx: Context, work: Work, until: str | None = None) -> State:
    """One trial, through the stages up to `until`. Raises what the first unfinished step ends with."""
    state = State()
    errors: list[BaseException] = []
    for name in STAGES:
        if name in _INDEPENDENT:
            try:
                await PIPELINE[name](ctx, work, state)
            except (Missing, StepError) as error:
                errors.append(error)
        else:
            await PIPELINE[name](ctx, work, state)
        if name == until:
            break
    _raise_first(errors)
    return state
