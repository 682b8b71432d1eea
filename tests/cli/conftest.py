"""What the command line's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.console import Shell

from onward.testing import ProviderServer


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    """A provider that says 42 to everything."""
    with ProviderServer(lambda _: "The answer is 42.") as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path, server: ProviderServer) -> Shell:
    """A folder of its own, with the provider's address and a key in its environment."""
    return Shell(tmp_path, server)
