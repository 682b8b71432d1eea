"""What a Dockerfile copies where, if it does no more than that: then its workspace can be had without a container.

Pure: the text of a Dockerfile and the names of the files in its build context go in. What cannot be known without its
base image (an environment variable of that, what RUN would do) is an obstacle, and is never guessed.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate

__all__ = ["Workspace", "ignoring", "reserved", "workspace"]

_WITHOUT_EFFECT = {"LABEL", "USER", "CMD", "MAINTAINER", "EXPOSE", "STOPSIGNAL"}
_FOLDERS = {"/tmp", "/root", "/home", "/opt", "/srv", "/mnt", "/media"}
"""Folders that every image has."""
_OF_THE_SYSTEM = {
    "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "nix", "onward", "proc", "run", "sbin", "sys", "usr", "var",
}  # fmt: skip
_VARIABLE = re.compile(r"\\(.)|\$(?:\{(\w+)(?:(:[-+])([^{}]*))?\}|(\w+))", re.DOTALL)
_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz)(\.\w+)?$|\.(gz|bz2|xz|zst)$")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a Dockerfile makes of its base image."""

    base: str = ""
    workdir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """{absolute path inside: path in the build context}."""
    obstacle: str = ""
    """The first line that needs a container, with its number; the other fields hold what came before it."""


class _Obstacle(Exception):
    """This line cannot be had without a container."""


def workspace(text: str, context: Collection[str], ignored: str = "") -> Workspace:
    """What this Dockerfile makes, given the paths of the files in its context and the text of its `.dockerignore`.

    Raises ValueError, with the line, for what no build could do: no FROM, a word that is no instruction, a source that
    is not there.
    """
    kept = ignoring(ignored)
    made = _Made([path for path in sorted(context) if not kept(path)])
    number, said = 0, ""
    try:
        for instruction in _instructions(text):
            number, said = instruction
            word, _, rest = said.partition(" ")
            made.take(word.upper(), rest.strip())
    except _Obstacle as why:
        reason = f" ({why})" if str(why) else ""
        obstacle = f"line {number}: {said if len(said) <= 100 else said[:99] + '…'}{reason}"
        return Workspace(made.base, made.workdir, made.env, made.files, obstacle)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None
    if not made.base:
        raise ValueError("there is no FROM")
    return Workspace(made.base, made.workdir, made.env, made.files)


# ---------------------------------------------------------------- lines


def _instructions(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, instruction) with continuations joined and comments gone."""
    escape = "\\"
    lines = text.removeprefix("\ufeff").splitlines()
    for line in lines:  # directives stand before all else
        directive = re.fullmatch(r"\s*#\s*(\w+)\s*=\s*(\S+)\s*", line)
        if directive is None:
            break
        if directive[1].lower() == "escape":
            escape = directive[2]
    begun, parts = 0, list[str]()
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare.startswith("#") or not bare:
            continue
        begun = begun or number
        if bare.endswith(escape):
            parts.append(line.rstrip()[:-1])
            continue
        parts.append(line)
        yield begun, "".join(parts).strip().replace("\t", " ")
        begun, parts = 0, []
    if parts:
        yield begun, "".join(parts).strip().replace("\t", " ")


def _list(rest: str) -> list[str] | None:
    """The words of the JSON form, if it is that."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def _unquoted(word: str) -> str:
    return re.sub(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""", _inner, word, flags=re.DOTALL)


def _inner(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    return found[3] if found[2] is None else re.sub(r'\\(["\\$])', r"\1", found[2])


# ---------------------------------------------------------------- instructions


class _Made:
    """What came of the instructions so far."""

    def __init__(self, context: list[str]) -> None:
        self.context = context
        split = [path.split("/") for path in context]
        self.folders = {"", *("/".join(parts[:n]) for parts in split for n in range(len(parts)))}
        self.base, self.workdir = "", ""
        self.env: dict[str, str] = {}
        self.files: dict[str, str] = {}
        self._arguments: dict[str, str] = {}
        self._there = set(_FOLDERS)

    def take(self, word: str, rest: str) -> None:
        """One instruction. Raises _Obstacle, or ValueError."""
        if word == "FROM":
            self._from(rest)
        elif word == "ARG":
            for name, value in self._pairs(rest, bare=True):
                self._arguments[name] = value
        elif not self.base:
            raise ValueError(f"{word} stands before FROM")
        elif word == "WORKDIR":
            self._enter(self._filled(_unquoted(rest)))
        elif word == "ENV":
            self.env.update(self._pairs(rest, bare=False))
        elif word in ("COPY", "ADD"):
            self._copy(word, rest)
        elif word not in _WITHOUT_EFFECT:
            if not re.fullmatch("RUN|ENTRYPOINT|VOLUME|SHELL|HEALTHCHECK|ONBUILD", word):
                raise ValueError(f"{word} is no instruction of a Dockerfile")
            raise _Obstacle

    def _from(self, rest: str) -> None:
        if self.base:
            raise _Obstacle("a second stage")
        words = [word for word in rest.split() if not word.startswith("--")]
        if not words:
            raise ValueError("FROM names no image")
        self.base = self._filled(words[0])

    def _filled(self, text: str) -> str:
        """With variables filled in; one that is not known here may be the base image's."""

        def fill(found: re.Match[str]) -> str:
            if found[1] is not None:
                return found[1] if found[1] == "$" else found[0]
            name = found[2] or found[5]
            value = self.env.get(name, self._arguments.get(name))
            if value is None:
                raise _Obstacle(f"${name} is not set before")
            if found[3] == ":-":
                return value or found[4]
            return (found[4] if value else "") if found[3] == ":+" else value

        return _VARIABLE.sub(fill, text)

    def _pairs(self, rest: str, *, bare: bool) -> list[tuple[str, str]]:
        """`A=1 B="two words"`, or the older `A all the rest`."""
        words = _WORD.findall(rest)
        if not words:
            raise ValueError("it names nothing")
        if "=" not in words[0] and not bare:
            name, _, value = rest.partition(" ")
            return [(name, self._filled(value.strip()))]
        found = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                if bare:
                    continue  # an argument of the build without a value: nobody gives one here
                raise ValueError(f"{word}: expected NAME=VALUE")
            filled = value if value.startswith("'") else self._filled(value)
            found.append((name, _unquoted(filled)))
        return found

    def _enter(self, folder: str) -> None:
        if not folder:
            raise ValueError("WORKDIR names no folder")
        path = self._placed(folder)
        if reserved(path):
            raise _Obstacle(f"{path} is the system's")
        self.workdir = path
        self._there.add(path)

    def _placed(self, path: str) -> str:
        if not path.startswith("/") and not self.workdir:
            raise _Obstacle("the base image's working folder is not known: write a WORKDIR before it")
        return posixpath.normpath(posixpath.join(self.workdir, path))

    def _copy(self, word: str, rest: str) -> None:
        while rest.startswith("--"):
            flag, _, rest = rest.partition(" ")
            rest = rest.strip()
            if flag.partition("=")[0] not in ("--chown", "--link"):
                raise _Obstacle
        if "<<" in rest:
            raise _Obstacle
        words = _list(rest)
        if words is None:
            words = [_unquoted(one) for one in _WORD.findall(rest)]
        words = [self._filled(one) for one in words]
        if len(words) < 2:
            raise ValueError(f"{word} needs a source and a target")
        *sources, target = words
        found = [one for source in sources for one in self._matching(word, source)]
        into = self._placed(target)
        is_folder = target.endswith("/") or target == "." or len(found) > 1 or into in self._there
        for source in found:
            if source in self.folders:
                start = f"{source}/" if source else ""
                for path in self.context:
                    if path.startswith(start):
                        self._put(posixpath.join(into, path.removeprefix(start)), path)
            else:
                self._put(posixpath.join(into, posixpath.basename(source)) if is_folder else into, source)

    def _matching(self, word: str, source: str) -> list[str]:
        if word == "ADD" and (re.match(r"\w+://|git@", source) or _ARCHIVE.search(source)):
            raise _Obstacle
        wanted = posixpath.normpath(source.lstrip("/") or ".").removeprefix("./")
        if wanted.split("/")[0] == "..":
            raise ValueError(f"{source} lies outside the build context")
        wanted = "" if wanted == "." else wanted
        known = [*self.context, *self.folders]
        if not re.search(r"[*?\[]", wanted):
            found = [wanted] if wanted in known else []
        else:
            fits = _pattern(wanted)
            found = sorted(one for one in known if one and fits(one))
        if not found:
            raise ValueError(f"{source} is not in the build context")
        return found

    def _put(self, inside: str, path: str) -> None:
        if reserved(inside) or posixpath.dirname(inside) == "/":
            raise _Obstacle(f"{inside} is among the system's files")
        self.files[inside] = path
        folder = posixpath.dirname(inside)
        while folder not in self._there:
            self._there.add(folder)
            folder = posixpath.dirname(folder)


def reserved(path: str) -> bool:
    """Whether an absolute path is among the system's own, which can be read in a sandbox and not written."""
    top = path.strip("/").partition("/")[0]
    return not top or top in _OF_THE_SYSTEM


# ---------------------------------------------------------------- patterns


def _pattern(text: str) -> Callable[[str], bool]:
    """A path with `*`, `?` and `[…]`, none of which goes past a slash."""
    segments = [re.compile(translate(one)) for one in text.split("/")]

    def fits(path: str) -> bool:
        parts = path.split("/")
        return len(parts) == len(segments) and all(one.match(part) for one, part in zip(segments, parts, strict=True))

    return fits


def ignoring(text: str) -> Callable[[str], bool]:
    """Whether a `.dockerignore` of this text leaves a path out: the last pattern that fits it, or a folder above it,
    says so."""
    rules: list[tuple[bool, re.Pattern[str]]] = []
    for line in text.removeprefix("\ufeff").splitlines():
        bare = line.strip()
        if not bare or line.startswith("#"):
            continue
        leaves_out = not bare.startswith("!")
        clean = posixpath.normpath(bare.removeprefix("!").strip()).lstrip("/")
        if clean != ".":
            rules.append((leaves_out, re.compile(_ignored(clean))))

    def left_out(path: str) -> bool:
        answer = False
        for leaves_out, pattern in rules:
            if pattern.fullmatch(path):
                answer = leaves_out
        return answer

    return left_out


def _ignored(pattern: str) -> str:
    body, rest = "", pattern
    while rest:
        if rest.startswith("**/"):
            body, rest = body + "(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            body, rest = body + ".*", rest[2:]
        elif rest[0] == "*":
            body, rest = body + "[^/]*", rest[1:]
        elif rest[0] == "?":
            body, rest = body + "[^/]", rest[1:]
        elif rest[0] == "[" and (closed := re.match(r"\[(\^?)([^\]]+)\]", rest)):
            inner = closed[2].replace("\\", "\\\\").replace("[", "\\[")
            body, rest = f"{body}[{closed[1]}{inner}]", rest[closed.end() :]
        else:
            step = 2 if rest[0] == "\\" and len(rest) > 1 else 1
            body, rest = body + re.escape(rest[step - 1 : step]), rest[step:]
    return f"{body}(?:/.*)?"
