"""The gateway over real HTTP: what an agent gets, what the journal holds, what is paid."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.gateway.street import STEP, Street, body_of, path_of, run, shown, street, until

from onward.ask import Answer, Usage
from onward.errors import Stopping
from onward.testing import Fault, ProviderServer, Request

FORMATS = ("chat", "responses", "messages", "gemini")


def calling(request: Request) -> Answer:
    """Text, a tool call, and counts."""
    call = {"id": "call_1", "name": "bash", "arguments": {"command": f"echo {request.text}"}}
    return Answer(f"Ünïcode for {request.text} 😀", "tool", [call], Usage(30, 20))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", FORMATS)
def test_an_agent_gets_the_very_bytes_of_a_direct_call_and_the_journal_holds_them(protocol: str, stream: bool) -> None:
    async def go() -> None:
        async with ProviderServer(calling) as server, street(server) as at:
            token = at.admit()
            status, got = await at.post(token, protocol, "hello", stream)
            url, body = server.url + path_of(protocol, stream), body_of(protocol, "hello", stream)
            async with at.http.post(url, json=body, headers=shown(protocol, "x")) as direct:
                assert (status, got) == (direct.status, await direct.read())
            (intent,), (answer,) = at.entries("intent"), at.answers()
            assert intent.data["request"] == body
            assert intent.key == answer.key and answer.key.startswith(f"{STEP}/llm:") and answer.key.endswith("#1")
            value = answer.value
            kept = "".join(text for _, text in value["frames"]) if stream else value["body"]
            assert kept.encode() == got
            assert value["status"] == 200 and value["order"] == [1, 2]
            assert (value["usage"]["input"], value["usage"]["output"]) == (30, 20)
            if stream:
                offsets = [offset for offset, _ in value["frames"]]
                assert offsets == sorted(offsets) and len(offsets) > 3

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
def test_the_provider_gets_the_very_bytes_with_its_own_key(protocol: str) -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server, key="sk-true-key-0123456789") as at:
            token = at.admit()
            raw = json.dumps(body_of(protocol, "héllo", temperature=0.50), indent=1).encode()
            headers = {**shown(protocol, token), "Content-Type": "application/json", "X-Mine": "1", "Cookie": "a=b"}
            async with at.http.post(at.door.url + path_of(protocol, False), data=raw, headers=headers) as reply:
                assert reply.status == 200
            (seen,) = server.requests
            assert seen.body == json.loads(raw)
            values = list(seen.headers.values())
            assert not any(token in value for value in values) and "a=b" not in values
            assert any("sk-true-key-0123456789" in value for value in values) and seen.headers["x-mine"] == "1"
            stored = str(at.rows()) + str(at.entries())
            assert token not in stored and "sk-true-key" not in stored

    run(go())


def test_frames_pass_at_once_and_the_last_one_waits_for_the_commit() -> None:
    async def go() -> None:
        async with ProviderServer(calling, pace=0.01) as server, street(server) as at:
            token, append, commit = at.admit(), at.journal.append, asyncio.Event()
            loop, kept = asyncio.get_running_loop(), list[Any]()

            def slow(rows: Any, blobs: Any, done: Any) -> None:
                rows = list(rows)
                if rows[0].kind == "result":
                    kept.append((rows, blobs, done))
                    loop.call_soon_threadsafe(commit.set)
                else:
                    append(rows, blobs, done)

            at.journal.append = slow  # type: ignore[method-assign]
            url = at.door.url + path_of("messages", True)
            body = body_of("messages", "hello", True)
            async with at.http.post(url, json=body, headers=shown("messages", token)) as reply:
                got = b""
                while b"message_delta" not in got:
                    got += await reply.content.readany()
                await commit.wait()
                assert b"message_stop" not in got
                append(*kept[0])
                rest = await reply.content.read()
                assert b"message_stop" in rest and b"message_stop" not in got

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
def test_an_unknown_or_dead_token_is_refused_in_the_words_of_the_format(protocol: str) -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            token = at.admit()
            await at.door.dismiss(token)
            for wrong in (token, "sk-other", ""):
                status, got = await at.post(wrong, protocol, "hello")
                error = json.loads(got)["error"]
                assert status == 401 and "no open trial" in error["message"]
            assert not server.requests and not at.rows()

    run(go())


def test_the_token_is_found_wherever_an_sdk_puts_it() -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            token, body = at.admit(), body_of("gemini", "hello")
            url = at.door.url + path_of("gemini", False)
            async with at.http.post(f"{url}?key={token}", json=body) as reply:
                assert reply.status == 200
            async with at.http.post(url, json=body, headers={"Authorization": f"bearer {token}"}) as reply:
                assert reply.status == 200
            assert len(server.calls) == 2 and token not in str(at.entries())

    run(go())


def test_what_else_agents_ask_is_answered_and_not_recorded() -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            token, url = at.admit(), at.door.url
            async with at.http.head(url + "/") as reply:
                assert reply.status == 200
            headers = shown("chat", token)
            async with at.http.get(url + "/v1/models", headers=headers) as reply:
                assert (await reply.json())["data"][0]["id"] == "scripted"
            for method, path in (("GET", "/v1/responses"), ("POST", "/v1/embeddings"), ("DELETE", "/v1/models")):
                async with at.http.request(method, url + path, headers=headers) as reply:
                    assert reply.status == 404 and "error" in await reply.json()
            for raw in (b"no json", b"[1]"):
                async with at.http.post(url + "/v1/chat/completions", data=raw, headers=headers) as reply:
                    assert reply.status == 400
            fixed = at.admit(miss="fail")
            counted = url + "/v1/messages/count_tokens"
            async with at.http.post(counted, json={"messages": []}, headers=shown("messages", fixed)) as reply:
                assert (await reply.json())["input_tokens"] > 0
            assert not at.rows()

    run(go())


def test_a_websocket_is_refused_at_once() -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            headers = shown("responses", at.admit())
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await at.http.ws_connect(at.door.url + "/v1/responses", headers=headers)
            assert caught.value.status == 426

    run(go())


def test_it_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    async def go() -> None:
        path = str(tmp_path / "s")
        async with ProviderServer() as server, street(server, unix=path) as at:
            token = at.admit()
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
                url = "http://gateway/v1/chat/completions"
                async with http.post(url, json=body_of("chat", "x"), headers=shown("chat", token)) as reply:
                    assert reply.status == 200
            assert len(server.calls) == 1
        assert not Path(path).exists()

    run(go())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_two_500s_then_an_answer_are_three_recorded_attempts_and_one_answer(stream: bool) -> None:
    async def go() -> None:
        async with ProviderServer(faults=[Fault("500", times=2)]) as server, street(server) as at:
            status, got = await at.post(at.admit(), "chat", "hello", stream)
            assert status == 200 and b"answer" in got
            results = at.entries("result")
            assert [(entry.outcome, entry.attempt) for entry in results] == [("error", 1), ("error", 2), ("ok", 3)]
            assert len(server.calls) == 1 and len({entry.key for entry in results}) == 1

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
def test_a_final_error_keeps_its_true_status_and_body(protocol: str) -> None:
    async def go() -> None:
        async with ProviderServer(faults=[Fault("529", times=2)]) as server, street(server, attempts=2) as at:
            token = at.admit()
            status, got = await at.post(token, protocol, "hello")
            assert status == 529 and "scripted 529" in json.loads(got)["error"]["message"]
            assert at.door.guest(token).trouble is not None
            status, _ = await at.post(token, protocol, "hello")  # the agent's SDK tries again
            assert status == 200
            assert [entry.attempt for entry in at.entries("result")] == [1, 2, 3]
            assert at.door.guest(token).trouble is None

    run(go())


def test_what_the_provider_will_never_answer_is_an_answer_and_is_served_again() -> None:
    async def go() -> None:
        async with ProviderServer(faults=[Fault("context", times=1)]) as server:
            async with street(server) as at:
                first = await at.post(at.admit(), "chat", "hello")
                assert first[0] == 400 and b"maximum context length" in first[1]
                journal = at.journal
            async with street(server, journal) as at:
                assert await at.post(at.admit(), "chat", "hello") == first
            assert len(server.requests) == 1

    run(go())


def test_a_refused_key_ends_the_step_and_never_reaches_the_agent() -> None:
    async def go() -> None:
        key = "sk-true-key-0123456789"

        def answer(request: Request) -> Fault:
            return Fault("401")

        async with ProviderServer(answer) as server, street(server, key=key) as at:
            context = at.context()
            token = at.door.admit(context)
            status, got = await at.post(token, "chat", "hello")
            assert status == 401 and key.encode() not in got
            assert "was refused" in str(context.ended)
            status, _ = await at.post(token, "chat", "other")
            assert status == 403 and len(server.requests) == 1

    run(go())


def test_a_request_without_what_its_format_demands_is_the_providers_to_refuse() -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            for protocol in FORMATS:
                url, token = at.door.url + path_of(protocol, False), at.admit()
                for body in ({}, {"model": 3, "messages": 4, "max_tokens": "x", "contents": "y", "input": [1]}):
                    async with at.http.post(url, json=body, headers=shown(protocol, token)) as reply:
                        assert reply.status == 200
            assert len(server.requests) == 8

    run(go())


def test_nothing_new_leaves_once_the_run_stops() -> None:
    async def go() -> None:
        async with ProviderServer() as server, street(server) as at:
            context = at.context()
            token = at.door.admit(context)
            at.recorder.limits.stop("Ctrl-C")
            status, _ = await at.post(token, "messages", "hello")
            assert status == 403 and not server.requests and isinstance(context.ended, Stopping)

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
@pytest.mark.parametrize("kind", ["cut", "truncated"])
def test_a_stream_cut_upstream_breaks_the_clients_and_is_asked_again(protocol: str, kind: str) -> None:
    async def go() -> None:
        async with ProviderServer(faults=[Fault(kind, times=1)], pace=0.005) as server, street(server) as at:
            token = at.admit()
            with pytest.raises(aiohttp.ClientPayloadError):
                await at.post(token, protocol, "hello", True)
            await until(lambda: len(at.answers()) == 1)
            status, got = await at.post(token, protocol, "hello", True)
            assert status == 200
            assert "".join(text for _, text in at.answers()[0].value["frames"]).encode() == got
            assert [entry.outcome for entry in at.entries("result")] == ["error", "ok"] and len(server.calls) == 1

    run(go())


async def _hang_up(at: Street, token: str, text: str, after: bytes, protocol: str = "chat") -> None:
    """A client that goes away in the middle of a stream."""
    body = json.dumps(body_of(protocol, text, True)).encode()
    reader, writer = await asyncio.open_connection(sock=_socket(at.door.url))
    writer.write(
        f"POST {path_of(protocol, True)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    got = b""
    while after not in got:
        got += await reader.read(4096)
    writer.transport.abort()


def _socket(url: str) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    made.setblocking(False)
    return made


def test_a_client_that_hangs_up_does_not_stop_the_recording_and_its_answer_is_served_first() -> None:
    async def go() -> None:
        async with ProviderServer(pace=0.02) as server, street(server) as at:
            token = at.admit()
            await _hang_up(at, token, "hello", b"chat.completion.chunk")
            await until(lambda: len(at.answers()) == 1)
            status, got = await at.post(token, "chat", "hello", True)
            kept = at.answers()[0].value["frames"]
            assert status == 200 and got == "".join(text for _, text in kept).encode()
            assert len(server.calls) == 1 and len(at.entries("served")) == 1
            await at.post(token, "chat", "hello", True)
            assert len(server.calls) == 2  # that one was delivered: the next equal is a new draw

    run(go())


def test_a_request_equal_to_one_whose_client_has_gone_joins_it() -> None:
    async def go() -> None:
        async with ProviderServer(pace=0.05) as server, street(server) as at:
            token = at.admit()
            await _hang_up(at, token, "hello", b"chat.completion.chunk")
            guest = at.door.guest(token)
            await until(lambda: all(one.alone for each in guest._flights.values() for one in each))
            status, got = await at.post(token, "chat", "hello", True)
            assert status == 200 and got.endswith(b"data: [DONE]\n\n")
            assert len(server.calls) == 1 and not at.entries("served")

    run(go())


def test_an_impatient_client_with_two_retries_costs_one_call() -> None:
    async def go() -> None:
        release = asyncio.Event()

        async def answer(request: Request) -> str:
            await release.wait()
            return "at last"

        async with ProviderServer(answer) as server, street(server) as at:
            token = at.admit()
            for retry in range(2):
                request = at.post(token, "chat", "slow", headers={"x-stainless-retry-count": str(retry)})
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(request, 0.2)
            last = asyncio.ensure_future(at.post(token, "chat", "slow", headers={"x-stainless-retry-count": "2"}))
            await asyncio.sleep(0)
            guest = at.door.guest(token)
            await until(lambda: any(one.readers for each in guest._flights.values() for one in each))
            release.set()
            status, got = await last
            assert status == 200 and b"at last" in got
            assert len(server.requests) == 1 and len(at.answers()) == 1

    run(go())


def test_a_marked_retry_joins_a_call_whose_first_client_still_waits() -> None:
    async def go() -> None:
        async with ProviderServer(pace=0.02) as server, street(server) as at:
            token = at.admit()
            first = asyncio.ensure_future(at.post(token, "messages", "x", True))
            await until(lambda: bool(at.door.guest(token)._flights))
            second = await at.post(token, "messages", "x", True, headers={"x-stainless-retry-count": "1"})
            assert await first == second and len(server.calls) == 1

    run(go())


@pytest.mark.parametrize("recorded", [False, True], ids=["paid", "served"])
def test_a_marked_retry_joins_an_answer_that_is_complete_and_still_being_read(recorded: bool) -> None:
    async def go() -> None:
        async with ProviderServer(lambda request: f"draw {request.number}") as server, street(server) as at:
            token = at.admit()
            again = {"x-stainless-retry-count": "1"}
            if recorded:
                assert b"draw 1" in (await at.post(token, "chat", "hello"))[1]
            slow = _Slow(token, "hello", again if recorded else {})
            reading = asyncio.ensure_future(at.door(slow.scope, slow.receive, slow.send))
            await slow.reached.wait()  # a client that may have gone by now: nobody has been told
            status, got = await at.post(token, "chat", "hello", headers=again)
            assert status == 200 and b"draw 1" in got
            assert len(server.calls) == 1 == len(at.answers()) and len(at.entries("served")) == recorded
            slow.go_on.set()
            await reading
            assert b"draw 2" in (await at.post(token, "chat", "hello"))[1]

    run(go())


class _Slow:
    """A request to the application itself, whose client does not take the last bytes before it may."""

    def __init__(self, token: str, text: str, headers: Mapping[str, str]) -> None:
        shown_there = {**shown("chat", token), **headers}
        self.scope = {
            "type": "http", "method": "POST", "path": path_of("chat", False), "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in shown_there.items()],
        }  # fmt: skip
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._asked = [{"type": "http.request", "body": json.dumps(body_of("chat", text, False)).encode()}]

    async def receive(self) -> MutableMapping[str, Any]:
        """The request, and then nothing: the client stays."""
        if not self._asked:
            await asyncio.Event().wait()
        return self._asked.pop()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take it, when it is time."""
        if message["type"] == "http.response.body":
            self.reached.set()
            await self.go_on.wait()


def test_five_equal_calls_in_parallel_are_five_draws() -> None:
    async def go() -> None:
        async with (
            ProviderServer(lambda request: f"draw {request.number}", latency=0.02) as server,
            street(server) as at,
        ):
            token = at.admit()
            got = await asyncio.gather(*(at.post(token, "chat", "hello") for _ in range(5)))
            assert len({body for _, body in got}) == 5 and len(server.calls) == 5
            keys = [entry.key for entry in at.answers()]
            assert {key.rpartition("#")[2] for key in keys} == set("12345") and len(
                {k.split("#")[0] for k in keys}
            ) == 1
            report = await at.door.dismiss(token)
            assert report["paid"] == 5 and report["served"] == {}

    run(go())


def test_a_token_that_is_dismissed_waits_for_what_is_under_way() -> None:
    async def go() -> None:
        async with ProviderServer(pace=0.02) as server, street(server) as at:
            token = at.admit()
            await _hang_up(at, token, "hello", b"chat.completion.chunk")
            await at.door.dismiss(token)
            assert len(at.answers()) == 1

    run(go())
