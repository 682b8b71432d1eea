"""Environment, files and flags become one frozen value here; nothing else reads the environment.

spec, folder = load(Path("nightly.yaml"), {"samples": 5})    # what a person wrote, with what was said on top
settings(store=…, flags=…)                                   # keys, addresses and flags of one invocation
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from onward.errors import SpecError, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from onward.experiment import Spec

__all__ = ["BENCHMARKS", "Flags", "Settings", "benchmark", "for_child", "load", "placed", "settings", "specified"]


@dataclass(frozen=True, slots=True)
class Flags:
    """What one invocation asks for. Nothing in it is part of what a run *is*."""

    limit: int | None = None
    until: str | None = None
    resume: bool = False
    resume_from: str | None = None
    max_new: int | None = None
    new: bool = False
    if_exists: str = "auto"
    parents: tuple[str, ...] = ()
    take_over: bool = False
    in_doubt: str = "resend"
    strict: bool = False
    stream: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits that this invocation sets over the experiment's own: `concurrency`, `budget_usd`, …"""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that comes from outside, read once."""

    store: Path = Path("runs")
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that end in _KEY or _TOKEN, by name: they reach providers and nothing else."""
    base_urls: Mapping[str, str] = field(default_factory=dict)
    """Base URLs by provider, where the environment gives one (OPENAI_BASE_URL, …)."""
    prices: Mapping[str, str] = field(default_factory=dict)
    flags: Flags = Flags()
    local_log: Path | None = None
    """Where the local model's server writes a line for each request (ONWARD_LOCAL_LOG)."""
    cache: Path = Path(".onward-cache")
    """Where agents are installed, once for all runs (ONWARD_CACHE, else XDG_CACHE_HOME/onward, else ~/.cache/onward)."""

    def having(self, **changes: Any) -> Settings:
        """The same with other flags."""
        return replace(self, flags=replace(self.flags, **changes))


_BASE_URLS = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "google": "GOOGLE_GEMINI_BASE_URL",
}


def settings(
    *, store: Path | None = None, flags: Flags | None = None, prices: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None, folder: Path | None = None,
) -> Settings:  # fmt: skip
    """Settings from flags, then the environment, then a `.env` file in the working folder.

    Raises UsageError for a `.env` that is not text.
    """
    stated = dict(os.environ if environment is None else environment)
    known = {**_dotenv((folder or Path()) / ".env"), **stated}
    keys = {name: value for name, value in known.items() if name.endswith(("_KEY", "_TOKEN")) and value}
    urls = {name: known[variable] for name, variable in _BASE_URLS.items() if known.get(variable)}
    where = store or Path(known.get("ONWARD_STORE") or "runs")
    log = known.get("ONWARD_LOCAL_LOG")
    return Settings(where, keys, urls, dict(prices or {}), flags or Flags(), Path(log) if log else None, _cache(known))


def _cache(known: Mapping[str, str]) -> Path:
    stated = known.get("ONWARD_CACHE")
    if stated:
        return Path(stated).expanduser().absolute()
    shared = known.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(shared).absolute() / "onward"


def for_child(variables: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """The environment of a program that is started here: ours, without whatever holds one of these secrets, and with
    these variables. What it sends to this machine goes through no proxy."""
    kept = {name: value for name, value in os.environ.items() if not any(secret in value for secret in secrets)}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name, ""), "127.0.0.1,localhost")))
    return {**kept, **variables}


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


# ---------------------------------------------------------------- experiments by name

BENCHMARKS: Mapping[str, Mapping[str, Any]] = {
    "arithmetic": {
        "tasks": "arithmetic",
        "solver": {
            "model": "",
            "prompt": "{input}\n\nWork it out step by step, in few words. End with a line `Answer: NUMBER`.",
            "temperature": 0.0,
            "max_tokens": 256,
        },
        "parse": "last_number",
        "score": "numeric",
    },
    "gaia": {
        "tasks": "gaia",
        "solver": {
            "model": "",
            "prompt": (
                "You are a general AI assistant. I will ask you a question. Report your thoughts, and finish your "
                "answer with the following template: FINAL ANSWER: [YOUR FINAL ANSWER]. YOUR FINAL ANSWER should be a "
                "number OR as few words as possible OR a comma separated list of numbers and/or strings. If you are "
                "asked for a number, don't use comma to write your number neither use units such as $ or percent sign "
                "unless specified otherwise. If you are asked for a string, don't use articles, neither abbreviations "
                "(e.g. for cities), and write the digits in plain text unless specified otherwise. If you are asked "
                "for a comma separated list, apply the above rules depending of whether the element to be put in the "
                "list is a number or a string."
            ),
            "temperature": 0.0,
            "max_tokens": 4096,
        },
        "parse": "final_answer",
        "score": "gaia",
    },
}
"""Whole experiments but for the model, by name."""


def benchmark(name: str, overrides: Mapping[str, Any] | None = None) -> tuple[Spec, Path]:
    """A built-in benchmark as an experiment, with what was said on top. Raises SpecError."""
    made = _over({"name": name, **BENCHMARKS[name]}, overrides or {})
    return _validated(made, _Nowhere()), Path()


# ---------------------------------------------------------------- experiments from files


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Spec, Path]:
    """The experiment in a YAML or TOML file, with `overrides` over its fields, and the folder where its paths start.

    Its name is the file's stem where it gives none. Raises SpecError that names the field, the file and the line.
    """
    written, marks = _read(path)
    if "name" not in written:
        written = {"name": re.sub(r"[^\w.:@+-]+", "-", path.stem).strip("-.") or "run", **written}
    return _validated(_over(written, overrides or {}), marks), path.parent


def placed(error: SpecError, path: Path) -> SpecError:
    """The same error with the file and line of its field, where it does not say them yet."""
    if error.where or not error.field:
        return error
    try:
        _, marks = _read(path)
    except SpecError:
        return error
    message = str(error).removeprefix(f"{error.field}: ")
    return SpecError(message, field=error.field, where=marks.where(error.field.split(".")))


def _over(written: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What is written, with overrides: a mapping goes into a mapping, `models` take the place of the solvers'."""
    made = dict(written)
    for name, value in overrides.items():
        if name == "models":
            made["solver"] = _with_models(made.get("solver"), value)
        elif isinstance(value, Mapping) and (name == "tasks" or isinstance(made.get(name), Mapping)):
            made[name] = _merged(made.get(name), value)
        else:
            made[name] = value
    if isinstance(made.get("solver"), Mapping) and made["solver"].get("model") == "" and "python" not in made["solver"]:
        made["solver"] = None
    return made


def _merged(standing: Any, more: Mapping[str, Any]) -> Any:
    """Options into a mapping; `gaia` alone is `{path: gaia}`."""
    if isinstance(standing, str):
        return {"path": standing, **more}
    return {**standing, **more} if isinstance(standing, Mapping) else dict(more)


def _with_models(solver: Any, models: Sequence[str]) -> list[Any]:
    """A solver for each model: the first one written, if it asks a model, with another model in it."""
    first = solver[0] if isinstance(solver, list) and solver else solver
    like = dict(first) if isinstance(first, Mapping) and not first.get("python") else {}
    like.pop("name", None)
    return [{**like, "model": model} for model in models]


def _read(path: Path) -> tuple[dict[str, Any], _Marks]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise SpecError("there is no such file", where=str(path)) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=str(path)) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SpecError(f"not UTF-8 (byte 0x{raw[error.start]:02x})", where=f"{path}:{line}") from None
    found, marks = _toml(text, path) if path.suffix == ".toml" else _yaml(text, path)
    if found is None:
        raise SpecError("is empty. A whole experiment: tasks, solver, parse, score; try `onward init`", where=str(path))
    if not isinstance(found, dict):
        raise SpecError(f"holds a {type(found).__name__}, not an experiment's fields", where=f"{path}:1")
    return found, marks


class _Marks:
    """Where in its file a field stands."""

    def __init__(self, path: Path, lines: Mapping[tuple[str, ...], int]) -> None:
        self.path, self.lines = path, lines

    def where(self, steps: Sequence[str]) -> str:
        """`file:line` of a field, or of the nearest thing around it."""
        steps = tuple(steps)
        while steps and steps not in self.lines:
            steps = steps[:-1]
        line = self.lines.get(steps)
        return f"{self.path}:{line}" if line else str(self.path)


class _Nowhere(_Marks):
    """No file: a built-in."""

    def __init__(self) -> None:
        super().__init__(Path(), {})

    def where(self, steps: Sequence[str]) -> str:
        """Nowhere."""
        return ""


def _yaml(text: str, path: Path) -> tuple[Any, _Marks]:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = {} if node is None else dict(_yaml_lines(node, (), path))
        return yaml.safe_load(text), _Marks(path, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise SpecError(f"not YAML: {why}", where=f"{path}:{mark.line + 1}" if mark else str(path)) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        said = f"not YAML: character #x{int(error.character):04x} is not allowed"
        raise SpecError(said, where=f"{path}:{line}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"not YAML: {error}", where=str(path)) from None


def _yaml_lines(node: Any, steps: tuple[str, ...], path: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, value in node.value:
            own, line = str(name.value), name.start_mark.line + 1
            if own in seen:
                said = f"is there twice (first on line {seen[own]})"
                raise SpecError(said, field=".".join((*steps, own)), where=f"{path}:{line}")
            seen[own] = line
            yield (*steps, own), line
            yield from _yaml_lines(value, (*steps, own), path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*steps, str(index)), value.start_mark.line + 1
            yield from _yaml_lines(value, (*steps, str(index)), path)


_TABLE = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]+")
_SETTING = re.compile(r"\s*([\w\"'.-]+)\s*=")


def _toml(text: str, path: Path) -> tuple[Any, _Marks]:
    import tomllib

    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _TABLE.match(line):
            table = tuple(part.strip(" \"'") for part in found[1].split("."))
            lines.setdefault(table, number)
        elif found := _SETTING.match(line):
            lines.setdefault((*table, *(part.strip(" \"'") for part in found[1].split("."))), number)
    try:
        return tomllib.loads(text) or None, _Marks(path, lines)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        where = f"{path}:{place[1]}" if place else str(path)
        raise SpecError(f"not TOML: {error}", where=where) from None


# ---------------------------------------------------------------- from fields to an experiment


def specified(fields: Mapping[str, Any]) -> Spec:
    """An experiment from its fields, as Python has them. Raises SpecError naming the field, with a "did you mean"."""
    return _validated(fields, _Nowhere())


def _validated(written: Mapping[str, Any], marks: _Marks) -> Spec:
    from pydantic import ValidationError

    from onward.experiment import JudgeSpec, SolverSpec, Spec

    try:
        for name, model in (("solver", SolverSpec), ("judge", JudgeSpec)):
            for steps, item in _items(written.get(name), name):
                _check(model, item, steps, marks)
        spec = Spec.model_validate(written)
        _ = spec.solvers
    except ValidationError as error:
        _refuse(error, Spec, (), marks)
    except SpecError as error:
        if error.where:
            raise
        message = str(error).removeprefix(f"{error.field}: ")
        raise SpecError(message, field=error.field, where=marks.where(error.field.split("."))) from None
    return spec


def _items(value: Any, name: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The mappings under a field that may hold one or a list of them, each with its place."""
    if isinstance(value, Mapping):
        yield (name,), value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield (name, str(index)), item


def _check(model: type[BaseModel], item: Any, steps: tuple[str, ...], marks: _Marks) -> None:
    from pydantic import ValidationError

    try:
        model.model_validate(item)
    except ValidationError as error:
        _refuse(error, model, steps, marks)


def _refuse(error: ValidationError, model: type[BaseModel], steps: tuple[str, ...], marks: _Marks) -> NoReturn:
    """The first problem as a SpecError; how many more there are is said too."""
    problems = error.errors(include_url=False)
    # A misspelled field explains the one that is missing, so it comes first.
    problem = min(problems, key=lambda one: one["type"] != "extra_forbidden")
    inside = tuple(str(part) for part in problem["loc"])
    place = (*steps, *inside)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SpecError(_said(problem, model, inside) + more, field=".".join(place), where=marks.where(place)) from None


def _said(problem: Any, model: type[BaseModel], inside: tuple[str, ...]) -> str:
    from onward.functions import did_you_mean

    if problem["type"] == "extra_forbidden":
        return f"unknown field.{did_you_mean(inside[-1], _fields(model, inside[:-1]))}"
    if problem["type"] == "missing":
        return "is missing"
    message = str(problem["msg"]).removeprefix("Value error, ").partition(", unable to parse")[0]
    given = problem.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float) and problem["type"] != "value_error" else ""
    return (message[0].lower() + message[1:] if message[:1].isupper() else message) + shown


def _fields(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """The fields that there are at a place."""
    from onward.experiment import LimitsSpec, ProviderSpec

    nested: Mapping[str, type[BaseModel]] = {"limits": LimitsSpec, "providers": ProviderSpec}
    inner = nested.get(steps[0], model) if steps else model
    return list(inner.model_fields)
