"""Images: by name, or built from a task's Dockerfile, once per content."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sandbox.rig import IMAGE, Lab, aio

from onward.errors import UsageError
from onward.sandbox import Engine, SandboxFailed, Spec
from onward.sandbox.container import Container
from onward.sandbox.images import asked, content, ready


@aio
async def test_a_dockerfile_is_built_once_per_content(lab: Lab, tmp_path: Path) -> None:
    if lab.engine is None:
        pytest.skip(f"sandbox {lab.kind}: it has no images")
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nWORKDIR /app\nCOPY data /app/data\nENV OF_THE_IMAGE=1\n")
    (folder / "data").write_text("of the task")
    async with lab.sandbox(dockerfile=folder, workdir="", home="") as box:
        assert isinstance(box, Container)
        assert (await box.run("pwd; cat data; echo; echo $OF_THE_IMAGE $HOME")).out.split("\n")[:3] == [
            "/app",
            "of the task",
            "1 /root",
        ]
        assert list(await box.snapshot()) == ["data"]
        first = box.image
    async with lab.sandbox(dockerfile=folder, workdir="", disk=1 << 20) as box:
        assert isinstance(box, Container) and box.image == first
        assert (await box.run("cat data; id -u")).out == "of the task0\n"
        assert "No space" in (await box.run("dd if=/dev/zero of=full bs=65536 count=100")).err
    async with lab.sandbox(dockerfile=folder, user="65534", workdir="/tmp/work", home="/tmp/home") as box:
        assert (await box.run("id -u; echo mine > file; cat file")).out == "65534\nmine\n"
        assert (await box.run("echo x > /app/data")).code != 0
    (folder / "data").write_text("changed")
    async with lab.sandbox(dockerfile=folder, workdir="") as box:
        assert isinstance(box, Container) and box.image.digest != first.digest
        assert (await box.run("cat data")).out == "changed"
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo why it fails; exit 7\n")
    with pytest.raises(SandboxFailed, match="cannot be built"):
        await lab.sandbox(dockerfile=folder).start()
    with pytest.raises(SandboxFailed, match=r"not here and cannot be pulled|no image"):
        await ready(lab.engine, Spec(kind="container", image="localhost/onward-none:1"))


@aio
async def test_an_image_is_built_anew_where_its_base_has_changed(lab: Lab, tmp_path: Path) -> None:
    if lab.engine is None:
        pytest.skip(f"sandbox {lab.kind}: it has no images")
    base, folder = "onward-test:base", tmp_path / "environment"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"ARG BASE={base}\nFROM $BASE\nRUN cat /base > /seen\n")

    async def said() -> str:
        async with lab.sandbox(dockerfile=folder, workdir="") as box:
            return (await box.run("cat /seen")).out

    for made in ("one", "two", "one", "three"):
        await based(lab.engine, base, made, tmp_path / made)
        assert await said() == f"{made}\n"
    without = "untag" if lab.kind == "podman" else "rmi"
    await asked([*lab.engine.command, without, base], wrong="the base stays")
    assert await said() == "three\n"  # nobody can say what it would be now: the last one stands


async def based(engine: Engine, name: str, made: str, folder: Path) -> None:
    """Make the image of this name one that says what it was made as."""
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo {made} > /base\n")
    found = await ready(engine, Spec(kind="container", dockerfile=folder))
    await asked([*engine.command, "tag", found.name, name], wrong="the base is not made")


@pytest.mark.parametrize("disk", [None, 1 << 20])
@aio
async def test_what_is_made_for_the_images_own_user_is_theirs(lab: Lab, tmp_path: Path, disk: int | None) -> None:
    if lab.engine is None:
        pytest.skip(f"sandbox {lab.kind}: it has no images")
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN mkdir /theirs\nWORKDIR /app\nUSER nobody\n")
    async with lab.sandbox(dockerfile=folder, workdir="", disk=disk, files={"given": b"to the user"}) as box:
        assert (await box.run("id -u; id -g; echo $HOME; pwd")).out == "65534\n65534\n/home/agent\n/app\n"
        for made in ("~/own", "/app/given", "/dev/stdout", "/dev/stderr"):
            ran = await box.run(f"echo more > {made}", timeout=30)
            assert ran.code == 0, (made, ran.err)
        for cleared in ("/logs/verifier", "/tests", "/theirs"):
            await box.clear(cleared)
            await box.put(b"#!/bin/sh\n", f"{cleared}/test.sh")
            assert (await box.run("chmod 755 test.sh && ./test.sh && echo 1 > x", cwd=cleared)).code == 0
        assert (await box.run("mkdir /not-theirs")).code != 0 and (await box.run("echo x > /bin/sh")).code != 0
        assert sorted(await box.snapshot("/logs")) == ["verifier", "verifier/test.sh", "verifier/x"]
        assert (await box.get("/tests", tmp_path / "out")).files == 2
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nUSER somebody\n")
    if lab.kind == "docker":  # Podman refuses to build it
        with pytest.raises(SandboxFailed, match="no user 'somebody'"):
            await lab.sandbox(dockerfile=folder).start()


def test_content_is_names_bytes_and_what_can_be_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Dockerfile"):
        content(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM x")
    (tmp_path / "a").write_text("1")
    seen = [content(tmp_path)]
    (tmp_path / "a").chmod(0o755)
    seen.append(content(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.append(content(tmp_path))
    (tmp_path / "c").symlink_to("b")
    seen.append(content(tmp_path))
    assert len(set(seen)) == 4
    assert content(tmp_path) == seen[-1]


@aio
async def test_a_container_needs_an_image() -> None:
    with pytest.raises(UsageError, match="needs an image"):
        await ready(Engine.docker(), Spec(kind="container"))
