"""A sandbox with files of its own: a container of Docker or Podman, from an image or from a task's Dockerfile.

`inside` is its first process, with a Python that we bring, so an image needs none. Its stdin is ours: when we are
killed the engine's client sees it end, and so does the container.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from onward.clock import Clock
from onward.errors import UsageError
from onward.sandbox import cgroups, marks, runtime
from onward.sandbox.contract import Place, SandboxFailed, Spec
from onward.sandbox.frames import CHUNK
from onward.sandbox.images import Engine, Image, asked, engines, ready
from onward.sandbox.reap import LABEL, PLACE_LABEL
from onward.sandbox.supervised import LIB, Supervised

__all__ = ["Container"]


class Container(Supervised):
    """One container. `image` says what it is made of."""

    image: Image

    def __init__(self, spec: Spec, place: Place, clock: Clock | None = None, engine: Engine | None = None) -> None:
        super().__init__(spec, place, clock)
        self._engine = engine

    def _environment(self) -> dict[str, str] | None:
        return None  # the engine's client finds its engine by it; nothing of it gets inside

    def _said_to_begin(self) -> dict[str, Any]:
        own = {"env": dict(self.spec.env), "inherit": True, "user": self.spec.user or self.image.user}
        return {**super()._said_to_begin(), **own}

    async def _start(self) -> None:
        await super()._start_inside()
        if self.spec.disk is not None:
            await self._fill()
        if self.spec.memory is not None:
            with suppress(SandboxFailed, ValueError):
                engine = await self._found()
                pid = await asked([*engine.command, "inspect", "--format", "{{.State.Pid}}", self.id], wrong="gone")
                self.watched = cgroups.memory_of(int(pid))
        await super()._put_files()

    async def _found(self) -> Engine:
        if self._engine is None:
            known = await asyncio.to_thread(engines)
            usable = [engine for engine in known.values() if isinstance(engine, Engine)]
            if not usable:
                raise UsageError("no container engine: " + "; ".join(str(why) for why in known.values()))
            self._engine = usable[0]
        return self._engine

    async def _command(self) -> list[str]:
        engine = await self._found()
        self.folder.note("engine", ["\t".join(engine.command)])
        self.image = await ready(engine, self.spec)
        python = await asyncio.to_thread(runtime.provide, self.folder.path)
        loader, *arguments = runtime.start(f"{LIB}/python", LIB)
        return [
            *engine.command, "run", "--interactive", "--rm", "--name", self.id, *self._labels(), *engine.options,
            "--user", "0:0", "--hostname", "sandbox",
            "--security-opt", "label=disable", "--cap-drop", "NET_RAW", "--cap-drop", "MKNOD",
            *self._limits(), *self._mounts(python), "--entrypoint", loader, self.image.name, *arguments,
        ]  # fmt: skip

    def _labels(self) -> list[str]:
        return ["--label", f"{LABEL}={self.id}", "--label", f"{PLACE_LABEL}={marks.digest(self.place.root)}"]

    def _limits(self) -> Iterator[str]:
        spec = self.spec
        if not spec.network:
            yield from ("--network", "none")
        if spec.memory is not None:
            yield from ("--memory", str(spec.memory), "--memory-swap", str(spec.memory))
        if spec.cpus is not None:
            yield from ("--cpus", str(spec.cpus))
        if spec.pids is not None:
            yield from ("--pids-limit", str(spec.pids))
        size = f",size={spec.disk}" if spec.disk is not None else ""
        places = [(path, "0777") for path in self.own() if path not in ("/tmp", self.home, self.workdir)]
        if spec.disk is not None:
            self.note("of the image's own files no more than one of this size can be written, but any number of them")
            most = spec.disk + (1 << 20)  # more than a full tmpfs: that is to say so, not to kill
            yield f"--ulimit=fsize={most}:{most}"
            places += [("/tmp", "1777"), (self.home, "0777"), (self.workdir or self.image.workdir, "0777")]
        for target, mode in places:
            if target:
                yield from ("--tmpfs", f"{target}:rw,exec{size},mode={mode}")

    def _mounts(self, python: Path) -> Iterator[str]:
        pairs = [(self.folder.path / "lib", f"{LIB}/lib"), (python, f"{LIB}/python")]
        for bind in self.spec.binds:
            pairs.append((bind.source.absolute(), bind.target or str(bind.source.absolute())))
            workdir = PurePosixPath(self.workdir or self.image.workdir)
            target = PurePosixPath(pairs[-1][1])
            if workdir != PurePosixPath("/") and workdir in (target, *target.parents):
                raise UsageError(f"{pairs[-1][1]} lies in the working folder, which is to hold only the agent's work")
        for source, inside in pairs:
            yield from ("--volume", f"{source}:{inside}:ro")
        if self.spec.socket is not None:
            yield from ("--volume", f"{self.spec.socket.absolute()}:{LIB}/gateway.sock")

    async def _fill(self) -> None:
        """What the image has in its working folder, which the one of limited size hides."""
        engine = await self._found()
        first = f"{self.id}-first"
        await asked(
            [*engine.command, "create", "--name", first, *self._labels(), *engine.options, self.image.name, "-"],
            wrong="the image cannot be read",
        )  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                *engine.command, "cp", f"{first}:{self.workdir}/.", "-",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            with self.parcel() as parcel:
                while chunk := await process.stdout.read(CHUNK):
                    parcel.write(chunk)
                if await process.wait() == 0:  # else the image has no such folder
                    await self.put_parcel(parcel, self.workdir)
        finally:
            await asked([*engine.command, "rm", "--force", first], wrong="what the image was read with is left")

    async def _end(self) -> None:
        engine = await self._found()
        for how in (["kill"], ["rm", "--force"]):
            with suppress(SandboxFailed):
                await asked([*engine.command, *how, self.id], wrong="not removed")
        await super()._end()
