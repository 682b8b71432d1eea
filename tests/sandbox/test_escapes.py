"""What an agent may try: contained, and reported."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.sandbox.rig import PYTHON, Lab, aio, running

from onward.sandbox import cgroups


def token() -> str:
    """A number of seconds that nobody else sleeps."""
    return f"8765{int.from_bytes(os.urandom(4))}"


@aio
async def test_the_hosts_files_and_environment(sealed: Lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    async with sealed.sandbox() as box:
        for path in (
            tmp_path / "secret",
            Path(__file__),
            "/etc/shadow",
            "/root/.ssh",
            "/root/.bashrc",
            f"/proc/{os.getpid()}/environ",
        ):
            ran = await box.run(["cat", str(path)])
            assert ran.code != 0 and not ran.out, path
        if sealed.kind == "bubblewrap":
            assert (await box.run("echo x > /usr/bin/true")).code != 0
            assert (await box.run("echo x > /made")).code != 0
            assert (await box.run("echo x > /onward/lib/onward/sandbox/inside.py")).code != 0
        assert "of the host" not in (await box.run("cat /proc/self/root/../../../*/secret /proc/1/root/*/secret")).out


@aio
async def test_our_first_process_cannot_be_touched(sealed: Lab) -> None:
    async with sealed.sandbox() as box:
        await box.run("kill -9 1; kill -STOP 1; kill -9 -1; true", timeout=60)
        assert (await box.run("echo x > /proc/1/fd/1")).code != 0
        assert (await box.run("echo still")).out == "still\n"


@aio
async def test_the_hosts_ports(sealed: Lab) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sealed.sandbox() as box:
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        ran = await box.run([*PYTHON, code], timeout=60)
        assert "Connection refused" in ran.err
        assert "unreachable" in (await box.run([*PYTHON, code.replace("127.0.0.1", "192.0.2.1")], timeout=60)).err


@aio
async def test_links_out_of_the_workspace_stay_inside(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    async with lab.sandbox() as box:
        await box.run(
            "ln -s /etc/passwd absolute; ln -s ../../etc up; mkdir d; ln -s ../ok d/good; echo 1 > ok; ln -s .. d/top"
        )
        taken = await box.get(".", tmp_path / "out" / "work")
        assert sorted(taken.left_out) == ["absolute", "up"]
        assert sorted(path.name for path in (tmp_path / "out" / "work").rglob("*")) == ["d", "good", "ok", "top"]
        assert (tmp_path / "out" / "work" / "d" / "good").read_text() == "1\n"
        # The link itself, asked for by name, is followed among the sandbox's own files.
        await box.run("ln -s /home/agent home; echo mine > ~/note")
        await box.get("home/note", tmp_path / "note")
        assert (tmp_path / "note").read_text() == "mine\n"


@aio
async def test_a_fork_bomb(lab: Lab) -> None:
    async with lab.sandbox(pids=40) as box:
        limited = lab.engine or "pids" in cgroups.where("x", {"pids"})
        assert limited or box.notes
        if limited:
            mark = token()
            bomb = f"for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do sleep {mark} & done; done; wait"
            ran = await box.run(bomb, timeout=20, sweep=True)
            assert "fork" in ran.err.lower() or "resource" in ran.err.lower(), ran
            assert len(ran.left) > 20 and not running(mark)
            ran = await box.run(["/bin/sh", "-c", "b() { b | b & }; b; sleep 1000"], timeout=1, sweep=True)
            assert ran.killed or ran.code
        assert (await box.run("echo still")).out == "still\n"


@aio
async def test_a_full_disk(sealed: Lab) -> None:
    async with sealed.sandbox(disk=4 << 20) as box:
        for folder in ("/work", "/tmp", "/home/agent"):
            ran = await box.run(f"dd if=/dev/zero of={folder}/full bs=65536 count=100")
            assert "No space left" in ran.err, (folder, ran)
        assert (await box.run("echo still; rm /work/full")).out == "still\n"
        assert (await box.run("dd if=/dev/zero of=/dev/shm/full bs=1048576 count=100")).code != 0
        await box.put(b"1", "fits")


@aio
async def test_too_much_memory(lab: Lab) -> None:
    async with lab.sandbox(memory=64 << 20) as box:
        ran = await box.run("tail /dev/zero; echo still")
        assert ran.out.endswith("still\n")
        assert ran.killed == "memory" or box.notes


@aio
async def test_an_agent_that_ignores_sigterm(lab: Lab) -> None:
    mark = token()
    async with lab.sandbox() as box:
        ran = await box.run(f"trap '' TERM; sleep {mark} & while :; do sleep {mark}; done", timeout=0.3)
        assert ran.timed_out and ran.killed == "timeout"
        assert not running(mark)


DAEMON = """
import os, sys
here, there = os.pipe()
if os.fork():
    os.close(there)
    os.read(here, 1)  # ends when the last of them has become the program
    os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.execvp('sleep', ['sleep', sys.argv[1]])
"""


@aio
async def test_a_daemon_is_reported_and_ends_with_the_sandbox(lab: Lab) -> None:
    mark = token()
    async with lab.sandbox() as box:
        ran = await box.run([*PYTHON, DAEMON, mark])
        assert ran.code == 0 and len(ran.left) == 1
        assert running(mark) and (await box.run("echo x")).left == ()
        swept = await box.run(f"setsid sleep 1{mark} &", sweep=True)
        assert len(swept.left) == 1 and not running(f"1{mark}") and running(mark)
        left = await box.stop()
        assert left.processes == ("sleep",)
    assert not running(mark)


@aio
async def test_a_daemon_without_its_environment_dies_at_the_timeout_too(lab: Lab) -> None:
    mark = token()
    async with lab.sandbox() as box:
        ran = await box.run([*PYTHON, DAEMON.replace("execvp", "execvpe").replace("argv[1]])", "argv[1]], {})"), mark])
        assert ran.code == 0
        script = f"setsid env -i sleep 2{mark} & sleep 1000"
        assert (await box.run(script, timeout=0.5)).timed_out
        assert not running(f"2{mark}") and running(mark)
    assert not running(mark)


@aio
async def test_files_that_are_hard_to_remove(lab: Lab) -> None:
    async with lab.sandbox() as box:
        deep = "i=0; while [ $i -lt 1500 ]; do mkdir dddddddddd && cd dddddddddd || exit 1; i=$((i+1)); done"
        await box.run(f"mkdir locked; touch locked/file; chmod 0 locked; {deep}")
        assert len(await box.snapshot()) >= 300
