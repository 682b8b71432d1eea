"""An episode: one go of an agent at a task, as evaluation asks for it. How it is performed is the world's business.

An agent is a program in a sandbox whose model traffic goes through the gateway. What it is given (instruction, files),
how long it may take and how its work is judged are here as values; nothing here opens, reads or runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from onward.keys import Key

__all__ = ["AGENT_SECONDS", "Environment", "Episode", "File", "Folder", "Told", "Verifier"]

AGENT_SECONDS = 1800.0
"""Active seconds that an agent may take where neither the experiment nor the task says: half an hour."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that belongs to a task: `path` relative to the task's folder, `digest` of its content in the run."""

    path: str
    digest: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Environment:
    """What an agent works in. Sizes are in megabytes, times in seconds; None and "" are the sandbox's own."""

    prefix: str = ""
    """Files below this path of the task (`environment/`) are the build context of its Dockerfile."""
    dockerfile: str = ""
    """The path of its Dockerfile in the task, if it has one."""
    obstacle: str = ""
    """Why it can be had in a container only: the line of the Dockerfile that does more than copy files."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The workspace where there is no container: {absolute path inside: path in the task}."""
    image: str = ""
    workdir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory: int | None = None
    storage: int | None = None
    network: bool = False
    build_seconds: float = 600.0
    setup: tuple[str, ...] = ()
    """Shell commands that prepare it, before the agent begins."""

    @property
    def plain(self) -> bool:
        """Whether it can be had without a container."""
        return not self.obstacle

    @property
    def folders(self) -> tuple[str, ...]:
        """Where, besides the working folder and /tmp, its files are."""
        above = {path.rpartition("/")[0] for path in self.files} - {"/tmp", self.workdir}
        own = ("/tmp/", f"{self.workdir or '/'}/")
        found = [path for path in sorted(above) if not path.startswith(own)]
        return tuple(path for path in found if not any(path.startswith(f"{other}/") for other in found))


@dataclass(frozen=True, slots=True)
class Verifier:
    """How the work is judged: a program of the task's, run in the sandbox when the agent is done."""

    prefix: str = "tests/"
    """Files below this path of the task are put at `target`, after the agent is done."""
    target: str = "/tests"
    command: str = "/tests/test.sh"
    seconds: float = 600.0
    env: Mapping[str, str] = field(default_factory=dict)
    least: float | None = None
    """The reward that it may give at the least, and …"""
    most: float | None = None
    """… at the most, where the task says so."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What a task folder says beside its instruction."""

    layout: str = "harbor"
    """`harbor` (task.toml) or `benchflow` (task.md)."""
    environment: Environment = Environment()
    verifier: Verifier | None = None
    solution: str = ""
    """The command that solves it: the oracle's. Files below `solution_prefix` are put at `solution_target`."""
    solution_prefix: str = ""
    solution_target: str = "/solution"
    solution_env: Mapping[str, str] = field(default_factory=dict)
    agent_seconds: float | None = None
    modes: Mapping[str, int] = field(default_factory=dict)
    """Permission bits of the files that have others than 0o644."""

    def to_json(self) -> dict[str, Any]:
        """The form in a task's metadata, under `folder`: what differs from the defaults, so that a field that is new
        in a later version changes no task that does not use it."""
        form = _changed(self)
        if self.verifier is not None:
            form["verifier"] = _changed(self.verifier)
        if "environment" in form:
            form["environment"] = _changed(self.environment)
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Folder:
        """The inverse of `to_json`."""
        inner = dict(form)
        environment = dict(inner.pop("environment", {}))
        environment["setup"] = tuple(environment.get("setup", ()))
        verifier = inner.pop("verifier", None)
        return cls(
            environment=Environment(**environment),
            verifier=None if verifier is None else Verifier(**verifier),
            **inner,
        )


def _changed(value: Environment | Verifier | Folder) -> dict[str, Any]:
    plain = type(value)()
    found = {one.name: getattr(value, one.name) for one in fields(value)}
    different = {name: held for name, held in found.items() if held != getattr(plain, name)}
    return {name: _json(held) for name, held in different.items()}


def _json(held: Any) -> Any:
    if isinstance(held, Mapping):
        return dict(held)
    return list(held) if isinstance(held, tuple) else held


@dataclass(frozen=True, slots=True)
class Episode:
    """One go of an agent at a task."""

    agent: str
    model: str
    """`provider/name`."""
    instruction: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the experiment says of the agent: its version, extra arguments, a command."""
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    """What the experiment says of the sandbox: kind, image, memory, …"""
    task: str = ""
    files: tuple[File, ...] = ()
    folder: Folder | None = None
    """None for a task that is a row of data: its attachments are the workspace, and its scorers judge what is said."""


class Told(NamedTuple):
    """An exchange of an agent's, once it has it: what it asked, and what is recorded of the answer."""

    key: Key
    protocol: str
    request: Mapping[str, Any]
    value: Mapping[str, Any]
    level: str = ""
    """How the recorded exchange was matched that answered it; empty where the model was asked."""
