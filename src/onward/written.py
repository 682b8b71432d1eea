"""Experiments as people write them: files, built-in benchmarks, folders of tasks, and what is said on top of them.

    spec, folder = load(Path("nightly.yaml"), {"samples": 5})

What is wrong is said with its field, its file and its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from onward.errors import SpecError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from onward.experiment import Spec

__all__ = ["BENCHMARKS", "benchmark", "folder", "load", "placed", "specified"]

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
    "examples": {"tasks": "examples", "solver": {"model": ""}, "score": "reward"},
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
    standing = dict(BENCHMARKS[name])
    if overrides and overrides.get("agents"):  # its sampling is for models: an agent chooses its own
        own = standing["solver"]
        standing["solver"] = {field: own[field] for field in ("model", "prompt") if field in own}
    made = _over({"name": name, **standing}, overrides or {})
    return _validated(made, _Nowhere()), Path()


def folder(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Spec, Path]:
    """A folder of tasks as an experiment: its own verifiers score what agents make of them. Raises SpecError."""
    name = re.sub(r"[^\w.:@+-]+", "-", path.resolve().name).strip("-.") or "tasks"
    made = _over({"name": name, "tasks": str(path), "solver": {"model": ""}, "score": "reward"}, overrides or {})
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
        elif name == "agents":
            made["solver"] = _with_agents(made.get("solver"), value)
        elif name == "sandbox":
            made["solver"] = [{**one, "sandbox": value} for one in _mappings(made.get("solver"))]
        elif isinstance(value, Mapping) and (name == "tasks" or isinstance(made.get(name), Mapping)):
            made[name] = _merged(made.get(name), value)
        else:
            made[name] = value
    alone = made.get("solver")
    if isinstance(alone, Mapping) and alone.get("model") == "" and not {"python", "agent"} & set(alone):
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


def _with_agents(solver: Any, agents: Sequence[str]) -> list[Any]:
    """Each solver with each of these agents, `NAME` or `NAME@VERSION`, around its model."""
    made = []
    for one in _mappings(solver):
        for text in agents:
            name, _, version = text.partition("@")
            options = {**one.get("options", {}), **({"version": version} if version else {})}
            made.append({**one, "agent": name, "options": options})
    if len(made) > 1:
        for one in made:
            one["name"] = "-".join(filter(None, (one["agent"], str(one.get("model") or "").rpartition("/")[2])))
    return made


def _mappings(solver: Any) -> list[dict[str, Any]]:
    found = solver if isinstance(solver, list) else [solver or {}]
    return [dict(one) if isinstance(one, Mapping) else {"model": one} for one in found]


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
