"""Built-ins and user code by name: what an experiment writes as `numeric`, `{regex: "…"}` or `score.py:mine`.

A built-in is one function with one decorator (`@parser`, `@scorer`, `@reducer`, which live in their own rooms). A
user's function is the same thing in a file of theirs. Either becomes a `Function`: a callable with its options bound,
and an identity that goes into a fingerprint. The identity holds no path, so that a moved folder changes nothing.

Identity of a built-in: its name, its version, the options that differ from their defaults (so that a new option with a
harmless default stales nothing). Of user code: its name and options, and its declared version, else the SHA-256 of its
source file. Files that it imports do not count: code that leans on its neighbours should declare a version.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, overload

from onward.errors import OnwardError, SpecError, did_you_mean
from onward.fingerprint import canonical

__all__ = ["Function", "Registry", "did_you_mean", "load", "resolve"]

Call = Callable[..., Any]
F = TypeVar("F", bound=Call)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that an experiment named: `call` has its options bound and takes what its room hands it."""

    name: str
    call: Call
    identity: Mapping[str, Any]
    """JSON: what of it can change a result. It goes into a fingerprint."""
    source: str | None = None
    """The text of the user's file, kept in the run so that `load` can build it again; None for a built-in."""


# ---------------------------------------------------------------- registries


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a decorator leaves on a function."""

    kind: str
    name: str
    version: str | None
    positional: int
    check: Call | None


class Registry:
    """All functions of one kind by name, and the decorator that puts them there.

    `positional` is how many arguments the room hands in; the parameters after them are the function's options.
    Functions of a user's *file* are not entered (two runs in one process may hold two versions): they are reached as
    `file.py:name`.
    """

    def __init__(self, kind: str, positional: int) -> None:
        self.kind, self.positional = kind, positional
        self._found: dict[str, Call] = {}

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self, /, *, name: str | None = None, version: str | None = None, check: Call | None = None
    ) -> Callable[[F], F]: ...
    def __call__(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        check: Call | None = None,
    ) -> Any:
        """Enter a function: `@scorer`, or `@scorer(version="2", name=…, check=…)`.

        `version` stands for its code in fingerprints. `check(**options)` may raise ValueError for options that cannot
        work, so that a bad one is refused before a run starts. Raises SpecError where a built-in has that name.
        """

        def enter(fn: F) -> F:
            own = name or fn.__name__
            fn.__onward__ = _Mark(self.kind, own, version, self.positional, check)  # type: ignore[attr-defined]
            if not _loading():
                standing = self._found.get(own)
                if standing is not None and _is_ours(standing) and not _is_ours(fn):
                    raise SpecError(f'"{own}" is a built-in {self.kind}: call yours something else')
                self._found[own] = fn
            return fn

        return enter if function is None else enter(function)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._found)

    def resolve(self, reference: Any, folder: Path | None = None, *, field: str = "") -> Function:
        """The function that `reference` means: a name, `{name: options}`, `file.py:name`, a callable, or a Function.

        Paths are relative to `folder` (default: the working folder). `field` is named in the SpecError that is raised
        for an unknown name, a missing file, and options that the function does not take.
        """
        return _resolve(reference, folder, self, field or self.kind)

    def load(self, source: str, name: str, options: Mapping[str, Any] | None = None) -> Function:
        """A user's function of this kind from its stored text. Raises SpecError if the text does not define it."""
        return load(source, name, options, positional=self.positional)

    def _named(self, name: str, field: str) -> Call:
        if name not in self._found:
            hint = did_you_mean(name, self._found)
            raise SpecError(f'there is no {self.kind} "{name}".{hint} Your own: path/to/file.py:function', field=field)
        return self._found[name]


def resolve(reference: Any, folder: Path | None = None, *, field: str = "", positional: int = 1) -> Function:
    """A user's own function (a solver, a task source): `file.py:name`, `{file.py:name: options}` or a callable.

    `positional` is how many arguments it is handed; the rest of its parameters are options. Raises SpecError.
    """
    return _resolve(reference, folder, Registry("function", positional), field or "function")


def load(source: str, name: str, options: Mapping[str, Any] | None = None, *, positional: int = 1) -> Function:
    """The function `name` from the text of its file, as `Function.source` kept it: for when the file is gone.

    Raises SpecError if the text does not run or does not define it. Files that it imports must still be importable.
    """
    module = _module(source, f"<{name}, as stored in the run>", None, name)
    return _bind(_member(module, name, "", name), options or {}, positional, name, source)


def _resolve(reference: Any, folder: Path | None, registry: Registry, field: str) -> Function:
    options: Any = {}
    if isinstance(reference, Function):
        return reference
    if isinstance(reference, Mapping):
        if len(reference) != 1:
            raise SpecError(f"expected one {registry.kind} with its options, as in {{name: options}}", field=field)
        [(reference, options)] = reference.items()
    if callable(reference):
        return _from_callable(reference, {} if options is None else options, registry, field)
    if not isinstance(reference, str):
        raise SpecError(f"a {registry.kind} is named by text, not by {type(reference).__name__}", field=field)
    path, colon, name = reference.rpartition(":")
    if reference.endswith(".py") or (colon and path.endswith(".py")):
        if not name or not colon:
            raise SpecError(f'say which function of it: "{reference}:NAME"', field=field)
        found, text = _from_file((folder or Path()) / path, name, field)
        return _bind(found, options, registry.positional, field, text)
    found = registry._named(reference, field)
    return _bind(found, options, registry.positional, field, None if _is_ours(found) else _text_of(found, field))


# ---------------------------------------------------------------- a function, its options, its identity


def _is_ours(function: Call) -> bool:
    return (getattr(function, "__module__", None) or "").split(".")[0] == "onward"


def _bind(function: Call, options: Any, positional: int, field: str, source: str | None) -> Function:
    """A Function of a callable whose source is known (None: it is ours)."""
    mark: _Mark | None = getattr(function, "__onward__", None)
    name = mark.name if mark else getattr(function, "__name__", type(function).__name__)
    given = _options(function, {} if options is None else options, positional, field, name)
    if mark and mark.check:
        try:
            mark.check(**given)
        except ValueError as error:
            raise SpecError(f"{name}: {error}", field=field) from None
    identity: dict[str, Any] = {"name": name}
    version = (mark.version if mark else None) or getattr(function, "version", None)
    if version is not None:
        identity["version"] = str(version)
    elif source is not None:
        identity["source"] = sha256(source.encode()).hexdigest()
    else:
        raise SpecError(f"the built-in {name} declares no version", field=field)
    identity["options"] = given
    return Function(name, functools.partial(function, **given) if given else function, identity, source)


def _options(function: Call, options: Any, positional: int, field: str, name: str) -> dict[str, Any]:
    """The options by name, checked against the function's own parameters, without those that equal their default."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters[:positional]):
        takes = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    else:
        takes = [p for p in parameters[positional:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not isinstance(options, Mapping):
        if not takes:
            raise SpecError(f"{name} takes no options", field=field)
        options = {takes[0].name: options}
    known = {parameter.name: parameter for parameter in takes}
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for option in options:
            if option not in known:
                hint = did_you_mean(str(option), known) if known else " It takes none."
                raise SpecError(f'{name} has no option "{option}".{hint}', field=field)
    for option, parameter in known.items():
        if parameter.default is parameter.empty and option not in options:
            raise SpecError(f'{name} needs the option "{option}": {{{name}: {{{option}: …}}}}', field=field)
    try:
        canonical(dict(options))
    except OnwardError as error:
        raise SpecError(f"the options of {name} must be JSON: {error}", field=field) from None
    return {name: value for name, value in options.items() if name not in known or not _is_default(value, known[name])}


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    try:
        return canonical(value) == canonical(parameter.default)
    except OnwardError:
        return False


def _from_callable(function: Call, options: Any, registry: Registry, field: str) -> Function:
    if isinstance(function, functools.partial):
        if function.args:
            raise SpecError("a partial function must bind its options by name", field=field)
        if not isinstance(options, Mapping):
            raise SpecError("options of a partial function are given by name", field=field)
        return _from_callable(function.func, {**function.keywords, **options}, registry, field)
    if _is_ours(function) and hasattr(function, "__onward__"):
        return _bind(function, options, registry.positional, field, None)
    return _bind(function, options, registry.positional, field, _text_of(function, field))


def _text_of(function: Call, field: str) -> str:
    """The text of the file that a callable comes from (of the callable alone, where there is no file)."""
    subject: Any = inspect.unwrap(function)
    if not (inspect.isroutine(subject) or inspect.isclass(subject)):
        subject = type(subject)
    try:
        lines, _ = inspect.findsource(subject)
        return "".join(lines)
    except (OSError, TypeError):
        name = getattr(function, "__name__", repr(function))
        raise SpecError(
            f"{name} has no source file, so a run could not tell whether it changed: define it in a file", field=field
        ) from None


# ---------------------------------------------------------------- files

_lock = threading.RLock()
_state = threading.local()
_neighbours: set[str] = set()
"""Modules that user files imported from their own folder: forgotten before the next file is loaded, so that a file
of the same name in another folder (or edited since) is not mistaken for it."""


def _loading() -> bool:
    return getattr(_state, "depth", 0) > 0


def _from_file(path: Path, name: str, field: str) -> tuple[Call, str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"there is no file {path}", field=field) from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 (byte {error.start})", field=field) from None
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}", field=field) from None
    module = _module(text, str(path.resolve()), path.resolve().parent, field)
    return _member(module, name, str(path), field), text


def _member(module: ModuleType, name: str, path: str, field: str) -> Call:
    found = getattr(module, name, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    for value in vars(module).values():
        mark = getattr(value, "__onward__", None)
        if isinstance(mark, _Mark) and mark.name == name:
            return value  # type: ignore[no-any-return]
    own = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
    problem = "is not a function" if hasattr(module, name) else "is not there"
    raise SpecError(f'"{name}" {problem}{f" in {path}" if path else ""}.{did_you_mean(name, own)}', field=field)


def _module(text: str, filename: str, folder: Path | None, field: str) -> ModuleType:
    """Run the text of a file as a module under a name of its own. `folder` is importable while it runs."""
    digest = sha256(f"{filename}\n{text}".encode()).hexdigest()[:16]
    module = ModuleType(f"onward_user_{digest}")
    module.__file__ = filename
    with _lock:
        before = set(sys.modules)
        for neighbour in _neighbours & before:
            del sys.modules[neighbour]
        _neighbours.clear()
        sys.modules[module.__name__] = module
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        if folder is not None:
            sys.path.insert(0, str(folder))
        _state.depth = getattr(_state, "depth", 0) + 1
        try:
            exec(compile(text, filename, "exec"), vars(module))
        except Exception as error:
            del sys.modules[module.__name__]
            place = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            raise SpecError(f"{filename}{place} does not load: {type(error).__name__}: {error}", field=field) from error
        finally:
            _state.depth -= 1
            if folder is not None:
                sys.path.remove(str(folder))
                for name in set(sys.modules) - before:
                    origin = getattr(sys.modules[name], "__file__", None)
                    if origin and Path(origin).is_relative_to(folder) and name != module.__name__:
                        _neighbours.add(name)
    return module
