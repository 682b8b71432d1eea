"""Other people's programs, installed once per version: whole or not at all, and never twice at once.

A program is made in a folder beside its place and moved there when it is complete; the last thing written is a note of
what it is. A folder without the note, or without what the note names, is not an installation. One lock per version lets
a second installer wait for the first.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.errors import UsageError

__all__ = ["Node", "Npm", "Package", "Venv", "exact", "found", "interpreter", "node", "provided"]

_NOTE = "onward.json"
_VERSION = re.compile(r"\d[\w.+-]*")
_LONGEST = 1800.0
Say = Callable[[str], None]


class Package(ABC):
    """What is to be installed, and how."""

    @abstractmethod
    def check(self) -> None:
        """Raises UsageError that says what this machine lacks for it, and how to get that."""

    @abstractmethod
    def make(self, folder: Path, version: str) -> dict[str, Any]:
        """Install it into this empty folder, which will be moved. Returns the note: its `program` at least, relative
        to the folder. Raises UsageError."""


def exact(name: str, version: str) -> None:
    """Raises UsageError for what is no version, or one that moves."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{name}: {version!r} is no version: name one, as in 1.2.3, so that it stays the same")


def place(cache: Path, name: str, version: str) -> Path:
    """Where a version is, or would be. Raises UsageError for what is no version."""
    exact(name, version)
    return cache / "agents" / name / version


def found(cache: Path, name: str, version: str) -> tuple[Path, Mapping[str, Any]] | None:
    """The folder of what is installed, and its note."""
    folder = place(cache, name, version)
    try:
        note = json.loads((folder / _NOTE).read_text())
        whole = note["version"] == version and all((folder / note[part]).exists() for part in ("program",))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (folder, note) if whole else None


def provided(cache: Path, name: str, version: str, package: Package, say: Say) -> tuple[Path, Mapping[str, Any]]:
    """The same, installed if it is not there. Raises UsageError."""
    there = found(cache, name, version)
    if there:
        return there
    folder = place(cache, name, version)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent / f".{version}.lock", lambda: say(f"waiting: {name} {version} is being installed")):
            there = found(cache, name, version)
            if there:
                return there
            say(f"installing {name} {version} into {folder}")
            _install(folder, version, package)
    except OSError as error:
        raise UsageError(f"{name} {version} cannot be installed into {folder}: {error.strerror or error}") from None
    there = found(cache, name, version)
    if there is None:
        raise UsageError(f"{name} {version} was installed, and is not whole: see {folder}")
    return there


def _install(folder: Path, version: str, package: Package) -> None:
    for left in folder.parent.glob(f".{version}.making-*"):  # we hold the lock: whoever made it was killed
        shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=f".{version}.making-", dir=folder.parent))
    try:
        note = package.make(making, version)
        making.chmod(0o755)
        (making / _NOTE).write_text(json.dumps({"version": version, **note}) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


@contextmanager
def _alone(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str | Path], what: str, cwd: Path) -> str:
    """What it said. Raises UsageError with the end of its complaint."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=_LONGEST, cwd=cwd,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"{what} took longer than {_LONGEST / 60:.0f} min: is the package registry reachable?"
        ) from None
    if done.returncode:
        raise UsageError(
            f"{what} ended with {done.returncode}:\n{(done.stderr.strip() or done.stdout.strip())[-1500:]}\n"
            "Is there such a version, and is the package registry reachable? `onward agents list` names the versions "
            "that are tested"
        )
    return done.stdout


# ---------------------------------------------------------------- npm


@dataclass(frozen=True, slots=True)
class Node:
    """The Node of this machine."""

    program: Path
    version: tuple[int, ...]


def node(least: int = 18) -> Node:
    """Raises UsageError where there is none that is new enough. It says itself where it is: version managers put a
    stand-in on the PATH."""
    program = shutil.which("node")
    asked = [program, "-p", "process.execPath + '\\n' + process.versions.node"] if program else []
    path, _, said = _run(asked, "node", Path("/")).strip().partition("\n") if program else ("", "", "")
    version = tuple(int(number) for number in re.findall(r"\d+", said))
    if version[:1] < (least,):
        has = f"this one is {said}" if said else "there is none here"
        raise UsageError(f"Node {least} or later is needed, and {has}: apt-get install nodejs npm")
    return Node(Path(path).resolve(), version)


@dataclass(frozen=True, slots=True)
class Npm(Package):
    """A package of Node's. `programs`: where its program may be, as patterns, the best first. `node`: the oldest Node
    that runs it, where it is no program of its own."""

    name: str
    programs: tuple[str, ...]
    node: int = 0

    def check(self) -> None:
        """It takes npm, and maybe Node at run time too."""
        if shutil.which("npm") is None:
            raise UsageError(f"npm is needed to install {self.name}: apt-get install npm")
        if self.node:
            node(self.node)

    def make(self, folder: Path, version: str) -> dict[str, Any]:
        """With the machine's own npm. No script of any package is run."""
        self.check()
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
        _run(
            ["npm", "install", "--prefix", folder, *options, f"{self.name}@{version}"],
            f"npm install {self.name}",
            folder,
        )
        got = json.loads((folder / "node_modules" / self.name / "package.json").read_text())["version"]
        if got != version:
            raise UsageError(f"npm has installed {self.name} {got} where {version} was asked for")
        matches = (path for pattern in self.programs for path in sorted(folder.glob(pattern)))
        program = next(matches, None)
        if program is None:
            raise UsageError(f"{self.name} {version} holds no program for this machine ({self.programs[0]})")
        for path in folder.glob("package*.json"):  # names where it came from
            path.unlink()
        (folder / "node_modules" / ".package-lock.json").unlink(missing_ok=True)
        return {"program": str(program.relative_to(folder))}


# ---------------------------------------------------------------- Python


@dataclass(frozen=True, slots=True)
class Venv(Package):
    """Packages of Python's, in an environment of their own: `requirements`, with `{version}` where ours goes."""

    requirements: tuple[str, ...]
    program: str
    """The console script."""
    pythons: tuple[str, ...]
    """Which Pythons it runs on, the best first: `3.12`."""

    @property
    def name(self) -> str:
        """What is installed, without its version."""
        return self.requirements[0].partition("=")[0]

    def check(self) -> None:
        """It takes one of its Pythons."""
        interpreter(self.pythons, self.name)

    def make(self, folder: Path, version: str) -> dict[str, Any]:
        """With the first of these Pythons that this machine has. Wheels alone: no package's own code is run."""
        base = interpreter(self.pythons, self.name)
        _run([base, "-m", "venv", folder / "venv"], f"{base} -m venv", folder)
        python = folder / "venv" / "bin" / "python"
        wanted = [requirement.format(version=version) for requirement in self.requirements]
        options = ("--no-input", "--disable-pip-version-check", "-q", "--only-binary=:all:")
        _run([python, "-m", "pip", "install", *options, *wanted], f"pip install {wanted[0]}", folder)
        script = folder / "venv" / "bin" / self.program
        if not script.is_file():
            raise UsageError(f"{wanted[0]} has no program called {self.program}")
        return {"program": f"venv/bin/{self.program}", "python": "venv/bin/python", "base": _prefix(base)}


def _prefix(python: Path) -> str:
    return _run([python, "-I", "-S", "-c", "import sys; sys.stdout.write(sys.base_prefix)"], str(python), Path("/"))


def interpreter(versions: Sequence[str], who: str) -> Path:
    """The first of these Pythons that runs here. Raises UsageError that says how to get one."""
    for version in versions:
        for candidate in _candidates(version):
            code = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
            try:
                said = _run([candidate, "-I", "-c", code], str(candidate), Path("/"))
            except (UsageError, OSError):  # a shim that stands for nothing
                continue
            if said == version:
                return candidate
    need = " or ".join(versions)
    raise UsageError(
        f"{who} needs Python {need}, and none was found: apt-get install python{versions[0]}-venv, "
        f"pyenv install {versions[0]}, or uv python install {versions[0]}"
    )


def _candidates(version: str) -> Iterator[Path]:
    """Ours, one on the PATH, and those that stand beside either, as version managers put them."""
    program = f"python{version}"
    prefix = Path(sys.base_prefix)
    own = prefix / "bin" / program
    if own.exists():
        yield own
    on_path = shutil.which(program)
    if on_path:
        yield Path(on_path)
    beside = [prefix.parent]
    shims = (Path(one).parent for one in (on_path, shutil.which("python3")) if one)
    beside += [shim.parent / "versions" for shim in shims if shim.name == "shims"]
    for folder in dict.fromkeys(beside):
        yield from sorted(folder.glob(f"*{version}*/bin/{program}"), reverse=True)
