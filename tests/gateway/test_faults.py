"""What a provider's refusal means: each fault over a real socket, in each wire format, streamed and not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from onward.ask import Answer
from onward.errors import CallError, CallRejected, CallTransient, ProviderStopped
from onward.gateway import Gateway, Provider
from onward.gateway.faults import failure, reported, retry_after
from onward.gateway.upstream import Upstream
from onward.testing import Fault, ProviderServer

MODELS = ["openai/m", "openai-responses/m", "anthropic/m", "google/m"]
SECRET = "sk-very-secret-0123456789abcdef"
PROVIDER = Provider("openai", "chat", "http://user:hunter22@127.0.0.1:9/v1", key=SECRET, key_name="OPENAI_API_KEY")


def ask(server: ProviderServer, model: str, *, stream: bool, stall: float = 120.0) -> Answer:
    async def go() -> Answer:
        gateway = Gateway(server.providers(SECRET), upstream=Upstream(stall=stall))
        call = gateway.prepare(model, [{"role": "user", "content": "hello"}], {"max_tokens": 5})
        try:
            return await gateway.send(call, (lambda text: None) if stream else None)
        finally:
            await gateway.close()

    return asyncio.run(go())


CLASSES: list[tuple[str, type[CallError]]] = [
    ("400", CallRejected), ("401", ProviderStopped), ("402", ProviderStopped), ("403", ProviderStopped),
    ("404", ProviderStopped), ("408", CallTransient), ("409", CallTransient), ("413", CallRejected),
    ("422", CallRejected), ("429", CallTransient), ("500", CallTransient), ("503", CallTransient),
    ("529", CallTransient), ("quota", ProviderStopped), ("context", CallRejected), ("content", CallRejected),
    ("error", CallTransient), ("truncated", CallTransient), ("cut", CallTransient), ("garbage", CallTransient),
    ("not-text", CallTransient), ("307", ProviderStopped),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("kind", "wanted"), CLASSES, ids=[kind for kind, _ in CLASSES])
@pytest.mark.parametrize("model", MODELS)
def test_each_fault_has_its_class(model: str, kind: str, wanted: type[CallError], stream: bool) -> None:
    with ProviderServer(faults=[Fault(kind)]) as server, pytest.raises(CallError) as caught:
        ask(server, model, stream=stream)
    assert type(caught.value) is wanted, caught.value
    assert str(caught.value).startswith(model.partition("/")[0] + ": ")
    assert SECRET not in str(caught.value) + repr(caught.value)
    if kind.isdigit():
        assert caught.value.status == int(kind)
    assert not server.calls


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS)
def test_a_hang_is_a_stall_and_not_a_timeout_of_the_whole(model: str, stream: bool) -> None:
    with (
        ProviderServer(faults=[Fault("hang")]) as server,
        pytest.raises(CallTransient, match=r"stalled: no byte for 0\.2 s"),
    ):
        ask(server, model, stream=stream, stall=0.2)


def test_a_stream_that_keeps_coming_outlives_the_stall_limit() -> None:
    with ProviderServer(answer=lambda request: "x" * 120, pace=0.05) as server:
        assert ask(server, "openai/m", stream=True, stall=0.3).text == "x" * 120


@pytest.mark.parametrize("model", MODELS)
def test_a_long_answer_and_one_with_a_nul_are_answers(model: str) -> None:
    with ProviderServer(faults=[Fault("huge", size=3_000_000, times=1), Fault("nul")]) as server:
        assert len(ask(server, model, stream=False).text) == 3_000_000
        assert ask(server, model, stream=False).text == ask(server, model, stream=True).text == "before\0after"
        assert len(server.calls) == 3


def test_50_megabytes_are_an_answer_and_70_are_refused_with_the_limit_named() -> None:
    with ProviderServer(faults=[Fault("huge", times=1), Fault("huge", size=70 * 2**20)]) as server:
        assert len(ask(server, "openai/m", stream=False).text) == 50 * 2**20
        with pytest.raises(CallTransient, match="over 64 MB"):
            ask(server, "openai/m", stream=False)


def test_nobody_listening_is_transient() -> None:
    with ProviderServer() as server:
        pass
    with pytest.raises(CallTransient, match="network: ClientConnectorError"):
        ask(server, "openai/m", stream=False)


@pytest.mark.parametrize(("wait", "seconds"), [("7", 7.0), ("0.5", 0.5), (None, None)])
def test_retry_after_is_passed_on(wait: str | None, seconds: float | None) -> None:
    with ProviderServer(faults=[Fault("429", retry_after=wait)]) as server, pytest.raises(CallTransient) as caught:
        ask(server, "openai/m", stream=False)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Fri, 21 Nov 2025 10:00:30 GMT", "date": "Fri, 21 Nov 2025 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Fri, 21 Nov 2025 09:00:00 GMT", "date": "Fri, 21 Nov 2025 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 21 Nov 2025 10:00:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "12", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_sentence_about_when_to_come_back_is_read_too() -> None:
    assert retry_after({}, "Rate limit reached. Please try again in 1.2s. Visit …") == 1.2


def failed(status: int, error: Any, **headers: str) -> CallError:
    return failure(PROVIDER, "gpt-x", status, headers, json.dumps({"error": error}).encode())


def test_messages_say_what_to_do_next() -> None:
    assert str(failed(401, {"message": "Incorrect API key provided: sk-ve***def"})) == (
        "openai: 401 — the key in OPENAI_API_KEY was refused"
    )
    said = str(failed(404, {"message": "no"}))
    assert said == "openai: 404 — model 'gpt-x' does not exist at http://127.0.0.1:9/v1: no"
    assert "no credit or quota left" in str(failed(402, {}))


def test_a_key_that_a_provider_repeats_is_blotted_out() -> None:
    for status in (400, 403, 404, 429, 500):
        said = str(failed(status, {"message": f"bad {SECRET} here"}))
        assert SECRET not in said
        assert "hunter22" not in said
    assert SECRET not in repr(PROVIDER)


def test_what_a_provider_says_cannot_flood_or_break_the_line() -> None:
    said = str(failed(500, {"message": "a\nb\x1b[31m" + "x" * 10_000}))
    assert len(said) < 500
    assert said.isprintable()


@pytest.mark.parametrize(
    ("status", "error", "wanted"),
    [
        (400, {"code": "context_length_exceeded", "message": "…"}, CallRejected),
        (400, {"type": "invalid_request_error", "message": "prompt is too long: 205000 tokens > 200000"}, CallRejected),
        (400, {"type": "exceed_context_size_error", "message": "exceeds the available context"}, CallRejected),
        (400, {"message": "The input token count (2) exceeds the maximum number of tokens allowed (1)."}, CallRejected),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, ProviderStopped),
        (400, {"message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}, ProviderStopped),
        (403, {"message": "Content violates usage guidelines."}, CallRejected),
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}, ProviderStopped),
        (429, {"message": "You exceeded your current quota, please check your plan and billing details",
               "details": [{"@type": "RetryInfo", "retryDelay": "32s"}]}, CallTransient),
        (429, {"message": "…", "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerModel"}]}]},
         ProviderStopped),
        (500, {"message": "the context length of this …"}, CallTransient),
    ],
)  # fmt: skip
def test_what_is_said_counts_beside_the_status(status: int, error: Any, wanted: type[CallError]) -> None:
    assert type(failed(status, error)) is wanted


def test_geminis_own_delay_is_read() -> None:
    error = failed(429, {"message": "quota", "details": [{"retryDelay": "32.5s"}]})
    assert error.retry_after == 32.5


@pytest.mark.parametrize(
    "raw", [b"", b"<html>bad gateway</html>", b"\xff\xfe", b"[]", b"7", b'{"error": "no"}', b"[" * 9999]
)
def test_a_body_of_any_form_is_survived(raw: bytes) -> None:
    assert isinstance(failure(PROVIDER, "m", 502, {}, raw), CallTransient)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, CallTransient),
        ({"type": "rate_limit_error"}, CallTransient),
        ({"code": "context_length_exceeded", "message": "too long"}, CallRejected),
        ({"type": "content_filter", "message": "the prompt was blocked: SAFETY"}, CallRejected),
        ({"code": "insufficient_quota"}, ProviderStopped),
        ({"code": 503, "status": "UNAVAILABLE"}, CallTransient),
        ({"type": "authentication_error"}, ProviderStopped),
        ({}, CallTransient),
    ],
)
def test_an_error_inside_a_200_has_the_class_of_its_name(error: Any, wanted: type[CallError]) -> None:
    assert type(reported(PROVIDER, "m", error)) is wanted


def test_a_call_that_is_cancelled_hangs_up_and_the_next_one_is_not_hurt() -> None:
    async def go() -> str:
        gateway = Gateway(server.providers())
        call = gateway.prepare("openai/m", [{"role": "user", "content": "x"}], {})
        lost = asyncio.create_task(gateway.send(call))
        while not server.requests:
            await asyncio.sleep(0.01)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        try:
            return (await gateway.send(call)).text
        finally:
            await gateway.close()

    with ProviderServer(latency=0.2) as server:
        assert asyncio.run(go()).startswith("answer ")
        assert [billed.delivered for billed in server.calls] == [False, True]


def test_a_bug_in_the_callers_own_listener_is_not_blamed_on_the_network() -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError("the terminal has gone")

    async def go(listener: Callable[[str], None]) -> None:
        gateway = Gateway(server.providers())
        try:
            await gateway.send(gateway.prepare("openai/m", [{"role": "user", "content": "x"}], {}), listener)
        finally:
            await gateway.close()

    with ProviderServer() as server, pytest.raises(BrokenPipeError):
        asyncio.run(go(broken))
