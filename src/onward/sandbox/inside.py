"""The first process of a sandbox: starts commands, kills what they leave, and speaks with its owner over stdin and
stdout. It runs inside, as some Python with nothing but the standard library, in one thread: it must still answer when
nothing more can be started. When its stdin ends (its owner let go, or was killed) it ends, and all under it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import selectors
import signal
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from onward.sandbox import parcels
from onward.sandbox.account import Account, account, make
from onward.sandbox.bridge import Bridge
from onward.sandbox.frames import Frames, send
from onward.sandbox.kin import Kin, kin

__all__ = ["main"]

_LIMITS = {"memory": resource.RLIMIT_DATA, "pids": resource.RLIMIT_NPROC, "file": resource.RLIMIT_FSIZE}
_SUBREAPER, _DUMPABLE = 36, 4
_LIBC = ctypes.CDLL(None)


class _Command:
    """One command that runs."""

    def __init__(self, number: int, tail: int, stream: bool, sweep: bool, before: Kin) -> None:
        self.number, self.tail, self.stream, self.sweep, self.before = number, tail, stream, sweep, before
        self.pid = 0
        self.status: int | None = None
        self.kept = {"out": bytearray(), "err": bytearray()}
        self.sizes = {"out": 0, "err": 0}
        self.pipes: dict[str, int] = {}


class Supervisor:
    """Everything in here."""

    def __init__(self, source: int, sink: int, own: dict[str, str]) -> None:
        self._source, self._sink, self._own = source, sink, own
        self._frames, self._queue = Frames(), deque[tuple[dict[str, Any], bytes]]()
        self._selector = selectors.DefaultSelector()
        self._commands: dict[int, _Command] = {}
        self._env: dict[str, str] = {}
        self._limits: dict[str, int] = {}
        self._workdir = "/"
        self._user: Account | None = None
        """Who runs the commands, where that is not us."""

    def serve(self) -> None:
        """Until stdin ends."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._source, selectors.EVENT_READ, None)
        self._selector.register(wake, selectors.EVENT_READ, lambda _: self._reap(wake))
        while True:
            for key, mask in self._selector.select():
                if key.data is not None:
                    if key.fd in self._selector.get_map():  # an earlier one of this round may have closed it
                        key.data(mask)
                elif not self._receive():
                    return
            while self._queue:
                self._handle(*self._queue.popleft())

    def _receive(self) -> bool:
        data = os.read(self._source, 1 << 18)
        self._queue.extend(self._frames.feed(data))
        return bool(data)

    def _next(self) -> tuple[dict[str, Any], bytes]:
        """The next frame, waited for: a parcel that is being received goes before all else."""
        while not self._queue:
            if not self._receive():
                raise EOFError
        return self._queue.popleft()

    def _reply(self, number: int, body: bytes = b"", **said: Any) -> None:
        send(self._sink, {"of": number, **said}, body)

    def _handle(self, asked: dict[str, Any], body: bytes) -> None:
        number, verb = asked["id"], asked["do"]
        try:
            if verb == "begin":
                self._begin(number, asked)
            elif verb == "run":
                self._run(number, asked, body)
            elif verb == "kill":
                self._kill(asked)
            elif verb == "put":
                parcels.unpack(asked["target"], self._next, self._user)
                self._reply(number, end=True)
            elif verb == "clear":
                parcels.clear(asked["target"], self._user)
                self._reply(number, end=True)
            elif verb == "get":
                parcels.pack(asked["source"], lambda chunk: self._reply(number, chunk), asked["most"])
                self._reply(number, end=True)
            elif verb == "snapshot":
                for part in parcels.snapshot(asked["source"], asked["without"], asked["most"]):
                    self._reply(number, part)
                self._reply(number, end=True)
            elif verb == "left":
                self._reply(number, end=True, left=kin().names())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
            code = 127 if isinstance(error, FileNotFoundError) else 126
            self._reply(number, end=True, error=f"{what}{where}", code=code)

    def _begin(self, number: int, asked: dict[str, Any]) -> None:
        self._env = dict(self._own) if asked["inherit"] else {}
        self._env.update(asked["env"])
        self._workdir = asked["workdir"] or os.getcwd()
        self._user = account(asked["user"]) if asked["user"] else None
        home = asked["home"] or (self._user.home if self._user else self._env.get("HOME", "/"))
        self._env["HOME"] = home
        self._limits = asked["limits"]
        for folder in (home, self._workdir):
            make(folder, self._user)
        port = Bridge(self._selector, asked["socket"], asked["port"]).port if asked["socket"] else 0
        self._reply(number, end=True, port=port, workdir=self._workdir, home=home, alone=os.getpid() == 1)

    def _run(self, number: int, asked: dict[str, Any], body: bytes) -> None:
        command = _Command(number, asked["tail"], asked["stream"], asked["sweep"], kin())
        cwd = asked["cwd"] or self._workdir
        stdin = os.memfd_create("stdin")  # no pipe to keep filled, no file on a disk that may be full
        with open(stdin, "r+b", buffering=0) as given:
            rest = memoryview(body)
            while rest:
                rest = rest[given.write(rest) or 0 :]
            given.seek(0)
            process = subprocess.Popen(
                asked["argv"], stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                env={**self._env, "PWD": cwd, **asked["env"]}, cwd=cwd, start_new_session=True,
                preexec_fn=self._mortal,  # noqa: PLW1509  there are no threads here
            )  # fmt: skip
        command.pid = process.pid
        process.returncode = 0  # whom to wait for is ours to say: everybody's children end up here
        self._commands[process.pid] = command
        for name, pipe in (("out", process.stdout), ("err", process.stderr)):
            assert pipe is not None
            fd = os.dup(pipe.fileno())
            pipe.close()
            os.set_blocking(fd, False)
            command.pipes[name] = fd
            self._selector.register(fd, selectors.EVENT_READ, lambda _, name=name: self._hear(command, name))

    def _mortal(self) -> None:
        """In the child, before it becomes the command: when memory runs out it goes before us."""
        _LIBC.prctl(_DUMPABLE, 1, 0, 0, 0)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
        for name, most in self._limits.items():
            _, hard = resource.getrlimit(_LIMITS[name])
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(_LIMITS[name], (most, most))
        if self._user is not None:
            self._user.become()

    def _hear(self, command: _Command, name: str) -> bool:
        """Take what the command said; False when there is nothing more for now."""
        fd = command.pipes.get(name)
        if fd is None:
            return False
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(fd)
            os.close(fd)
            del command.pipes[name]
            return False
        command.sizes[name] += len(data)
        kept = command.kept[name]
        kept += data
        del kept[: max(0, len(kept) - command.tail)]
        if command.stream:
            self._reply(command.number, data, stream=name)
        return True

    def _reap(self, wake: int) -> None:
        with suppress(BlockingIOError):
            while os.read(wake, 4096):
                pass
        self._wait(os.WNOHANG)
        self._finish_ended()

    def _finish_ended(self) -> None:
        for command in [one for one in self._commands.values() if one.status is not None]:
            self._finish(command)

    def _wait(self, flags: int) -> bool:
        """Take the statuses of all that have ended; False when there is no child left."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, flags)
                if pid == 0:
                    return True
                if pid in self._commands:
                    self._commands[pid].status = os.waitstatus_to_exitcode(status)
        return False

    def _finish(self, command: _Command) -> None:
        del self._commands[command.pid]
        left = kin().less(command.before)
        if command.sweep and left:
            self._sweep(command)
        # What is in the pipes now was said before the end; what keeps them open may keep them for ever.
        for name in ("out", "err"):
            for _ in range(64):
                if not self._hear(command, name):
                    break
            if (fd := command.pipes.pop(name, None)) is not None:
                self._selector.unregister(fd)
                os.close(fd)
        said = {"code": command.status, "left": left.names(), "sizes": command.sizes, "cut": len(command.kept["out"])}
        self._reply(command.number, bytes(command.kept["out"] + command.kept["err"]), end=True, **said)

    def _kill(self, asked: dict[str, Any]) -> None:
        command = next((one for one in self._commands.values() if one.number == asked["run"]), None)
        if command is None:
            return
        command.sweep = True  # when it ends now, what it started is to end with it
        if asked["signal"] == signal.SIGKILL:
            self._sweep(command)
            self._finish_ended()
        else:
            kin().less(command.before).kill(asked["signal"])

    def _sweep(self, command: _Command) -> None:
        """Kill all that came since the command began, whatever it calls itself and whoever its parent is now."""
        if os.getpid() == 1 and not kin().keeping(command.before):
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all but us, in one step: no fork bomb is quicker
            self._wait(0)
            return
        while left := kin().less(command.before):
            left.kill(signal.SIGSTOP)
            left.kill(signal.SIGKILL)
            select.poll().poll(2)
            self._wait(os.WNOHANG)

    def end(self) -> None:
        """Nothing of ours outlives us, also where there is no namespace to see to it."""
        if os.getpid() == 1:
            return
        while left := kin():
            left.kill(signal.SIGSTOP)
            left.kill(signal.SIGKILL)
            select.poll().poll(2)
            self._wait(os.WNOHANG)


def main() -> None:
    """Serve until stdin ends."""
    own = Path("/proc/self/environ").read_bytes().decode(errors="surrogateescape").split("\0")
    _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)  # daemons become our children, not the machine's
    _LIBC.prctl(_DUMPABLE, 0, 0, 0, 0)  # and nobody in here looks into or writes to our pipes
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    supervisor = Supervisor(source, sink, dict(pair.split("=", 1) for pair in own if "=" in pair))
    with suppress(EOFError, BrokenPipeError):
        supervisor.serve()
    supervisor.end()
    os._exit(0)
