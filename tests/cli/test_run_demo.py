"""The demo: the first thing that anybody sees has to work, and has to be true."""

from __future__ import annotations

import pytest
from tests.cli.console import Shell

from onward.gateway.local import LocalModel


def test_the_demo_dies_goes_on_and_shows_the_bill(shell: Shell) -> None:
    done = shell("demo")
    assert done.code == 0, done.err
    assert "kill -9" in done.out and "of 60 done ($" in done.out and "to do" in done.out
    assert ("in doubt" in done.out) == ("will be asked again" in done.out)
    assert "0 answered calls were sent again" in done.out


@pytest.mark.real
def test_the_real_demo_does_so_on_a_real_model(shell: Shell) -> None:
    try:
        LocalModel().check("smollm2")
    except Exception as error:  # noqa: BLE001 - whatever it lacks
        pytest.skip(str(error))
    done = shell("demo", "--real")
    assert done.code == 0, done.err
    assert "A real model" in done.out and "0 answered calls were sent again" in done.out
