"""What the command line's tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.console import Shell
from tests.sandbox.conftest import image, place, podman

from onward.sandbox import Engine
from onward.testing import ProviderServer

__all__ = ["image", "place", "podman"]


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    """A provider that says 42 to everything."""
    with ProviderServer(lambda _: "The answer is 42.") as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path, server: ProviderServer) -> Shell:
    """A folder of its own, with the provider's address and a key in its environment."""
    return Shell(tmp_path, server)


@pytest.fixture
def engined(shell: Shell, place: Path, podman: Engine | str) -> Shell:
    """A shell whose one container engine is the tests' own, with a tiny image in it."""
    if isinstance(podman, str):
        pytest.skip(f"sandbox container: {podman}")
    asked = [*podman.command, "info", "--format", "{{.Store.GraphDriverName}}"]
    driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    stored = f'graphroot = "{place}/podman/root"\nrunroot = "{place}/podman/run"'
    conf = shell.write("storage.conf", f'[storage]\ndriver = "{driver}"\n{stored}\n')
    shell.environment |= {"CONTAINERS_STORAGE_CONF": str(conf), "DOCKER_HOST": f"unix://{place}/none"}
    return shell
