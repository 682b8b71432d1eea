"""The rules of the house that import contracts (pyproject.toml) cannot say, read off the source.

Each rule is a function from one module to the places where it is broken; `test_the_rules_bite` shows each a module that
breaks it. Where a rule must give way, say so in EXCEPTIONS, with the reason: an exception that nothing needs fails too.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[1] / "src" / "onward"

_PROJECT = tomllib.loads((HOUSE.parents[1] / "pyproject.toml").read_text())["project"]
_EXTRAS = [name for extra, names in _PROJECT["optional-dependencies"].items() if extra != "dev" for name in names]
DEPENDENCIES = {re.split("[^A-Za-z0-9-]", name)[0].lower() for name in (*_PROJECT["dependencies"], *_EXTRAS)}

ROOMS = {
    "nouns": {"errors", "keys", "fingerprint", "entry", "said", "plan", "retry", "ask", "protocols"},
    "journal": {"journal"},
    "engine": {"once", "history", "context", "runner", "lease", "limits", "clock", "progress"},
    "evaluation": {
        "tasks", "stages", "scorers", "parsers", "reducers", "functions", "solvers", "experiment",
        "workflow",
    },
    "gateway": {"gateway"},
    "sandbox": {"sandbox"},
    "agents": {"agents"},
    "reading": {"views", "stats", "report", "formats", "runs"},
    "windows": {"cli", "studio"},
}  # fmt: skip

# What a room must never import, be it ours or another's.
FORBIDDEN: Mapping[str, set[str]] = {
    "nouns": {
        "asyncio", "threading", "subprocess", "socket", "os", "sqlite3", "aiohttp", "time", "datetime", "random",
        "secrets", "pydantic", "yaml",
    },
    "journal": {"asyncio", "aiohttp", "pydantic", "yaml"},
    "engine": {"sqlite3", "aiohttp", "pydantic", "yaml"},
    "evaluation": {"sqlite3", "aiohttp", "subprocess", "socket"},
    "sandbox": {"sqlite3", "aiohttp", "onward.journal", "onward.gateway", "onward.entry", "onward.plan"},
    "gateway": {"sqlite3", "onward.journal", "onward.sandbox"},
    "reading": {
        "asyncio", "sqlite3", "aiohttp",
        "onward.once", "onward.context", "onward.runner", "onward.lease", "onward.limits",
    },
    "windows": {"sqlite3", "onward.journal", "onward.once"},
}  # fmt: skip

# Other people's packages, each with the only places that may know it.
AT_HOME: Mapping[str, set[str]] = {
    "sqlite3": {"journal"},
    "aiohttp": {"gateway", "studio", "testing"},
    "genai_prices": {"gateway"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "dotenv": {"config"},
    "pyarrow": {"tasks", "formats"},
    "datasets": {"tasks"},
    "time": {"clock", "testing"},
}

# Vendors' SDKs, and whatever turns bytes into running code.
NOWHERE = {"litellm", "openai", "anthropic", "google", "pickle", "marshal", "shelve", "dill", "cloudpickle"}

MODULE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 8

EXCEPTIONS: Mapping[str, str] = {
    # "rule:folder/module.py": "why"
    "code_from_text:functions.py": "the user's own functions, out of the copy of their source that the run holds",
}


@dataclass(frozen=True)
class Module:
    """One source file of the house. `place` is its file or folder directly under `onward`."""

    path: str
    source: str
    tree: ast.Module

    @classmethod
    def of(cls, path: str, source: str) -> Module:
        return cls(path, source, ast.parse(source))

    @property
    def place(self) -> str:
        return self.path.split("/", 1)[0].removesuffix(".py")

    @property
    def room(self) -> str:
        return next((room for room, places in ROOMS.items() if self.place in places), "")

    def imports(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of everything that is imported, functions' own imports included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)

    def names(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of everything that is mentioned: `os.environ`, `print`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute):
                yield node.lineno, _dotted(node)

    def calls(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of everything that is called."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node.lineno, _dotted(node.func)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def _dotted(node: ast.expr) -> str:
    """`a.b.c`; what is called on the way is `()`, and anything else `?`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return f"{_dotted(node.func)}()" if isinstance(node, ast.Call) else "?"


def _under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports_of_a_room(module: Module) -> Iterator[tuple[int, str]]:
    """A room does not import what DESIGN §3 forbids it."""
    for line, name in module.imports():
        for package in FORBIDDEN.get(module.room, ()):
            if _under(name, package):
                yield line, f"{module.room} must never import {package}"


def packages_at_home(module: Module) -> Iterator[tuple[int, str]]:
    """One place knows a package of others; nothing can be unpickled; no vendor's SDK comes in."""
    for line, name in module.imports():
        for package, places in AT_HOME.items():
            if _under(name, package) and module.place not in places:
                yield line, f"{package} belongs to {', '.join(sorted(places))}"
        if name.partition(".")[0] in NOWHERE:
            yield line, f"{name} has no place here"


def declared(module: Module) -> Iterator[tuple[int, str]]:
    """What is imported is asked for in pyproject.toml."""
    ours = {"onward", "compression", *sys.stdlib_module_names}  # compression: the standard library's, from 3.14 on
    for line, name in module.imports():
        package = name.partition(".")[0]
        if package not in ours:
            distribution = {"yaml": "pyyaml", "dotenv": "python-dotenv", "backports": "backports-zstd"}.get(
                package, package
            )
            if distribution.replace("_", "-") not in DEPENDENCIES:
                yield line, f"{distribution} is not among the dependencies"


def environment(module: Module) -> Iterator[tuple[int, str]]:
    """Only config reads the environment."""
    words = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.path.expandvars", "Path.home"}
    if module.place != "config":
        yield from ((line, name) for line, name in (*module.names(), *module.imports()) if name in words)


def the_clock(module: Module) -> Iterator[tuple[int, str]]:
    """Only clock tells time."""
    words = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "loop().time", "loop.time")
    if module.place != "clock":
        yield from ((line, name) for line, name in module.calls() if name.endswith(words))


def printing(module: Module) -> Iterator[tuple[int, str]]:
    """Only programs print: the command line, and the scripted provider of `python -m onward.testing`."""
    words = {"print", "sys.stdout", "sys.stderr"}
    if module.place not in {"cli", "testing"}:
        yield from ((line, name) for line, name in module.names() if name in words)
        yield from ((line, name) for line, name in module.calls() if name == "input")


def code_from_text(module: Module) -> Iterator[tuple[int, str]]:
    """Nothing is made into code at run time."""
    yield from ((line, name) for line, name in module.calls() if name in {"eval", "exec", "compile", "__import__"})


def appending(module: Module) -> Iterator[tuple[int, str]]:
    """Only the engine appends."""
    if module.room not in {"journal", "engine"} and module.place != "testing":
        for line, name in module.calls():
            owner, _, verb = name.rpartition(".")
            if verb in {"append", "commit"} and owner.rpartition(".")[2].strip("_") == "journal":
                yield line, name


def sizes(module: Module) -> Iterator[tuple[int, str]]:
    """What is held in the head at once is small."""
    lines = module.source.count("\n")
    if lines > MODULE_LINES:
        yield 1, f"{lines} lines; a module has at most {MODULE_LINES}"
    for function in module.functions():
        long = (function.end_lineno or 0) - function.lineno + 1
        if long > FUNCTION_LINES:
            yield function.lineno, f"{function.name} has {long} lines; at most {FUNCTION_LINES}"
        given = function.args
        named = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        count = len([name for name in named if name not in {"self", "cls"}])
        if count > PARAMETERS and not function.name.startswith("_"):
            yield (
                function.lineno,
                f"{function.name} has {count} parameters; at most {PARAMETERS}: pass one frozen value",
            )


def nouns(module: Module) -> Iterator[tuple[int, str]]:
    """A thing without a noun of its own is not understood yet."""
    empty = {
        "utils",
        "util",
        "core",
        "base",
        "common",
        "helpers",
        "helper",
        "misc",
        "manager",
        "orchestrator",
        "shared",
    }
    for part in module.path.removesuffix(".py").split("/"):
        if part in empty or any(part.endswith(f"_{word}") for word in empty):
            yield 1, f"{part} is not a noun of this house"


Rule = Callable[[Module], Iterator[tuple[int, str]]]
RULES: tuple[Rule, ...] = (
    imports_of_a_room, packages_at_home, declared, environment, the_clock,
    printing, code_from_text, appending, sizes, nouns,
)  # fmt: skip


@functools.cache
def house() -> list[Module]:
    paths = [path.relative_to(HOUSE).as_posix() for path in sorted(HOUSE.rglob("*.py"))]
    ours = [path for path in paths if not path.startswith("tasks/examples/")]  # task folders, not modules
    return [Module.of(path, (HOUSE / path).read_text()) for path in ours]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    broken = {
        f"{module.path}:{line}": what
        for module in house()
        if f"{rule.__name__}:{module.path}" not in EXCEPTIONS
        for line, what in rule(module)
    }
    assert not broken, f"{rule.__doc__}\n" + "\n".join(f"  src/onward/{at}: {what}" for at, what in broken.items())


def test_every_exception_is_needed() -> None:
    needed = {f"{rule.__name__}:{module.path}" for module in house() for rule in RULES if any(rule(module))}
    assert set(EXCEPTIONS) <= needed


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (imports_of_a_room, "keys.py", "import asyncio.subprocess"),
        (imports_of_a_room, "plan.py", "def f():\n    from os import path"),
        (imports_of_a_room, "sandbox/bubblewrap.py", "from onward import journal"),
        (imports_of_a_room, "views.py", "from onward.runner import Runner"),
        (imports_of_a_room, "cli/show.py", "import sqlite3"),
        (packages_at_home, "launch.py", "import litellm"),
        (packages_at_home, "formats/old.py", "from pickle import loads"),
        (packages_at_home, "launch.py", "from rich.console import Console"),
        (declared, "launch.py", "import requests"),
        (environment, "launch.py", "import os\nKEY = os.environ['KEY']"),
        (environment, "launch.py", "import os\nos.getenv('HOME')"),
        (environment, "launch.py", "from os import environ"),
        (the_clock, "runner.py", "import datetime\ndatetime.datetime.now()"),
        (the_clock, "runner.py", "import asyncio\nasyncio.get_running_loop().time()"),
        (printing, "runner.py", "print('done')"),
        (printing, "report/html.py", "import sys\nsys.stdout.write('')"),
        (code_from_text, "scorers/python.py", "eval('1')"),
        (appending, "views.py", "def f(run):\n    run._journal.append([], {}, print)"),
        (sizes, "once.py", "\n" * 401),
        (sizes, "once.py", "def f():\n" + "    pass\n" * 60),
        (sizes, "once.py", "def f(a, b, c, d, e, f, g, *, h, i): ..."),
        (nouns, "utils/text.py", ""),
        (nouns, "run_manager.py", ""),
    ],
)
def test_the_rules_bite(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Module.of(path, source)))


def test_lists_may_be_appended_to() -> None:
    assert not list(appending(Module.of("views.py", "rows = []\nrows.append(1)\nself.rows.append(2)")))
