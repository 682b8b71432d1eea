"""What the three kinds share: a first process inside (`inside`) that does what it is told over its stdin and stdout.

A kind says how that process is started, what it cannot keep here, and how its sandbox is ended by force.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from onward.clock import Clock, SystemClock
from onward.errors import UsageError
from onward.sandbox import cgroups, marks, unpacking
from onward.sandbox.channel import Answer, Channel
from onward.sandbox.contract import Left, Place, Ran, Sandbox, SandboxFailed, Snapshot, Spec, Taken
from onward.sandbox.frames import CHUNK
from onward.sandbox.kin import kin
from onward.sandbox.reap import kill, reap_one

__all__ = ["LIB", "PATH", "PROGRAM", "Supervised"]

LIB = "/onward"
"""Where our part of a sandbox is, inside."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM = ("frames.py", "kin.py", "bridge.py", "account.py", "parcels.py", "inside.py")
_MOST = 1 << 30
_STDIN = 32 << 20
_STARTS = 120.0  # an image may be large, a machine busy
_DIES = 15.0  # after SIGKILL inside: then the sandbox is ended from outside


class Supervised(Sandbox):
    """One sandbox of any kind."""

    def __init__(self, spec: Spec, place: Place, clock: Clock | None = None) -> None:
        self.spec, self.place = spec, place
        self.id = marks.new_id(place.run)
        self.home, self.workdir, self.port = spec.home, spec.workdir, 0
        self.notes: tuple[str, ...] = ()
        self.limits: dict[str, int] = {}
        """What is limited by process, for want of a control group."""
        self._clock = clock or SystemClock()
        self.folder = marks.Folder(place.root.absolute(), self.id)
        self.watched: list[Path] = []
        """The control groups in which memory may run out."""
        self._channel: Channel | None = None
        self._one, self._stopping = asyncio.Lock(), asyncio.Lock()

    # ------------------------------------------------------------------------------------------ what a kind says

    @abstractmethod
    async def _command(self) -> list[str]:
        """The command that starts `inside` in a new sandbox. It may first make what that needs."""

    def _environment(self) -> dict[str, str] | None:
        """What that command itself gets to see; None is all that we see."""
        return {marks.MARKER: self.id, "PATH": PATH}

    async def _end(self) -> None:
        """End it by force, from outside."""
        if self._channel is not None and self._channel.process.returncode is None:
            pid = self._channel.process.pid
            await asyncio.to_thread(kill, {pid, *(one for one, _ in kin(of=pid))})

    def _said_to_begin(self) -> dict[str, Any]:
        return {
            "env": {"PATH": PATH, **self.spec.env},
            "home": self.home,
            "workdir": self.workdir,
            "inherit": False,
            "user": "",
            "limits": self.limits,
            "socket": f"{LIB}/gateway.sock" if self.spec.socket else "",
            "port": self.spec.port,
        }

    def note(self, said: str) -> None:
        """Add to `notes`."""
        self.notes = (*self.notes, said)

    def grouped(self, groups: cgroups.Groups) -> None:
        """Take these control groups, written down before they are made."""
        self.watched = groups.folders
        self.folder.note("groups", [str(folder) for folder in groups.folders])

    def own(self) -> dict[str, str]:
        """The folders that are its own, by path: what each is called in `folder`."""
        places = {"/tmp": "tmp", self.home: "home", self.workdir: "work"}
        others = [path for path in dict.fromkeys(self.spec.folders) if path not in places]
        for path in others:
            if (
                not path.startswith("/")
                or PurePosixPath(path) == PurePosixPath("/")
                or ".." in PurePosixPath(path).parts
            ):
                raise UsageError(f"{path!r} cannot be a folder of a sandbox: give an absolute path")
        named = {**places, **{path: f"other-{number}" for number, path in enumerate(others)}}
        return dict(sorted(named.items()))  # what lies in another is put into it

    # ------------------------------------------------------------------------------------------ start and stop

    async def start(self) -> None:
        """Make it."""
        if self.place.mark is not None:
            await self.place.mark(self.id)
        try:
            await self._start()
        except BaseException as error:
            await asyncio.shield(self.stop())
            if isinstance(error, OSError):
                raise SandboxFailed(f"the sandbox could not be made: {error}") from error
            raise

    async def _start(self) -> None:
        await self._start_inside()
        await self._put_files()

    async def _start_inside(self) -> None:
        self.folder.make()
        lib = self.folder.path / "lib" / "onward" / "sandbox"
        lib.mkdir(parents=True)
        for name in PROGRAM:
            shutil.copy(Path(__file__).with_name(name), lib / name)
        for folder in (self.folder.path / "lib", lib.parent, lib):
            folder.chmod(0o755)  # a container's user is not ours
        command = await self._command()
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment(),
            cwd="/",
            start_new_session=True,
        )
        self._channel = Channel(process)
        try:
            async with asyncio.timeout(_STARTS):
                begun, _ = await self._channel.ask("begin", **self._said_to_begin())
        except (SandboxFailed, TimeoutError) as error:
            await self._end()
            await self._channel.ended()
            said = self._channel.complaints.decode(errors="replace").strip()
            raise SandboxFailed(f"the {self.spec.kind} sandbox did not start: {said or error}") from None
        self.home, self.workdir, self.port = begun["home"], begun["workdir"], begun["port"]

    async def _put_files(self) -> None:
        for target, source in self.spec.files.items():
            await self.put(source, target)

    async def stop(self) -> Left:
        """End it."""
        async with self._stopping:
            return await self._stop()

    async def _stop(self) -> Left:
        processes: list[str] = []
        channel = self._channel
        if channel is not None:
            with suppress(SandboxFailed, TimeoutError, KeyError, TypeError):
                async with asyncio.timeout(_DIES):
                    header, _ = await channel.ask("left")
                    processes = [str(name) for name in header["left"]]
            await channel.close()
            try:
                async with asyncio.timeout(self.spec.grace):
                    await channel.process.wait()
            except TimeoutError:
                await self._end()
            await channel.ended()
            self._channel = None
        self.folder.let_go()
        rest = await asyncio.to_thread(reap_one, self.place.root.absolute(), self.id)
        # The folder and the groups are ours to remove, not something that was left.
        return Left(self.id, tuple(processes) + rest.processes, rest.containers, failed=rest.failed)

    def _open(self) -> Channel:
        if self._channel is None:
            raise SandboxFailed("the sandbox is not started")
        return self._channel

    # ------------------------------------------------------------------------------------------ commands

    async def run(
        self, command: Sequence[str] | str, *, timeout: float | None = None, stdin: bytes = b"",
        env: Mapping[str, str] | None = None, cwd: str = "", sweep: bool = False,
        heard: Callable[[str, bytes], None] | None = None, tail: int = 65536,
    ) -> Ran:  # fmt: skip
        """Run a command and wait for it."""
        if len(stdin) > _STDIN:
            raise SandboxFailed("that is too much for stdin: put it in a file")
        async with self._one:
            channel, groups = self._open(), self.watched
            began, starved = self._clock.ticks(), cgroups.out_of_memory(groups)
            end = await channel.tell(
                "run",
                stdin,
                lambda header, body: heard(str(header.get("stream")), body) if heard else None,
                argv=["/bin/sh", "-c", command] if isinstance(command, str) else list(command),
                env=dict(env or {}),
                cwd=cwd,
                sweep=sweep,
                stream=heard is not None,
                tail=min(tail, _STDIN // 2),
            )
            timed_out = False
            try:
                async with asyncio.timeout(timeout):
                    await asyncio.shield(end)
            except TimeoutError:
                timed_out = True
                await self._finish(channel, end)
            except asyncio.CancelledError:
                await asyncio.shield(self._kill(channel, end))
                raise
            except SandboxFailed:
                pass
            killed = "timeout" if timed_out else "memory" if cgroups.out_of_memory(groups) > starved else ""
            try:
                return _ran(end, self._clock.ticks() - began, timed_out, killed)
            except (KeyError, TypeError, ValueError):
                raise SandboxFailed("the sandbox does not speak as agreed any more") from None

    async def _finish(self, channel: Channel, end: asyncio.Future[Answer]) -> None:
        """Ask it to end, then make it."""
        try:
            await channel.send({"id": 0, "do": "kill", "run": channel.number_of(end), "signal": int(signal.SIGTERM)})
            async with asyncio.timeout(self.spec.grace):
                await asyncio.shield(end)
                return
        except SandboxFailed:
            return
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await asyncio.shield(self._kill(channel, end))
            raise
        await self._kill(channel, end)

    async def _kill(self, channel: Channel, end: asyncio.Future[Answer]) -> None:
        """Kill all it started; where that is not answered, the sandbox."""
        with suppress(SandboxFailed):
            try:
                await channel.send(
                    {"id": 0, "do": "kill", "run": channel.number_of(end), "signal": int(signal.SIGKILL)}
                )
                async with asyncio.timeout(_DIES):
                    await asyncio.shield(end)
            except TimeoutError:
                await self._end()
                await channel.ended()

    # ------------------------------------------------------------------------------------------ files

    async def put(self, source: Path | bytes, target: str) -> None:
        """Put a file or a folder's content at this path."""
        path = PurePosixPath(self.workdir) / target
        with self.parcel() as parcel:
            folder = await asyncio.to_thread(unpacking.packed, source, path.name, parcel)
            await self.put_parcel(parcel, str(path if folder else path.parent))

    async def put_parcel(self, parcel: IO[bytes], target: str) -> None:
        """Put the files of a tar archive into this folder."""
        channel = self._open()
        parcel.seek(0)
        async with self._one:
            end = await channel.tell("put", target=target)
            while chunk := parcel.read(CHUNK):
                await channel.send({"last": False}, chunk)
            await channel.send({"last": True})
            header, _ = await end
        if "error" in header:
            raise SandboxFailed(f"could not put files into {target}: {header['error']}")

    async def clear(self, folder: str) -> None:
        """Make this path an empty folder."""
        async with self._one:
            await self._open().ask("clear", target=folder)

    async def get(self, source: str, target: Path, *, most: int = _MOST) -> Taken:
        """Take a file or folder out."""
        path = str(PurePosixPath(self.workdir) / source)
        with self.parcel() as parcel:
            size = 0

            def keep(header: dict[str, Any], chunk: bytes) -> None:
                nonlocal size
                size += len(chunk)
                if size > 2 * most + (64 << 20):  # names and padding count here too
                    raise SandboxFailed("more came out of the sandbox than may be taken at once")
                parcel.write(chunk)

            async with self._one:
                await self._open().ask("get", heard=keep, source=path, most=most)
            parcel.seek(0)
            return await asyncio.to_thread(unpacking.unpack, parcel, target, most)

    def parcel(self) -> IO[bytes]:
        """A file for a parcel, gone with the sandbox."""
        return tempfile.TemporaryFile(dir=self.folder.path)

    async def snapshot(self, source: str = "", *, without: Collection[str] = ()) -> Snapshot:
        """What a folder holds."""
        parts: list[bytes] = []
        path = str(PurePosixPath(self.workdir) / source)
        asked: dict[str, Any] = {"source": path, "without": list(without), "most": _MOST}
        async with self._one:
            await self._open().ask("snapshot", heard=lambda _, part: parts.append(part), **asked)
        lines = [json.loads(line) for part in parts for line in part.splitlines()]
        return Snapshot({str(name): (str(mode), str(digest)) for name, mode, digest in sorted(lines)})


def _ran(end: asyncio.Future[Answer], seconds: float, timed_out: bool, killed: str) -> Ran:
    """What is known of how it went; the answer came from inside and is taken as no more than it is."""
    if not end.done() or end.cancelled() or end.exception() is not None:
        end.cancel()
        return Ran(-9, "", "", seconds, timed_out, killed or "gone")
    header, body = end.result()
    if "error" in header:
        return Ran(int(header["code"]), "", str(header["error"]), seconds, timed_out, killed)
    code, cut, sizes = int(header["code"]), int(header["cut"]), header["sizes"]
    return Ran(
        code,
        body[:cut].decode(errors="replace"),
        body[cut:].decode(errors="replace"),
        seconds,
        timed_out,
        killed or (f"signal {-code}" if code < 0 else ""),
        tuple(str(name) for name in header["left"]),
        int(sizes["out"]),
        int(sizes["err"]),
    )
