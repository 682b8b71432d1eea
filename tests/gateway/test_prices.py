"""List prices: bundled, or given; never fetched; None where unknown."""

from __future__ import annotations

import random
import subprocess
import sys

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot

from onward.ask import Usage
from onward.errors import UsageError
from onward.gateway import Price, Prices, parse_price

MILLION = Usage(1_000_000, 1_000_000)


def test_known_models_cost_their_list_price() -> None:
    assert Prices().cost("openai", "gpt-4o-mini", MILLION) == pytest.approx(0.15 + 0.60)
    assert Prices().cost("openai-responses", "gpt-4o-mini", MILLION) == pytest.approx(0.75)


def test_what_was_read_from_a_cache_costs_less_and_what_was_written_more() -> None:
    plain = Prices().cost("anthropic", "claude-sonnet-4-5", Usage(1000, 0))
    read = Prices().cost("anthropic", "claude-sonnet-4-5", Usage(1000, 0, cached=1000))
    written = Prices().cost("anthropic", "claude-sonnet-4-5", Usage(1000, 0), cache_writes=1000)
    bound = Prices().bound("anthropic", "claude-sonnet-4-5", Usage(1000, 0), caching=True)
    assert plain and read and written and bound
    assert read < plain < written <= bound


def test_every_price_is_the_very_one_that_the_list_says() -> None:
    chance, prices, compared = random.Random(3), Prices(), 0
    for vendor in get_snapshot().providers:
        for model in vendor.models:
            for _ in range(3):
                size = 10 ** chance.randrange(1, 7)
                used = Usage(chance.randrange(size), chance.randrange(5000), cached=chance.randrange(size))
                writes = chance.choice((0, chance.randrange(size)))
                caches = {"cache_read_tokens": min(used.cached, used.input), "cache_write_tokens": writes}
                counts = genai_prices.Usage(input_tokens=used.input, output_tokens=used.output, **caches)
                try:
                    listed = float(genai_prices.calc_price(counts, model.id, provider_id=vendor.id).total_price)
                except (ValueError, LookupError):
                    continue
                assert prices.cost(vendor.id, model.id, used, cache_writes=writes) == listed, model.id
                compared += 1
    assert compared > 1000


def test_unknown_is_none_and_ours_is_free() -> None:
    assert Prices().cost("openai", "nobody-knows-it", MILLION) is None
    assert Prices().cost("my-own", "gpt-4o-mini-x", MILLION) is None
    assert Prices().cost("local", "smollm2", MILLION) == 0.0
    assert Prices().cost("python", "f", MILLION) == 0.0


def test_a_given_price_goes_before_the_list_and_the_fuller_name_before_the_shorter() -> None:
    prices = Prices({"gpt-4o-mini": Price(1, 2), "openai/gpt-4o-mini": Price(3, 4)})
    assert prices.cost("openai", "gpt-4o-mini", MILLION) == 7.0
    assert prices.cost("mine", "gpt-4o-mini", MILLION) == 3.0
    assert Prices({"m": Price(0, 0)}).cost("openai", "m", MILLION) == 0.0


def test_a_price_is_read_from_the_command_line() -> None:
    assert parse_price("meta/llama-3=0.5/1.5") == ("meta/llama-3", Price(0.5, 1.5))


@pytest.mark.parametrize("text", ["m", "m=1", "=1/2", "m=1/x", "m=-1/2", "m=nan/1", "m=inf/1"])
def test_a_price_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="MODEL=IN/OUT"):
        parse_price(text)


def test_prices_are_looked_up_without_a_network_or_a_thread() -> None:
    code = """
import sys, threading
def watch(event, given):
    assert not event.startswith("socket."), event
sys.addaudithook(watch)
from onward.ask import Usage
from onward.gateway import Prices
assert Prices().cost("openai", "gpt-4o-mini", Usage(10, 10))
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_neither_prices_nor_http_are_imported_until_they_are_needed() -> None:
    code = """
import sys, asyncio
from onward.gateway import Gateway
gateway = Gateway(models={"f": lambda m, p: "x"})
asyncio.run(gateway.send(gateway.prepare("python/f", [], {})))
asyncio.run(gateway.close())
heavy = {"aiohttp", "genai_prices", "xllamacpp", "urllib.request"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
