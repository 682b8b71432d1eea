"""An experiment as written, and as assembled: solvers × tasks × trials × stages.

`Spec` is what a person writes, in YAML, TOML or Python. `assemble` turns it into functions and digests; what it depends
on (prompt text, user code) is read once, there, and stored in the run, so that `resume` needs none of the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from onward.errors import SpecError
from onward.functions import Function, load, resolve
from onward.parsers import parser
from onward.plan import Shape
from onward.reducers import reducer
from onward.scorers import scorer
from onward.solvers import Solver, agent_solver, function_solver, model_solver, recorded_solver, wrapped_solver
from onward.stages import Judge, Stages

__all__ = ["Assembled", "JudgeSpec", "LimitsSpec", "ProviderSpec", "SolverSpec", "Spec", "assemble", "frozen"]

_NAME = re.compile(r"[A-Za-z0-9][\w.:@+-]*")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _named(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name: use letters, digits and . _ - : @ +")
    return value


class SolverSpec(_Model):
    """What is under test: a `model` with a prompt, a `python` function (`file.py:name` or a callable), an `agent`."""

    name: str = ""
    model: str = ""
    python: Any = None
    agent: str = ""
    """A program that works by itself in a sandbox, its model traffic through us: `claude-code`, `codex`, `command` …"""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the agent is told: its `version`, a `command`, further `args`."""
    sandbox: Any = None
    """A kind (`bubblewrap`, `container`, `process`), or a mapping: kind, image, memory, cpus, pids, disk, network."""
    found: dict[str, Any] = Field(default_factory=dict)
    """What agent and image were found to be when the run was made. Written by Onward."""
    recorded: str = ""
    """Digest of answers that were made elsewhere: `onward import` writes it, with a `model` that is only a label."""
    wrapped: tuple[str, ...] = ()
    """The words of `onward wrap` by which a program is known again; only that verb goes on with it."""
    prompt: Any = None
    """A file (`prompts/math.md`) or the text itself. With `{input}` in it: the question; else the system message."""
    params: dict[str, Any] = Field(default_factory=dict)
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    seeded: bool = True
    """Whether each sample's seed is sent with the request, where the wire format has one."""

    @model_validator(mode="after")
    def _one_kind(self) -> SolverSpec:
        if self.python is None and not (self.model or self.recorded or self.agent or self.wrapped):
            raise ValueError("a solver needs `model: provider/name`, `python: file.py:function` or `agent: NAME`")
        if self.agent and self.python is not None:
            raise ValueError("a solver is an agent or a python function, not both")
        if self.agent and self.request:
            raise ValueError("an agent chooses its own sampling: temperature, max_tokens and params are not for it")
        return self

    @property
    def sandboxed(self) -> Mapping[str, Any]:
        """Its sandbox as a mapping, which a kind alone is too."""
        return self.sandbox if isinstance(self.sandbox, Mapping) else {"kind": self.sandbox or ""}

    @property
    def request(self) -> dict[str, Any]:
        """The parameters of its requests."""
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {**self.params, **{name: value for name, value in own.items() if value is not None}}


class JudgeSpec(_Model):
    """A model that grades by a rubric (a file or the text itself)."""

    name: str = "judge"
    model: str
    rubric: Any
    params: dict[str, Any] = Field(default_factory=dict)

    _check = field_validator("name")(_named)


class ProviderSpec(_Model):
    """A provider of your own, or other bounds for a known one."""

    base_url: str | None = None
    protocol: str | None = None
    key_name: str | None = None
    """Name of the environment variable that holds its key. Keys themselves are never written down."""
    concurrency: int | None = Field(default=None, gt=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)


class LimitsSpec(_Model):
    """Bounds. They are no part of what a run *is*: changing them never starts another run."""

    concurrency: int = Field(default=10, gt=0)
    budget_usd: float | None = Field(default=None, ge=0)
    budget_tokens: int | None = Field(default=None, ge=0)
    max_errors: int = Field(default=20, gt=0)
    attempts: int = Field(default=5, gt=0)
    max_wait: float = Field(default=6 * 3600.0, ge=0)
    """Longest wait, in seconds, that a provider may ask for before the call is left owed."""
    stall: float = Field(default=120.0, gt=0)
    """Seconds without a byte after which a call is given up: an error, never a scored timeout."""
    time: float | None = Field(default=None, gt=0)
    """Active seconds a trial may take. Unless told, model trials have no limit, and agents the task's own or 1,800."""
    tokens: int | None = Field(default=None, gt=0)
    """Tokens a trial may use."""
    sandboxes: int | None = Field(default=None, gt=0)
    """How many sandboxes of agents may be open at a time; by default one for each processor."""


class Spec(_Model):
    """A whole experiment, as written."""

    name: str = "run"
    tasks: Any = None
    solver: Any = None
    samples: int = Field(default=1, gt=0, le=1000)
    trials: int = Field(default=1, gt=0, le=1000)
    reduce: Any = None
    parse: Any = None
    score: Any = None
    judge: JudgeSpec | list[JudgeSpec] | None = None
    limits: LimitsSpec = Field(default_factory=LimitsSpec)
    providers: dict[str, ProviderSpec] = Field(default_factory=dict)
    prices: dict[str, str] = Field(default_factory=dict)
    """`model: IN/OUT` in USD per million tokens, for models without a known list price."""
    select: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    pass_mark: float = 1.0
    threshold: float | None = None

    _check = field_validator("name")(_named)

    @field_validator("solver", mode="before")
    @classmethod
    def _solvers(cls, value: Any) -> Any:
        """Text is a model; a callable is a Python solver; a list is several solvers in one run."""
        if value is None:
            return None
        found = value if isinstance(value, list | tuple) else [value]
        return [_solver(item) for item in found]

    @property
    def solvers(self) -> list[SolverSpec]:
        """The solvers, each with a name."""
        found: list[SolverSpec] = self.solver or []
        named = [solver.model_copy(update={"name": solver.name or _default_name(solver)}) for solver in found]
        taken: set[str] = set()
        for solver in named:
            _named(solver.name)
            if solver.name in taken:
                raise SpecError(f"two solvers are called {solver.name!r}: give each a `name`", field="solver")
            taken.add(solver.name)
        return named

    @property
    def judges(self) -> list[JudgeSpec]:
        """The judges."""
        return [] if self.judge is None else self.judge if isinstance(self.judge, list) else [self.judge]


def _solver(item: Any) -> SolverSpec:
    if isinstance(item, SolverSpec):
        return item
    if isinstance(item, str):
        is_code = item.endswith(".py") or ".py:" in item
        return SolverSpec(python=item) if is_code else SolverSpec(model=item)
    if callable(item):
        return SolverSpec(python=item)
    return SolverSpec.model_validate(item)


def _default_name(solver: SolverSpec) -> str:
    if solver.python is not None:
        named = solver.python if isinstance(solver.python, str) else getattr(solver.python, "__name__", "solver")
        return re.sub(r"[^\w.:@+-]", "-", named.rpartition(":")[2]).strip("-") or "solver"
    if solver.agent:
        return re.sub(r"[^\w.:@+-]", "-", solver.agent).strip("-") or "solver"
    return re.sub(r"[^\w.:@+-]", "-", solver.model.rpartition("/")[2]).strip("-") or "solver"


@dataclass(frozen=True, slots=True)
class Assembled:
    """An experiment ready to run: solvers and stages as functions, and what they were made of."""

    spec: Spec
    solvers: tuple[Solver, ...]
    stages: Stages
    texts: Mapping[str, str] = field(default_factory=dict)
    """Prompts and rubrics by field."""
    functions: Mapping[str, Function] = field(default_factory=dict)
    """User functions by field."""
    folder: Path = Path()
    """Where its paths start. No part of what it is."""

    @property
    def shape(self) -> Shape:
        """The steps of every trial, for the plan."""
        agents = tuple(solver.name for solver in self.solvers if solver.is_agent)
        return replace(self.stages.shape, agents=agents)

    @property
    def identity(self) -> dict[str, Any]:
        """What, besides the tasks, makes it this experiment and no other: digests only."""
        return {
            "solvers": {solver.name: dict(solver.parts) for solver in self.solvers},
            "stages": {"samples": self.stages.samples, **dict(sorted(self.stages.digests.items()))},
            "trials": self.spec.trials,
            "seed": self.spec.seed,
            "pass_mark": self.spec.pass_mark,
        }


class _Reader:
    """Reads what a spec names: from the stored run if there is one and the file is gone, else from its folder."""

    def __init__(self, folder: Path, stored: Mapping[str, Any] | None) -> None:
        self.folder = folder
        self.stored_texts: Mapping[str, str] = (stored or {}).get("texts", {})
        self.stored_functions: Mapping[str, Any] = (stored or {}).get("functions", {})
        self.texts: dict[str, str] = {}
        self.functions: dict[str, Function] = {}

    def text(self, value: Any, where: str) -> str | None:
        """The text of a prompt: what is stored in the run, else the file it names, else itself."""
        if value is None:
            return None
        if where in self.stored_texts:
            found = self.stored_texts[where]
        elif isinstance(value, Path) or (isinstance(value, str) and _looks_like_a_file(value)):
            found = _read_text(self.folder / value, where)
        else:
            found = str(value)
        self.texts[where] = found
        return found

    def function(self, reference: Any, where: str, registry: Any = None, positional: int = 2) -> Function:
        """The function that a field names; a user's own is noted, so that the run can store it."""
        stored = self.stored_functions.get(where)
        if stored is not None and not self._is_there(reference):
            if registry is not None:
                found: Function = registry.load(stored["source"], stored["name"], stored.get("options"))
            else:
                found = load(stored["source"], stored["name"], stored.get("options"), positional=positional)
        elif registry is not None:
            found = registry.resolve(reference, self.folder, field=where)
        else:
            found = resolve(reference, self.folder, field=where, positional=positional)
        if found.source is not None:
            self.functions[where] = found
        return found

    def _is_there(self, reference: Any) -> bool:
        if isinstance(reference, Mapping):
            [reference] = reference
        if not isinstance(reference, str):
            return callable(reference)
        path = reference.rpartition(":")[0]
        return not path.endswith(".py") or (self.folder / path).is_file()


def _looks_like_a_file(value: str) -> bool:
    return len(value) < 400 and not re.search(r"\s", value) and Path(value).suffix in (".md", ".txt", ".j2", ".prompt")


def _read_text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"there is no file {path}", field=where) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 (byte {error.start})", field=where) from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}", field=where) from None


def assemble(spec: Spec, folder: Path, stored: Mapping[str, Any] | None = None) -> Assembled:
    """Read what the spec names and make its functions. `stored` is what `frozen` gave when the run was made.

    Raises SpecError naming the field.
    """
    reader = _Reader(folder, stored)
    solvers = [_assemble_solver(solver, reader, f"solver.{solver.name}") for solver in spec.solvers]
    chosen = spec.reduce or ("majority" if spec.samples > 1 else None)
    reducing = reader.function(chosen, "reduce", reducer) if chosen else None
    parsing = reader.function(spec.parse, "parse", parser) if spec.parse else None
    scorers = _scorers(spec.score, reader)
    judges = [
        Judge(judge.name, judge.model, reader.text(judge.rubric, f"judge.{judge.name}") or "", judge.params)
        for judge in spec.judges
    ]
    taken = [*scorers, *(judge.name for judge in judges)]
    if len(set(taken)) < len(taken):
        raise SpecError("two scorers or judges have one name", field="score")
    stages = Stages.of(spec.samples, reducing, parsing, scorers, judges)
    return Assembled(spec, tuple(solvers), stages, reader.texts, reader.functions, folder)


def _assemble_solver(solver: SolverSpec, reader: _Reader, where: str) -> Solver:
    if solver.python is not None:
        return function_solver(solver.name, reader.function(solver.python, where), solver.model)
    if solver.agent and not solver.recorded:
        prompt = reader.text(solver.prompt, where)
        return agent_solver(
            solver.name, solver.agent, solver.model, prompt, solver.options, solver.sandboxed, solver.found
        )  # fmt: skip
    if solver.recorded:
        return recorded_solver(solver.name, solver.recorded, solver.model)
    if solver.wrapped:
        return wrapped_solver(solver.name, solver.wrapped)
    prompt = reader.text(solver.prompt, where)
    return model_solver(solver.name, solver.model, prompt, solver.request, seeded=solver.seeded)


def _scorers(value: Any, reader: _Reader) -> dict[str, Function]:
    """`numeric`, `{numeric: options}`, a list of these, or `{name: {scorer: options}}` to tell two apart."""
    found: dict[str, Function] = {}
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value] if value else []:
        label = next(iter(item)) if isinstance(item, Mapping) else item
        where = f"score.{label if isinstance(label, str) else getattr(label, '__name__', 'function')}"
        function = reader.function(item, where, scorer)
        name = re.sub(r"[^\w.-]", "-", function.name)
        if name in found:
            raise SpecError(f"the scorer {name!r} is there twice", field="score")
        found[name] = function
    return found


def frozen(assembled: Assembled) -> dict[str, Any]:
    """The experiment as a run stores it: the spec as JSON, the text of every prompt, the source of all user code."""
    written = assembled.spec.model_dump(mode="python", exclude_defaults=True)
    functions = {
        where: {"name": function.name, "options": function.identity.get("options", {}), "source": function.source}
        for where, function in assembled.functions.items()
    }
    return {
        "spec": _plain(written), "texts": dict(assembled.texts), "functions": functions,
        "folder": str(assembled.folder.absolute()),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """The spec without Python objects: a callable is named, and its source is stored beside."""
    if isinstance(value, Mapping):
        return {str(name if not callable(name) else name.__name__): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Function):
        return value.name
    if callable(value):
        return f"stored.py:{getattr(value, '__name__', 'function')}"
    return str(value) if isinstance(value, Path) else value
