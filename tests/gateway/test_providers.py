"""Providers are data: known ones in a table, others from an experiment; keys are handed in and never shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from onward.errors import SpecError, UsageError
from onward.gateway import PROVIDERS, Gateway, Provider, from_entry, with_keys
from onward.gateway.upstream import system_proxy
from onward.testing import ProviderServer


def test_there_are_these() -> None:
    assert {name: (p.protocol, p.key_name) for name, p in PROVIDERS.items()} == {
        "openai": ("chat", "OPENAI_API_KEY"),
        "openai-responses": ("responses", "OPENAI_API_KEY"),
        "anthropic": ("messages", "ANTHROPIC_API_KEY"),
        "google": ("gemini", "GEMINI_API_KEY"),
        "local": ("chat", ""),
    }


def test_keys_go_to_those_whose_variable_they_are() -> None:
    keyed = with_keys(PROVIDERS, {"OPENAI_API_KEY": "sk-1", "OTHER": "x", "GEMINI_API_KEY": ""})
    assert {name for name, provider in keyed.items() if provider.key} == {"openai", "openai-responses"}


def test_neither_key_nor_headers_show_in_a_repr() -> None:
    shown = repr(Provider("a", "chat", "http://h/v1", key="sk-secret", headers={"X-Token": "tok-secret"}))
    assert "secret" not in shown


def test_a_compatible_server_is_reached_by_its_base_url_alone() -> None:
    async def go() -> str:
        mine = from_entry("mine", {"base_url": f"{server.url}/v1", "headers": {"X-Team": "red"}})
        gateway = Gateway({"mine": mine})
        try:
            return (await gateway.send(gateway.prepare("mine/org/model", [{"role": "user", "content": "x"}], {}))).text
        finally:
            await gateway.close()

    with ProviderServer() as server:
        assert asyncio.run(go()).startswith("answer ")
        assert server.requests[0].model == "org/model"
        assert server.requests[0].headers["x-team"] == "red"
        assert "authorization" not in server.requests[0].headers


def test_a_known_name_keeps_what_its_entry_leaves_out() -> None:
    made = from_entry("anthropic", {"base_url": "http://127.0.0.1:9/"})
    assert (made.protocol, made.key_name, made.base_url) == ("messages", "ANTHROPIC_API_KEY", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({}, "providers.x.base_url"),
        ({"base_url": "localhost:1"}, "providers.x.base_url"),
        ({"base_url": "http://h", "protocol": "grpc"}, "providers.x.protocol"),
        ({"base_url": "http://h", "key_name": "sk-123"}, "providers.x.key_name"),
        ({"base_url": "http://h", "key": "sk-123"}, "providers.x.key"),
    ],
)
def test_an_entry_that_is_wrong_names_its_field(entry: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        from_entry("x", entry)
    assert caught.value.field == field


def test_a_version_in_both_base_url_and_path_is_not_repeated() -> None:
    assert Provider("a", "messages", "http://h/v1/").url("/v1/messages") == "http://h/v1/messages"
    assert Provider("a", "messages", "http://h").url("/v1/messages") == "http://h/v1/messages"
    assert Provider("a", "chat", "http://h/v1").url("/chat/completions") == "http://h/v1/chat/completions"


def test_each_format_carries_the_key_its_own_way_and_the_body_never() -> None:
    async def go() -> None:
        gateway = Gateway(server.providers("sk-my-own-key"))
        for model in ("openai/m", "openai-responses/m", "anthropic/m", "google/m"):
            await gateway.send(gateway.prepare(model, [{"role": "user", "content": "x"}], {}))
        await gateway.close()

    with ProviderServer() as server:
        asyncio.run(go())
        named = ["authorization", "authorization", "x-api-key", "x-goog-api-key"]
        for request, header in zip(server.requests, named, strict=True):
            assert request.headers[header].removeprefix("Bearer ") == "sk-my-own-key"
            assert "sk-my-own-key" not in str(request.body)
        assert server.requests[2].headers["anthropic-version"] == "2023-06-01"


def test_the_way_to_this_machine_never_leads_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert system_proxy("http://somewhere.example/v1") == "http://proxy:3128"
    assert system_proxy("http://127.0.0.1:9/v1") is None
    assert system_proxy("http://localhost:9/v1") is None
    assert system_proxy("http://inside.example/v1") is None


def test_openais_own_name_for_the_longest_answer_is_used_there_alone() -> None:
    talk = [{"role": "user", "content": "x"}]
    known = with_keys(PROVIDERS, {"OPENAI_API_KEY": "k"})
    mine = from_entry("mine", {"base_url": "http://127.0.0.1:9/v1"})
    gateway = Gateway({**known, "mine": mine})
    assert gateway.prepare("openai/m", talk, {"max_tokens": 7}).body["max_completion_tokens"] == 7
    assert gateway.prepare("mine/m", talk, {"max_tokens": 7}).body["max_tokens"] == 7


def test_a_provider_speaks_another_of_its_formats_at_the_address_that_this_has() -> None:
    chat, messages = Provider("a", "chat", "http://h/v1", key="k"), Provider("b", "messages", "http://h/api")
    assert chat.speaking("chat") is chat
    assert chat.speaking("responses").base_url == "http://h/v1"
    assert chat.speaking("messages").base_url == chat.speaking("gemini").base_url == "http://h"
    assert messages.speaking("chat").base_url == "http://h/api/v1"
    assert messages.speaking("gemini").base_url == "http://h/api"
    assert chat.speaking("messages").key == "k" and chat.speaking("messages").protocol == "messages"


def test_a_model_is_reached_without_its_key_as_long_as_nothing_leaves() -> None:
    async def go() -> None:
        gateway = Gateway()
        async with gateway.reach("openai/gpt-x") as (provider, name):
            assert (provider.name, name) == ("openai", "gpt-x")
            with pytest.raises(UsageError, match="OPENAI_API_KEY"):
                provider.check()
        for wrong in ("gpt-x", "nobody/x"):
            with pytest.raises(UsageError):
                async with gateway.reach(wrong):
                    pass
        await gateway.close()

    asyncio.run(go())
