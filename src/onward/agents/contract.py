"""What an agent is to us: a program of some version that is started with an instruction and told where the model is.

An adapter says how it is installed, how it is started, and which wire formats it speaks. It changes nothing of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward.errors import UsageError, did_you_mean

if TYPE_CHECKING:  # what opens sandboxes is read when one is to be opened
    from onward.sandbox import Bind, Ran

__all__ = ["Agent", "Go", "Installed", "Launch", "Said"]

Said = Callable[[str], None]
"""Told what is going on, in words for a person."""

_LONGEST = 128 * 1024 - 64
"""Linux starts no program with a longer argument or variable."""


@dataclass(frozen=True, slots=True)
class Installed:
    """An agent of one version on this machine."""

    version: str
    command: tuple[str, ...]
    """How it is started, by absolute paths that are the same inside a sandbox."""
    binds: tuple[Bind, ...] = ()
    """What a sandbox must be able to read for that."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Go:
    """What one start of an agent is told. All paths are inside the sandbox, and the same at every attempt."""

    instruction: str
    model: str
    """The name by which its provider knows the model."""
    url: str
    """The gateway, without a version: `http://127.0.0.1:8399`."""
    token: str
    """What it shows the gateway as its key. No provider's key is ever here."""
    home: str
    workdir: str
    session: str
    """A UUID for whatever it calls its session: the same at every attempt of a trial."""
    options: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""
    """The wire format in which the model is to be asked, one of the agent's; by default its main one."""

    @property
    def fits(self) -> bool:
        """Whether the instruction can be an argument or a variable."""
        return len(self.instruction.encode()) <= _LONGEST and "\0" not in self.instruction

    @property
    def argument(self) -> str:
        """The instruction as it can be an argument or a variable. Raises UsageError where it cannot."""
        if not self.fits:
            size = len(self.instruction.encode())
            raise UsageError(f"the instruction ({size:,} bytes) cannot be an argument of a program: 128 KB, no NUL")
        return self.instruction


@dataclass(frozen=True, slots=True)
class Launch:
    """How it is started in a sandbox."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Its configuration: {absolute path inside: content}, put there before it starts."""
    stdin: bytes = b""


class Agent(ABC):
    """One agent, unmodified."""

    name: str
    summary: str
    """One line for a list."""
    protocols: tuple[str, ...]
    """The wire formats that it may speak: `chat`, `responses`, `messages`, `gemini`. The first is its main one."""
    own: tuple[str, ...] = ()
    """Paths in the working folder that hold its own state and are no part of its work."""
    asks: bool = True
    """Whether it asks a model at all: one that does and made no call through the gateway has gone past it."""
    version: str = ""
    """The version that is meant where an experiment names none: the one that our tests run."""
    takes: tuple[str, ...] = ("version", "args", "env")
    """What an experiment may say of it: more arguments (`args`), more environment (`env`), and what is its own."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UsageError for what it does not take, or what is not of the form it must have."""
        for name, value in options.items():
            if name not in self.takes:
                raise UsageError(f"{self.name} takes no {name!r}.{did_you_mean(name, self.takes)}")
            if name == "version" and not isinstance(value, str):
                raise UsageError(f'{self.name}: version is a text, as in "1.2.3", not {value!r}')
            if name == "args" and not _texts(value):
                raise UsageError(f"{self.name}: args is a list of texts, not {value!r}")
            if name == "env" and not (isinstance(value, Mapping) and _texts([*value, *value.values()])):
                raise UsageError(f"{self.name}: env is names and texts, not {value!r}")

    @abstractmethod
    def find(self, cache: Path, options: Mapping[str, Any]) -> Installed | None:
        """What is installed already of the version that is wanted (`options["version"]`, else the pinned default)."""

    @abstractmethod
    def install(self, cache: Path, options: Mapping[str, Any], say: Said) -> Installed:
        """Install it, once per version. Raises UsageError that says what is missing on this machine."""

    def lacking(self) -> str:
        """What this machine must be given before it can be installed, and how; empty where nothing is missing."""
        return ""

    @abstractmethod
    def launch(self, installed: Installed, go: Go) -> Launch:
        """How to start it."""

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What its behaviour depends on besides its version: goes into the fingerprint."""
        return {name: value for name, value in options.items() if name != "version"}

    def wanted(self, options: Mapping[str, Any]) -> str:
        """The version that is meant."""
        return str(options.get("version") or self.version)

    def final(self, ran: Ran) -> str:
        """What it said last to whoever started it."""
        return ran.out.strip()


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
