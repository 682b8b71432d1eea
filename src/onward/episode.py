"""An episode: one go of an agent at a task, as evaluation asks for it. How it is performed is the world's business.

An agent is a program in a sandbox whose model traffic goes through the gateway. What it is given (instruction, files),
how long it may take and how its work is judged are here as values; nothing here opens, reads or runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["AGENT_SECONDS", "Environment", "Episode", "File", "Folder", "Verifier"]

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
    """Files below this path of the task (`environment/`) are the build context, or the workspace without one."""
    dockerfile: str = ""
    """The path of its Dockerfile in the task, if it has one."""
    plain: bool = True
    """Whether the Dockerfile does no more than copy files into a base image: then no container is needed."""
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


@dataclass(frozen=True, slots=True)
class Verifier:
    """How the work is judged: a program of the task's, run in the sandbox when the agent is done."""

    prefix: str = "tests/"
    """Files below this path of the task are put at `target`, after the agent is done."""
    target: str = "/tests"
    command: str = "/tests/test.sh"
    seconds: float = 600.0
    env: Mapping[str, str] = field(default_factory=dict)


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
    agent_seconds: float | None = None
    modes: Mapping[str, int] = field(default_factory=dict)
    """Permission bits of the files that have others than 0o644."""

    def to_json(self) -> dict[str, Any]:
        """The form in a task's metadata, under `folder`."""
        form = asdict(self)
        form["environment"]["setup"] = list(self.environment.setup)
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Folder:
        """The inverse of `to_json`."""
        fields = dict(form)
        environment = dict(fields.pop("environment", {}))
        environment["setup"] = tuple(environment.get("setup", ()))
        verifier = fields.pop("verifier", None)
        return cls(
            environment=Environment(**environment), verifier=Verifier(**verifier) if verifier else None, **fields
        )


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
