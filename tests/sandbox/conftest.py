"""Each kind of sandbox, for real; one that this machine has not is skipped by name. Engines are started here."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.rig import IMAGE, Lab, remains, tiny_image

from onward.sandbox import Engine, docker_at
from onward.sandbox.bubblewrap import reaches
from onward.sandbox.process import ways

KINDS = ("process", "bubblewrap", "docker", "podman")


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Where all sandboxes of these tests are kept. Not among pytest's: its paths are too long for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="onward-tests-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def image(place: Path) -> Path:
    """A tar file of a tiny root."""
    tiny_image(place / "rootfs")
    subprocess.run(["tar", "-C", place / "rootfs", "-cf", place / "tiny.tar", "."], check=True)
    return place / "tiny.tar"


@pytest.fixture(scope="session")
def docker(place: Path, image: Path) -> Iterator[Engine | str]:
    """A Docker of our own, or why there is none."""
    if not shutil.which("dockerd") or not shutil.which("docker") or os.geteuid():
        yield "docker needs dockerd and docker (apt-get install docker.io), and root"
        return
    folder = place / "docker"
    folder.mkdir()
    options = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", *(f"--{name}={folder / at}" for name, at in options.items()), f"--host=unix://{folder}/sock",
             "--iptables=false", "--ip6tables=false", "--bridge=none"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    engine = docker_at(folder / "sock")
    try:
        for _ in range(600):
            done = subprocess.run([*engine.command, "version"], capture_output=True, check=False)
            if done.returncode == 0 or daemon.poll() is not None:
                break
            select.poll().poll(50)
        if daemon.poll() is not None or done.returncode:
            yield "dockerd does not start here: " + (folder / "log").read_text()[-300:]
        else:
            with image.open("rb") as tar:
                subprocess.run([*engine.command, "import", "-", IMAGE], stdin=tar, capture_output=True, check=True)
            yield engine
    finally:
        daemon.terminate()
        daemon.wait(30)


@pytest.fixture(scope="session")
def podman(place: Path, image: Path) -> Iterator[Engine | str]:
    """A Podman with a store of our own, or why there is none."""
    if not shutil.which("podman"):
        yield "podman is not installed: apt-get install podman runc"
        return
    folder = place / "podman"
    engine = Engine.podman("podman", f"--root={folder}/root", f"--runroot={folder}/run")
    with image.open("rb") as tar:
        done = subprocess.run([*engine.command, "import", "-", IMAGE], stdin=tar, capture_output=True, check=False)
    if done.returncode == 0:
        tried = [*engine.command, "run", "--rm", "--network=none", *engine.options, IMAGE, "/bin/sh", "-c", ":"]
        done = subprocess.run(tried, capture_output=True, check=False)
    yield engine if done.returncode == 0 else "podman does not work here: " + done.stderr.decode()[-300:]
    subprocess.run([*engine.command, "system", "reset", "--force"], capture_output=True, check=False)


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest, place: Path) -> Iterator[Lab]:
    """Sandboxes of one kind; none of them may leave anything."""
    kind, engine = request.param, None
    if kind in ("docker", "podman"):
        engine = request.getfixturevalue(kind)
        if isinstance(engine, str):
            pytest.skip(f"sandbox container: {engine}")
    else:
        why = reaches("--unshare-user", "--unshare-all", "--as-pid-1") if kind == "bubblewrap" else ways()[1]
        if why:
            pytest.skip(f"sandbox {kind}: {why}")
    made = Lab(kind, place / "sandboxes", engine)
    yield made
    assert remains(made.root, made.ids, [engine] if engine else []) == []


@pytest.fixture
def sealed(lab: Lab) -> Lab:
    """Sandboxes that keep the host out of sight: all but the trusted kind."""
    if lab.kind == "process":
        pytest.skip("sandbox process: it is trusted with the host")
    return lab
