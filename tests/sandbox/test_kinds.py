"""What every kind of sandbox does the same."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.sandbox.rig import CLIENT, PYTHON, Lab, aio, gateway, running, until

from onward.errors import UsageError
from onward.sandbox import Bind, Place, SandboxFailed, Spec, available, open_sandbox


@aio
async def test_a_command(lab: Lab) -> None:
    async with lab.sandbox() as box:
        ran = await box.run("echo out; echo err >&2; exit 3")
        assert (ran.code, ran.out, ran.err, ran.timed_out, ran.killed) == (3, "out\n", "err\n", False, "")
        assert (await box.run(["cat"], stdin=b"x" * 300_000)).out_bytes == 300_000
        assert (await box.run("head -c 300000 /dev/zero; echo end", tail=4)).out == "end\n"
        assert (await box.run(["no-such-program"])).code == 127
        assert (await box.run("kill -9 $$")).killed == "signal 9"
        said: list[tuple[str, bytes]] = []
        await box.run("echo a", heard=lambda name, data: said.append((name, data)))
        assert said == [("out", b"a\n")]


@aio
async def test_environment_home_and_paths_are_as_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_KEY", "sk-of-the-host")
    async with lab.sandbox(env={"A": "one", "EMPTY": ""}) as box:
        said = (await box.run(["env"], env={"B": "two"})).out
        given = dict(line.split("=", 1) for line in said.splitlines())
        system = {"PATH", "HOSTNAME", "container", "TERM"}
        assert {name: value for name, value in given.items() if name not in system} == {
            "A": "one", "B": "two", "EMPTY": "", "HOME": "/home/agent", "PWD": "/work",
        }  # fmt: skip
        assert (await box.run("cat /proc/*/environ 2>/dev/null")).out.find(
            "sk-of-the-host"
        ) == -1 or lab.kind == "process"
        assert (await box.run("pwd; cd; pwd; echo x > /tmp/y; ls /tmp")).out.split() == ["/work", "/home/agent", "y"]
        assert (box.home, box.workdir) == ("/home/agent", "/work")
        assert (await box.run("pwd", cwd="/tmp")).out == "/tmp\n"
    assert not os.path.lexists("/tmp/y")


@aio
async def test_its_processes_are_its_own(lab: Lab) -> None:
    async with lab.sandbox() as box:
        # our first process, the shell and perhaps the next `cat`
        said = await box.run("for one in /proc/[0-9]*; do echo ${one#/proc/}; done")
        assert len(said.out.split()) <= 4
        assert (await box.run(f"kill -0 {os.getpid()}")).code != 0 or os.getpid() < 10


@aio
async def test_the_gateway_is_heard_inside(lab: Lab, place: Path) -> None:
    socket = place / "gateway.sock"
    async with gateway(socket) as bodies:
        port = 0 if lab.kind == "process" else 8399
        async with lab.sandbox(socket=socket, port=port) as box:
            assert box.port == port or not port
            ran = await box.run([*PYTHON, CLIENT, str(box.port), "100000"], timeout=60)
            assert ran.out == "whole", ran
    assert bodies == [b"x" * 100_000]
    socket.unlink()


@aio
async def test_a_gateway_that_is_gone_is_a_closed_connection(lab: Lab, place: Path) -> None:
    socket = place / "gone.sock"
    async with gateway(socket):
        box = lab.sandbox(socket=socket, port=0)
        await box.start()
    ask = f"import socket; one = socket.create_connection(('127.0.0.1', {box.port})); print(one.recv(1))"
    ran = await box.run([*PYTHON, ask], timeout=60)
    assert ran.out == "b''\n" or "reset" in ran.err, ran
    await box.stop()
    socket.unlink()


@aio
async def test_files_go_in_and_come_out(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "task"
    (source / "deep").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh\necho ran")
    (source / "run.sh").chmod(0o755)
    (source / "deep" / "data").write_bytes(os.urandom(700_000))
    (source / "link").symlink_to("deep/data")
    async with lab.sandbox(files={"task": source, "/home/agent/.rc": b"rc"}) as box:
        assert (await box.run("./task/run.sh; cat ~/.rc")).out == "ran\nrc"
        await box.put(source / "run.sh", "copy.sh")
        await box.put(b"new", "task/deep/more")
        out = tmp_path / "out"
        taken = await box.get(".", out)
        assert (taken.files, taken.left_out) == (5, {})
        assert (out / "task" / "link").readlink() == Path("deep/data")
        assert (out / "task" / "deep" / "data").read_bytes() == (source / "deep" / "data").read_bytes()
        assert (out / "copy.sh").stat().st_mode & 0o777 == 0o755
        await box.get("task/deep/more", tmp_path / "more")
        assert (tmp_path / "more").read_text() == "new"
        with pytest.raises(SandboxFailed, match="there already"):
            await box.get(".", out)
        with pytest.raises(SandboxFailed, match="No such file"):
            await box.get("nothing", tmp_path / "nothing")
        with pytest.raises(SandboxFailed, match="more than may be taken"):
            await box.get(".", tmp_path / "small", most=1000)


@aio
async def test_equal_work_is_equal_and_other_work_is_not(lab: Lab) -> None:
    work = "mkdir -p a/b; echo 1 > a/b/c; echo 2 > run; chmod 750 run; ln -s a/b/c link; mkfifo pipe"
    async with lab.sandbox() as one, lab.sandbox() as two:
        assert await one.snapshot() == {}
        assert (await one.run(work)).code == 0
        await two.run(f"{work}; touch -d 2001-01-01 run a/b/c a")
        first = await one.snapshot()
        assert first == await two.snapshot()
        assert list(first) == sorted(first) and first["run"][0] == "0750" and first["pipe"][1] == "special"
        await two.run("chmod 700 run; echo 3 >> a/b/c; touch .agent")
        assert first.differences(await two.snapshot()) == [".agent", "a/b/c", "run"]
        assert first.differences(await two.snapshot(without=["a", ".agent", "run"])) == ["a", "a/b", "a/b/c", "run"]


@aio
async def test_a_timeout_asks_first(lab: Lab) -> None:
    async with lab.sandbox(grace=30) as box:
        ran = await box.run("trap 'echo asked; exit 9' TERM; sleep 1000 & wait", timeout=1.5)
        assert (ran.timed_out, ran.killed, ran.code, ran.out) == (True, "timeout", 9, "asked\n")
        assert (await box.run("echo still here")).out == "still here\n"


@aio
async def test_a_cancelled_command_is_ended(lab: Lab) -> None:
    async with lab.sandbox() as box:
        token = "sleep 98765" + str(int.from_bytes(os.urandom(3)))
        task = asyncio.create_task(box.run(token))
        await until(lambda: running(token.removeprefix("sleep ")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await box.run("echo next")).out == "next\n"
        assert not running(token.removeprefix("sleep "))


@aio
async def test_what_is_bound_can_be_read_only(lab: Lab, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.mkdir(mode=0o755)
    (tool / "agent").write_text("#!/bin/sh\necho agent 1.0")
    (tool / "agent").chmod(0o755)
    async with lab.sandbox(binds=[Bind(tool, "/opt-agent")]) as box:
        assert (await box.run("/opt-agent/agent")).out == "agent 1.0\n"
        assert (await box.run("echo x > /opt-agent/agent")).code != 0
    with pytest.raises(UsageError, match="lies in the working folder"):
        await lab.sandbox(binds=[Bind(tool, "/work/tool")]).start()


@aio
async def test_other_folders_of_its_own_are_empty_and_can_be_written(lab: Lab) -> None:
    async with lab.sandbox(folders=["/logs", "/srv/tests", "/logs"]) as box:
        ran = await box.run("ls /logs /srv/tests; echo 1 > /logs/a && mkdir -p /srv/tests/b && cat /logs/a")
        assert (ran.code, ran.out.split()) == (0, ["/logs:", "/srv/tests:", "1"]), ran
        await box.put(b"put", "/srv/tests/c")
        assert (await box.run("cat /srv/tests/c")).out == "put"
    assert not os.path.lexists("/logs/a") and not os.path.lexists("/srv/tests")
    for path in ("logs", "/", "/a/../etc"):
        with pytest.raises(UsageError, match="give an absolute path"):
            await lab.sandbox(folders=[path]).start()


@aio
async def test_without_bubblewrap_no_other_folder_can_be_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.sandbox.process.ways", lambda: ("", "bwrap is not installed"))
    box = open_sandbox(Spec(kind="process", folders=["/logs"]), Place(place / "sandboxes", "test"))
    with pytest.raises(
        UsageError, match="/logs cannot be a sandbox's own on this machine but in a container: bwrap is"
    ):
        await box.start()
    assert not list((place / "sandboxes").glob(box.id)) and not os.path.lexists("/logs")


_WAYS = {
    "nothing": ":",
    "files": "mkdir -p /logs/v/a/b; echo 1 > /logs/v/x; echo 2 > /logs/v/a/b/c; chmod 000 /logs/v/a/b /logs/v",
    "a file": "echo 1 > /logs/v",
    "a link": "mkdir /tmp/kept; echo 1 > /tmp/kept/file; ln -s /tmp/kept /logs/v",
    "a link to nothing": "ln -s /nowhere /logs/v",
    "a link in a loop": "ln -s v /logs/v",
    "a pipe": "mkfifo /logs/v",
    "links in it": "mkdir /logs/v /tmp/kept; echo 1 > /tmp/kept/file; cd /logs/v; ln -s /tmp/kept d; ln -s d/file f",
    "depth": "mkdir /logs/v; cd /logs/v; n=0; while [ $n -lt 900 ]; do mkdir deeply; cd -P deeply; n=$((n+1)); done",
}  # fmt: skip


@pytest.mark.parametrize("way", _WAYS)
@aio
async def test_a_folder_is_cleared_whatever_was_made_of_it(lab: Lab, way: str) -> None:
    async with lab.sandbox(folders=["/logs"]) as box:
        ran = await box.run(_WAYS[way])
        assert ran.code == 0, ran
        await box.clear("/logs/v")
        assert await box.snapshot("/logs") == {"v": ("0755", "folder")}
        assert (await box.run("echo new > /logs/v/new && cat /logs/v/new")).out == "new\n"
        if "/tmp/kept" in _WAYS[way]:
            assert (await box.run("cat /tmp/kept/file")).out == "1\n"


@aio
async def test_a_link_above_what_is_cleared_is_not_followed(lab: Lab) -> None:
    async with lab.sandbox() as box:
        await box.run("mkdir -p /tmp/kept/b; echo 1 > /tmp/kept/b/file; ln -s /tmp/kept a; mkdir d; chmod 000 d")
        await box.clear("/work/a/b")
        await box.clear("/work/d/e/f")
        assert (await box.run("echo 2 > a/b/file && echo 2 > d/e/f/file && cat /tmp/kept/b/file")).out == "1\n"


@aio
async def test_stopping_twice_and_using_what_is_stopped(lab: Lab) -> None:
    box = lab.sandbox()
    await box.start()
    assert not await box.stop()
    assert not await box.stop()
    with pytest.raises(SandboxFailed, match="not started"):
        await box.run("true")


@aio
async def test_one_that_cannot_start_leaves_nothing(lab: Lab) -> None:
    with pytest.raises(SandboxFailed):
        await lab.sandbox(files={"/proc/nothing/here": b""}).start()


def test_what_is_available_is_found() -> None:
    found = {one.what: one for one in available()}
    assert set(found) >= {"sandbox process", "sandbox bubblewrap", "sandbox limits", "sandbox container, docker"}
    assert all(one.said for one in found.values())
