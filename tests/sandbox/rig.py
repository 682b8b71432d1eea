"""What tests of sandboxes share: engines of their own, a tiny image, a server behind a unix socket."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from onward.sandbox import Engine, Place, Sandbox, Spec, open_sandbox

PROGRAMS = (
    "sh", "cat", "ls", "sleep", "mkdir", "rm", "dd", "id", "env", "head", "tail", "chmod", "ln", "touch", "setsid",
    "cp", "readlink", "mkfifo", "truncate",
)  # fmt: skip
SOCKET_PYTHON = ["/onward/python/so/loader", "--library-path", "/onward/python/so", "/onward/python/bin/python3"]
PYTHON = [*SOCKET_PYTHON, "-I", "-S", "-c"]
"""A Python that is in every sandbox."""
IMAGE = "onward-test:tiny"


def aio(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return run


class Lab:
    """Sandboxes of one kind, each of which is looked for after the test."""

    def __init__(self, kind: str, root: Path, engine: Engine | None) -> None:
        self.kind, self.root, self.engine = kind, root, engine
        self.ids: list[str] = []

    async def _mark(self, id: str) -> None:
        assert not (self.root / id).exists(), "it is journalled before it exists"
        self.ids.append(id)

    def sandbox(self, **spec: Any) -> Sandbox:
        """One that is not started."""
        kind = "container" if self.engine else self.kind
        image = IMAGE if self.engine and "dockerfile" not in spec else ""
        return open_sandbox(
            Spec(kind=kind, image=image, **{"grace": 0.3, **spec}), Place(self.root, "test", self._mark), self.engine
        )


def remains(root: Path, ids: list[str], engines: list[Engine]) -> list[str]:
    """All that is there of these sandboxes: folders, groups, mounts, containers."""
    found = [str(root / id) for id in ids if (root / id).exists()]
    mounts = Path("/proc/self/mountinfo").read_text()
    found += [f"mount of {id}" for id in ids if id in mounts]
    for folder, inner, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in inner if name in ids]
    for engine in engines:
        said = subprocess.run(
            [*engine.command, "ps", "--all", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
        )
        found += [name for name in said.stdout.split() if name.removesuffix("-first") in ids]
    return found


def running(token: str) -> set[int]:
    """The processes with this text in their command line, in whatever namespace."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if token.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(int(pid))
    return found - {os.getpid()}


async def until(true: Callable[[], Any], what: str = "") -> None:
    """Wait for a condition."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def tiny_image(folder: Path) -> None:
    """A root with a shell and some programs of this machine, and what they are linked with."""
    for name in ("bin", "tmp", "etc", "proc", "dev", "sys", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    libraries: set[str] = set()
    for program in PROGRAMS:
        found = shutil.which(program, path="/usr/bin:/bin")
        assert found
        shutil.copy(Path(found).resolve(), folder / "bin" / program)
        linked = subprocess.run(["ldd", found], capture_output=True, text=True, check=True)
        libraries |= {word for word in linked.stdout.split() if word.startswith("/")}
    for library in libraries:
        target = folder / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(library).resolve(), target)
    (folder / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")


@asynccontextmanager
async def gateway(path: Path) -> AsyncIterator[list[bytes]]:
    """A server at this unix socket. It answers with the length of what was posted, in two chunks, the second only when
    `/seen` has been asked for: who reads the first before the second was sent is streaming."""
    seen = asyncio.Event()
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await writer.drain()
            await seen.wait()
            writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        else:
            seen.set()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    path.chmod(0o666)
    async with server:
        yield bodies


CLIENT = """
import socket, sys
port, size = int(sys.argv[1]), int(sys.argv[2])
one = socket.create_connection(("127.0.0.1", port))
one.sendall(b"POST /v1 HTTP/1.1\\r\\nhost: x\\r\\ncontent-length: %d\\r\\n\\r\\n" % size + b"x" * size)
got = b""
while b"first" not in got:
    got += one.recv(65536)
assert b"second" not in got
two = socket.create_connection(("127.0.0.1", port))
two.sendall(b"GET /seen HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
assert two.recv(100).startswith(b"HTTP/1.1 200")
while more := one.recv(65536):
    got += more
sys.stdout.write("whole" if b"second" in got and got.endswith(b"0\\r\\n\\r\\n") else repr(got))
"""
