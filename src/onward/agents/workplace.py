"""Where an episode takes place: which sandbox, with what in it. The same at every attempt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from onward.agents.contract import Installed
from onward.episode import Environment, Episode
from onward.errors import UsageError, did_you_mean
from onward.sandbox import KINDS, Engine, Sandbox, SandboxFailed, Spec, scratch
from onward.sandbox.bubblewrap import reaches
from onward.sandbox.images import engines

__all__ = [
    "FOLDERS", "Unplaceable", "check_sandbox", "context_of", "kind_for", "no_bubblewrap", "no_container",
    "spec_of", "workspace", "write_out",
]  # fmt: skip

FOLDERS = ("/logs", "/tests", "/solution", "/verifier", "/oracle")
"""Where task folders' own programs expect to read and write, besides the working folder."""
_HOME, _WORK = "/home/agent", "/work"
_FIELDS = ("kind", "image", "memory", "cpus", "pids", "disk", "network", "env", "user")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PORT = 8399


class Unplaceable(UsageError):
    """The sandbox that a task needs is not what was asked for, or cannot be had here.

    `reason` is the same for all such tasks, so that they are counted together; the message says what in this one needs
    it.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(f"{reason} (for {what})" if what else reason)
        self.reason = reason


@cache
def no_bubblewrap() -> str:
    """Why bubblewrap, which is used where no kind is named, cannot be; empty where it can."""
    return reaches("--unshare-user", "--unshare-all", "--as-pid-1")


def _usual() -> str:
    return "process" if no_bubblewrap() else "bubblewrap"


def no_container() -> str:
    """What to say where a container is needed, with what to install; empty where there can be one."""
    found = engines().values()
    if any(isinstance(one, Engine) for one in found):
        return ""
    return f"a container is needed, and none can be had on this machine: {'; '.join(map(str, found))}"


def kind_for(episode: Episode) -> str:
    """Which kind of sandbox an episode gets. Raises Unplaceable."""
    stated = str(episode.sandbox.get("kind") or "")
    if stated and stated not in KINDS:
        raise UsageError(f"there is no sandbox called {stated!r}: {', '.join(KINDS)}")
    environment = episode.folder.environment if episode.folder else Environment()
    wants = environment.obstacle
    if stated not in ("", "container"):
        if wants:
            raise Unplaceable("this task needs --sandbox container", wants)
        return stated
    asked = stated or episode.sandbox.get("image")
    if not (asked or wants or environment.image):
        return _usual()
    lacking = no_container()
    if not lacking:
        return "container"
    if asked or wants:
        raise Unplaceable(lacking, wants)
    return _usual()


def check_sandbox(stated: Mapping[str, Any]) -> None:
    """Raises UsageError for what an experiment says of a sandbox that means nothing."""
    for name in stated:
        if name not in _FIELDS:
            raise UsageError(f"a sandbox has no {name!r}.{did_you_mean(name, _FIELDS)}")
    for name in ("memory", "disk"):
        _bytes(stated.get(name), None)


def spec_of(episode: Episode, installed: Installed, socket: Path, context: Path | None = None) -> Spec:
    """The sandbox of an episode. `context`: the folder of its Dockerfile, written out. Raises UsageError."""
    check_sandbox(episode.sandbox)
    stated, kind = episode.sandbox, kind_for(episode)
    environment = episode.folder.environment if episode.folder else Environment()
    contained = kind == "container"
    image = str(stated.get("image") or environment.image) if contained else ""
    built = contained and not stated.get("image") and bool(environment.dockerfile)
    if contained and not image and not built:
        raise UsageError("a container needs an image: --image NAME, or a Dockerfile in the task")
    network = bool(stated.get("network", environment.network))
    return Spec(
        kind=kind,
        image="" if built else image,
        dockerfile=context if built else None,
        memory=_bytes(stated.get("memory"), environment.memory),
        cpus=stated.get("cpus", environment.cpus),
        pids=stated.get("pids", 4096),
        disk=_bytes(stated.get("disk"), None),
        network=network,
        env={"LANG": "C.UTF-8", **environment.env, **stated.get("env", {})},
        home=_HOME,
        workdir=environment.workdir or ("" if contained else _WORK),
        folders=() if contained or episode.folder is None else (*FOLDERS, *environment.folders),
        binds=installed.binds,
        socket=socket,
        port=0 if network or kind == "process" else _PORT,
        user=str(stated.get("user", "")),
    )


def _bytes(stated: Any, megabytes: int | None) -> int | None:
    """`512`, `"512m"` and `"2g"` as bytes; a bare number is megabytes, as in task folders."""
    if stated is None:
        return None if megabytes is None else megabytes << 20
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", str(stated).strip().lower())
    if found is None:
        raise UsageError(f"{stated!r} is not a size: 512 (megabytes), 512m or 2g")
    return int(float(found[1]) * _UNITS[found[2] or "m"])


def context_of(episode: Episode, blob: Callable[[str], bytes], folder: Path) -> Path:
    """Write the build context of the task's Dockerfile into this folder; where the Dockerfile is."""
    assert episode.folder is not None
    write_out(episode, blob, episode.folder.environment.prefix, folder)
    return folder


def write_out(episode: Episode, blob: Callable[[str], bytes], prefix: str, folder: Path) -> None:
    """Write the task's files below `prefix` into a folder of the host. Raises UsageError for one that leads out of it:
    a run may come from anywhere."""
    for file in episode.files:
        if file.path.startswith(prefix):
            place = folder / file.path.removeprefix(prefix)
            if ".." in place.parts or not place.is_relative_to(folder):
                raise UsageError(f"the task {episode.task} has a file that leads out of its folder: {file.path}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(blob(file.digest))
            place.chmod(file.mode & 0o777)


async def workspace(sandbox: Sandbox, episode: Episode, blob: Callable[[str], bytes], kind: str) -> None:
    """Put there what the agent works on, and the folders that it may look for. An image of the task's own holds the
    work already."""
    if episode.folder is not None and kind == "container":
        with scratch() as folder:
            nothing = folder / "files"
            nothing.mkdir()
            for place in FOLDERS:
                await sandbox.put(nothing, place)  # makes it: who is not root in there could not
    if episode.folder is None:
        for file in episode.files:
            await put(sandbox, file.path, blob(file.digest), file.mode)
        return
    environment = episode.folder.environment
    named = bool(episode.sandbox.get("image"))  # somebody's, which knows nothing of the task
    if kind != "container" or named or not (environment.dockerfile or environment.image):
        files = {file.path: file for file in episode.files}
        for target, source in environment.files.items():
            await put(sandbox, target, blob(files[source].digest), files[source].mode)
    for command in environment.setup:
        ran = await sandbox.run(command, timeout=environment.build_seconds, sweep=True)
        if ran.code:
            raise SandboxFailed(f"its setup command {command!r} ended with {ran.code}: {(ran.err or ran.out)[-500:]}")


async def put(sandbox: Sandbox, path: str, content: bytes, mode: int) -> None:
    """Put a file there, with its permission bits."""
    await sandbox.put(content, path)
    if mode & 0o777 != 0o644:
        place = str(PurePosixPath(sandbox.workdir) / path)
        await sandbox.run(["chmod", f"{mode & 0o777:o}", place])
