"""The scripted provider that is shipped: it bills what it answered in full, and can be driven as a process."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import aiohttp
import pytest

from onward.ask import Answer, Usage
from onward.errors import CallTransient
from onward.gateway import Gateway
from onward.testing import Fault, ProviderServer, Request

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def post(url: str, body: Any = BODY, **headers: str) -> dict[str, Any]:
    request = HttpRequest(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@contextmanager
def process(*flags: str) -> Iterator[str]:
    child = subprocess.Popen(
        [sys.executable, "-m", "onward.testing", "serve", "--port", "0", *flags], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    try:
        with child.stdout:
            yield child.stdout.readline().strip()
    finally:
        child.terminate()
        child.wait()


def test_equal_requests_have_equal_answers_and_digests_streamed_or_not(tmp_path: Path) -> None:
    with ProviderServer(log=tmp_path / "log") as server:
        first, second = post(server.url), post(server.url, {**BODY, "temperature": 1})
        assert first == post(server.url)
        assert first["choices"][0]["message"] != second["choices"][0]["message"]
        with urlopen(HttpRequest(f"{server.url}/v1/chat/completions", json.dumps({**BODY, "stream": True}).encode())):
            pass
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["digest"] == lines[0]["digest"] for line in lines] == [True, False, True, True]


def test_what_is_billed_says_when_what_and_for_whom(tmp_path: Path) -> None:
    before = time.time()
    with ProviderServer(lambda request: Answer("x", usage=Usage(7, 3)), latency=0.05, log=tmp_path / "log") as server:
        post(server.url, **{"x-stainless-retry-count": "2"})
    line = json.loads((tmp_path / "log").read_text())
    assert before <= line["received"] <= line["answered"] - 0.05 <= time.time()
    assert (line["model"], line["input"], line["output"], line["retry"], line["delivered"]) == ("m", 7, 3, 2, True)


def test_a_client_that_has_gone_is_billed_all_the_same() -> None:
    with ProviderServer(latency=0.2) as server:
        raw = json.dumps(BODY).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(head + raw)
            time.sleep(0.05)
        time.sleep(0.4)
        assert [call.delivered for call in server.calls] == [False]


@pytest.mark.parametrize("kind", ["500", "429", "cut", "truncated", "garbage"])
def test_what_was_not_answered_in_full_is_not_billed(kind: str, tmp_path: Path) -> None:
    with ProviderServer(faults=[Fault(kind)], log=tmp_path / "log") as server:
        with pytest.raises((OSError, ValueError, Exception)):
            post(server.url)
        assert len(server.requests) == 1
    assert (tmp_path / "log").read_text() == ""


def test_a_fault_comes_as_often_and_for_whom_it_should() -> None:
    async def go() -> list[bool]:
        gateway, went = Gateway(server.providers()), []
        for text in ("a", "bad", "b", "bad", "bad", "bad"):
            try:
                await gateway.send(gateway.prepare("openai/m", [{"role": "user", "content": text}], {}))
                went.append(True)
            except CallTransient:
                went.append(False)
        await gateway.close()
        return went

    with ProviderServer(faults=[Fault("500", times=2, when="bad", after=1)]) as server:
        assert asyncio.run(go()) == [True, True, True, False, False, True]


@pytest.mark.parametrize("model", ["openai/m", "openai-responses/m", "anthropic/m", "google/m"])
def test_the_answer_function_sees_the_request_whatever_its_format(model: str) -> None:
    async def answer(request: Request) -> str | Fault:
        await asyncio.sleep(0)
        return f"{request.model} heard {request.text}" if request.number == 1 else Fault("500")

    async def go() -> None:
        async with ProviderServer(answer) as server:
            gateway = Gateway(server.providers())
            call = gateway.prepare(model, [{"role": "user", "content": "hello"}], {})
            assert (await gateway.send(call)).text == "m heard hello"
            with pytest.raises(CallTransient):
                await gateway.send(call)
            await gateway.close()

    asyncio.run(go())


def test_as_a_process_it_prints_its_url_bills_and_obeys_its_flags(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    with process("--log", log, "--answer", "42", "--fault", "429x1:3") as url:
        with pytest.raises(Exception, match="429") as caught:
            post(url)
        caught.value.close()  # type: ignore[attr-defined]
        assert post(url)["choices"][0]["message"]["content"] == "42"
        with urlopen(f"{url}/_calls") as answer:
            assert len(json.load(answer)) == 1
    with process("--log", log) as url:
        post(url)
    assert len(Path(log).read_text().splitlines()) == 2


@pytest.mark.slow
def test_it_serves_fast_enough_not_to_be_what_a_chaos_test_measures(tmp_path: Path) -> None:
    count, lanes = 6000, 16

    async def ask(url: str) -> None:
        raw = json.dumps(BODY).encode()
        async with aiohttp.ClientSession() as session:

            async def lane() -> None:
                for _ in range(count // lanes):
                    async with session.post(f"{url}/v1/chat/completions", data=raw) as answer:
                        await answer.read()

            await asyncio.gather(*[lane() for _ in range(lanes)])

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)  # a core's time: others may be using the machine
        return used.ru_utime + used.ru_stime

    before = spent()
    with process("--log", str(tmp_path / "log")) as url:
        asyncio.run(ask(url))
    rate = count / (spent() - before)
    assert rate > 700, f"{rate:.0f} requests/s of its process, its start included"
