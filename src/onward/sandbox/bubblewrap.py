"""A sandbox of the machine's own programs: namespaces of its own, a system that can be read and not written."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

from onward.errors import UsageError
from onward.sandbox import cgroups, runtime
from onward.sandbox.supervised import LIB, PATH, Supervised

__all__ = ["Bubblewrap", "bwrap", "grouped", "reaches"]

# Of /etc only what programs need to run and to reach others: no keys, no passwords, no names of users.
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts", "host.conf",
    "inputrc", "java-*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias", "magic", "mailcap",
    "mime.types", "nsswitch.conf", "os-release", "pki", "profile", "protocols", "python3*", "services", "shells", "ssl",
    "terminfo", "timezone", "vim",
)  # fmt: skip
_UID = 1000


@cache
def bwrap() -> tuple[str, str]:
    """Where bubblewrap is, and the options it knows; empty where there is none."""
    found = shutil.which("bwrap", path=PATH)
    if found is None:
        return "", ""
    said = subprocess.run([found, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return found, said.stdout + said.stderr


def reaches(*arguments: str) -> str:
    """Why bubblewrap does not work here with these options; empty where it does."""
    program, _ = bwrap()
    if not program:
        return "bwrap is not installed: apt-get install bubblewrap"
    done = subprocess.run(
        [program, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", *arguments, "/bin/sh", "-c", ":"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr.strip() or f"bwrap ended with {done.returncode}"


def grouped(sandbox: Supervised, command: list[str]) -> list[str]:
    """The same command, in control groups of the sandbox's own where they can be made; notes what cannot be limited."""
    spec = sandbox.spec
    wanted = {"memory": spec.memory, "pids": spec.pids, "cpu": spec.cpus}
    places = cgroups.where(sandbox.id, {name for name, most in wanted.items() if most is not None})
    groups = cgroups.Groups(places)
    sandbox.grouped(groups)
    try:
        groups.make(spec.memory, spec.pids, spec.cpus)
    except OSError as error:
        sandbox.note(f"limits by control groups: {error}")
        places = {}
    for name, most in wanted.items():
        if most is not None and name not in places:
            instead = {"memory": "per process", "pids": "per user", "cpu": "not at all"}[name]
            sandbox.note(f"{name} is limited {instead}: no control group can be made here")
            if name != "cpu":
                sandbox.limits[name] = int(most)
    if not places:
        return command
    enter = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
    return ["/bin/sh", "-c", enter, "sh", *map(str, groups.folders), "--", *command]


async def given(sandbox: Supervised) -> list[str]:
    """The options that put our own part into a sandbox, the gateway's socket, and what else is to be read in it."""
    spec, own = sandbox.spec, sandbox.folder.path
    python = await asyncio.to_thread(runtime.provide, own)
    options = ["--ro-bind", str(own / "lib"), f"{LIB}/lib", "--ro-bind", str(python), f"{LIB}/python"]
    if spec.socket is not None:
        options += ["--bind", str(spec.socket.absolute()), f"{LIB}/gateway.sock"]
    for bind in spec.binds:
        target = PurePosixPath(bind.target or bind.source.absolute())
        if PurePosixPath(sandbox.workdir) in (target, *target.parents):
            raise UsageError(f"{target} lies in the working folder, which is to hold nothing but the agent's work")
        options += ["--ro-bind", str(bind.source.absolute()), str(target)]
    return options


class Bubblewrap(Supervised):
    """Own pid, mount, network, ipc and uts namespaces; inside, a user of its own without any privilege."""

    async def _command(self) -> list[str]:
        program, options = bwrap()
        if not program:
            raise UsageError(reaches())
        command = [
            program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
            "--uid", str(_UID), "--gid", str(_UID), "--hostname", "sandbox", "--die-with-parent", "--new-session",
            "--as-pid-1", "--clearenv", "--setenv", "LANG", "C.UTF-8",
        ]  # fmt: skip
        if "--disable-userns" in options:
            command.append("--disable-userns")
        if self.spec.network:
            self.note("the network is the host's, its loopback ports included: a container has one of its own")
        else:
            command.append("--unshare-net")
        command += [*self._system(), *self._own(options), *await given(self)]
        # The root is a tmpfs of bubblewrap's; what is in it is all that there will ever be.
        command += ["--remount-ro", "/", "--chdir", self.workdir, "--"]
        return grouped(self, command + runtime.start(f"{LIB}/python", LIB))

    def _system(self) -> Iterator[str]:
        for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"):
            path = Path(folder)
            if path.is_symlink():
                yield from ("--symlink", os.readlink(path), folder)
            elif path.is_dir():
                yield from ("--ro-bind", folder, folder)
        for pattern in _ETC:
            for path in sorted(Path("/etc").glob(pattern)):
                yield from ("--ro-bind-try", str(path), str(path))
        etc = self.folder.path / "etc"
        etc.mkdir()
        (etc / "passwd").write_text(
            f"agent:x:{_UID}:{_UID}:agent:{self.home}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
        )
        (etc / "group").write_text(f"agent:x:{_UID}:\nnogroup:x:65534:\n")
        (etc / "hosts").write_text("127.0.0.1 localhost sandbox\n::1 localhost\n")
        for path in etc.iterdir():
            yield from ("--ro-bind", str(path), f"/etc/{path.name}")
        if self.spec.network:
            yield from ("--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf")

    def _own(self, options: str) -> Iterator[str]:
        disk = self.spec.disk
        if disk is not None and "--size" not in options:
            raise UsageError(f"this bwrap cannot limit the disk (it has no --size); it is {bwrap()[0]}")
        yield from ("--proc", "/proc", "--dev", "/dev")
        for target, name in self.own().items():
            if disk is not None:
                yield from ("--perms", "1777" if name == "tmp" else "0755", "--size", str(disk), "--tmpfs", target)
                continue
            folder = self.folder.path / name
            folder.mkdir()
            folder.chmod(0o1777 if name == "tmp" else 0o755)
            yield from ("--bind", str(folder), target)
        if disk is not None:
            yield from ("--size", str(disk), "--tmpfs", "/dev/shm", "--remount-ro", "/dev")
        yield from ("--symlink", "/tmp", "/var/tmp")
