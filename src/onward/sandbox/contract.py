"""What a sandbox is: a place of its own for one attempt at a task. It receives a URL and an environment, nothing else.

Of three kinds: `process` (trusted), `bubblewrap` and `container`. HOME, the working folder, /tmp and the process tree
are its own, at the same paths every time, so that an attempt can be repeated and an orphan of the last one cannot
write into the next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from onward.errors import OnwardError

__all__ = ["Bind", "Finding", "Left", "Place", "Ran", "Sandbox", "SandboxFailed", "Snapshot", "Spec", "Taken"]

KINDS = ("process", "bubblewrap", "container")


class SandboxFailed(OnwardError):
    """The sandbox itself failed: it could not be made, or it is gone. Not the fault of what ran in it."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of the host that can be read inside, at `target`: an agent that is installed once."""

    source: Path
    target: str = ""
    """Where it appears; by default at its own path."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What kind of sandbox, and what is in it. Sizes are in bytes; None is no limit."""

    kind: str = "bubblewrap"
    image: str = ""
    """A container's image, by name …"""
    dockerfile: Path | None = None
    """… or the folder with its Dockerfile, built once per content."""
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = 4096
    disk: int | None = None
    """The most that HOME, the working folder, /tmp and each of `folders` can hold. They are in memory then."""
    network: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment, but for HOME, PWD, a PATH of the system's and a container's own."""
    home: str = "/home/agent"
    workdir: str = "/work"
    """For a container, "" is the image's own."""
    folders: Sequence[str] = ()
    """Other absolute paths at which it has an empty folder of its own that can be written, in a container in memory."""
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    """What is put in at the start: {path inside: content, or a file or folder of the host}."""
    binds: Sequence[Bind] = ()
    socket: Path | None = None
    """The gateway's unix socket. It appears inside as 127.0.0.1:`port`."""
    port: int = 8399
    """0 is any that is free: the only safe choice where the network is shared with the host."""
    user: str = ""
    """Who runs the commands in a container, `name[:group]`; by default the image's own."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where sandboxes are kept, and who is told of each one before it exists."""

    root: Path
    """A folder private to the user; each sandbox has one of its own in it while it lives."""
    run: str = "none"
    mark: Callable[[str], Awaitable[None]] | None = None
    """Awaited with the sandbox's id before anything of it is made, so that a journal knows what to look for."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command went. `out` and `err` are the ends of what it said."""

    code: int
    """Its exit code; -N where signal N ended it, 126 and 127 where it could not be started."""
    out: str
    err: str
    seconds: float
    timed_out: bool = False
    killed: str = ""
    """Why it did not end by itself: `timeout`, `memory`, `gone` (the sandbox ended under it), `signal N`."""
    left: tuple[str, ...] = ()
    """The names of the processes that it left running."""
    out_bytes: int = 0
    err_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What came out with `get`."""

    files: int
    left_out: Mapping[str, str]
    """{path: why}: links that lead out of what was taken, pipes, names that cannot be."""


@dataclass(frozen=True, slots=True)
class Left:
    """What was found still running, or lying about, when a sandbox was ended."""

    id: str
    processes: tuple[str, ...] = ()
    containers: int = 0
    cgroups: int = 0
    folders: int = 0
    failed: tuple[str, ...] = ()
    """What could not be removed, and why."""

    def __bool__(self) -> bool:
        return bool(self.processes or self.containers or self.cgroups or self.folders or self.failed)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at on this machine. `state`: `ok`, `note` (not there, and need not be) or `bad`."""

    what: str
    state: str
    said: str


class Snapshot(dict[str, tuple[str, str]]):
    """What a folder holds: {path: (mode, digest)} by path. Equal work gives equal snapshots; times do not count."""

    def differences(self, other: Snapshot) -> list[str]:
        """The paths at which they are not the same, in order."""
        return sorted(path for path in {*self, *other} if self.get(path) != other.get(path))


class Sandbox(ABC):
    """One sandbox. `async with sandbox:` starts and stops it; one command runs at a time."""

    id: str
    home: str
    workdir: str
    port: int
    """Where the gateway is heard inside; 0 without one."""
    notes: tuple[str, ...]
    """What was asked for and cannot be kept on this machine, in words for the user."""

    @abstractmethod
    async def start(self) -> None:
        """Make it. Raises SandboxFailed, and has left nothing then."""

    @abstractmethod
    async def run(
        self, command: Sequence[str] | str, *, timeout: float | None = None, stdin: bytes = b"",
        env: Mapping[str, str] | None = None, cwd: str = "", sweep: bool = False,
        heard: Callable[[str, bytes], None] | None = None, tail: int = 65536,
    ) -> Ran:  # fmt: skip
        """Run a command (a text goes to `sh -c`) and wait for it.

        At its timeout all that it started gets SIGTERM, and SIGKILL when `Spec.grace` has passed. `sweep` kills what it
        left running; else that goes on until `stop`, and is named in the result either way. `heard` is told `out` or
        `err` and the bytes as they come.
        """

    @abstractmethod
    async def put(self, source: Path | bytes, target: str) -> None:
        """Put a file or a folder's content at this path inside."""

    @abstractmethod
    async def clear(self, folder: str) -> None:
        """Make this absolute path an empty folder, whatever is there: a link on the way is removed, not followed.

        For what must not be of an agent's making; it has to have ended, and all that it started.
        """

    @abstractmethod
    async def get(self, source: str, target: Path, *, most: int = 1 << 30) -> Taken:
        """Take a file or folder out. `target` must not be there yet. No link that leads out of it comes along."""

    @abstractmethod
    async def snapshot(self, source: str = "", *, without: Collection[str] = ()) -> Snapshot:
        """What the working folder (or another) holds, but for these paths in it."""

    @abstractmethod
    async def stop(self) -> Left:
        """End it with all that runs in it, and remove all of it. May be called twice."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
