"""Container engines that are found here, and the images they run: by name, or built once per content."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onward.errors import UsageError
from onward.sandbox.bases import bases
from onward.sandbox.contract import SandboxFailed, Spec

__all__ = ["Engine", "Image", "asked", "content", "digest_of", "docker_at", "engines", "ready"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_building: dict[str, asyncio.Lock] = {}


@dataclass(frozen=True, slots=True)
class Engine:
    """Docker or Podman: the command that reaches it, and what it must be told here."""

    name: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    """For `run` and `build` alike."""

    @classmethod
    def docker(cls, *command: str) -> Engine:
        """Docker, reached by this command."""
        return cls("docker", command or ("docker",))

    @classmethod
    def podman(cls, *command: str) -> Engine:
        """Podman, with what it needs on this machine."""
        limits = (("nofile", resource.RLIMIT_NOFILE, 1048576), ("nproc", resource.RLIMIT_NPROC, 4096))
        options = [f"--ulimit={name}={_within(kind, most)}" for name, kind, most in limits]
        return cls("podman", (*(command or ("podman",)), *_podman_needs()), tuple(options))


def _within(kind: int, most: int) -> str:
    """What does not exceed our own hard limit: podman's defaults do, and who may not raise limits starts nothing."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"{most}:{most}"


def _podman_needs() -> list[str]:
    """Its runtime crun refuses control groups of version 1 beside version 2; its groups are systemd's by default."""
    needs = []
    if Path("/sys/fs/cgroup/memory").is_dir() and shutil.which("runc", path=_PATH):
        needs += ["--runtime", "runc"]
    if not Path("/run/systemd/system").is_dir():
        needs += ["--cgroup-manager", "cgroupfs"]
    return needs


def docker_at(socket: Path) -> Engine:
    """The Docker whose daemon listens at this unix socket."""
    return Engine.docker("docker", "--host", f"unix://{socket}")


@cache
def engines() -> dict[str, Engine | str]:
    """Each engine as it can be used here, or why it cannot."""
    found: dict[str, Engine | str] = {}
    for engine, question in ((Engine.docker(), "version"), (Engine.podman(), "info")):
        if shutil.which(engine.name, path=_PATH) is None:
            package = {"docker": "docker.io", "podman": "podman runc"}[engine.name]
            found[engine.name] = f"{engine.name} is not installed: apt-get install {package}"
            continue
        try:
            done = subprocess.run(
                [*engine.command, question],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError) as error:
            found[engine.name] = str(error)
            continue
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        found[engine.name] = engine if done.returncode == 0 else said
    return found


async def asked(command: Sequence[str], *, wrong: str) -> str:
    """What a command says. Raises SandboxFailed with `wrong` and the end of what it complains about."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise SandboxFailed(f"{wrong}: {(err or out).decode(errors='replace').strip()[-2000:]}")
    return out.decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there. `digest` is its content's: part of what a trial depends on."""

    name: str
    digest: str
    workdir: str
    user: str = ""
    """Who runs what is run in it, as the image says it; root where it does not."""


async def ready(engine: Engine, spec: Spec) -> Image:
    """The image that is asked for, pulled or built where it is not there."""
    if spec.dockerfile is not None:
        return await _built(engine, await asyncio.to_thread(spec.dockerfile.resolve))
    name = spec.image
    if not name:
        raise UsageError("a container needs an image, or a folder with a Dockerfile")
    async with _building.setdefault(f"{engine.command} {name}", asyncio.Lock()):
        with suppress(SandboxFailed):
            return await _inspected(engine, name)
        await asked([*engine.command, "pull", name], wrong=f"the image {name} is not here and cannot be pulled")
        return await _inspected(engine, name)


async def _built(engine: Engine, folder: Path) -> Image:
    """The image of this folder's Dockerfile as its bases are now; where these are not here, the one built last."""
    made = await asyncio.to_thread(content, folder)
    async with _building.setdefault(f"{engine.command} {made}", asyncio.Lock()):
        found = await _bases(engine, folder)
        with suppress(SandboxFailed):
            return await _inspected(engine, _name(made, found))
        last = _name(made, {})
        await _build(engine, last, folder)
        name = _name(made, await _bases(engine, folder))  # the build may have brought them
        if name != last:
            await asked([*engine.command, "tag", last, name], wrong="the image that was built cannot be named")
        return await _inspected(engine, name)


def _name(made: str, found: Mapping[str, str]) -> str:
    """The name of what is built of this content on these bases."""
    known = json.dumps([made, found], sort_keys=True)
    return f"onward-task:{hashlib.sha256(known.encode()).hexdigest()[:32] if found else made}"


async def _bases(engine: Engine, folder: Path) -> dict[str, str]:
    """The digests of the images that its Dockerfile is built on, as far as they are here."""
    found = {}
    for name in bases((folder / "Dockerfile").read_text(errors="replace")):
        with suppress(SandboxFailed):
            found[name] = (await _inspected(engine, name)).digest
    return found


def digest_of(name: str) -> str:
    """The digest of an image by name, pulled where it is not there. Raises SandboxFailed, UsageError."""
    usable = [engine for engine in engines().values() if isinstance(engine, Engine)]
    if not usable:
        raise UsageError("no container engine: " + "; ".join(str(why) for why in engines().values()))
    # In a thread, since whoever asks may be in an event loop of its own.
    with ThreadPoolExecutor(1) as thread:
        spec = Spec(kind="container", image=name)
        return thread.submit(lambda: asyncio.run(ready(usable[0], spec))).result().digest


async def _inspected(engine: Engine, name: str) -> Image:
    form = '["{{.Id}}", {{json .Config.WorkingDir}}, {{json .Config.User}}]'
    said = await asked([*engine.command, "image", "inspect", "--format", form, name], wrong=f"no image {name}")
    digest, workdir, user = json.loads(said)
    return Image(name, digest.removeprefix("sha256:"), workdir or "/", user)


async def _build(engine: Engine, name: str, folder: Path) -> None:
    command = [*engine.command, "build", *engine.options, "--force-rm", "--tag", name, str(folder)]
    if engine.name == "docker":
        try:
            await asked([*engine.command, "buildx", "version"], wrong="no buildx")
        except SandboxFailed:
            command = ["/usr/bin/env", "DOCKER_BUILDKIT=0", *command]
    await asked(command, wrong=f"the image of {folder} cannot be built")


def content(folder: Path) -> str:
    """A digest of all that a build can see: names, what is in them, and which of them can be run."""
    if not (folder / "Dockerfile").is_file():
        raise UsageError(f"there is no Dockerfile in {folder}")
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=os.fsencode):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what, data = b"link", os.fsencode(os.readlink(path))
        elif stat.S_ISREG(mode):
            what, data = (b"program" if mode & 0o111 else b"file"), path.read_bytes()
        else:
            what, data = b"folder", b""
        name = os.fsencode(path.relative_to(folder))
        digest.update(b"%s %d %s %d " % (what, len(name), name, len(data)) + data)
    return digest.hexdigest()[:32]
