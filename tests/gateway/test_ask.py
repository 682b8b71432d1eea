"""The gateway as bodies see it: prepare makes a call, send sends it once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from onward.ask import Answer, Ask, Usage
from onward.errors import CallRejected, CallTransient, UsageError
from onward.gateway import PROVIDERS, Gateway, Price, Prices, PythonModel
from onward.testing import Fault, ProviderServer

ASKED = [{"role": "user", "content": "hello"}]


def test_a_gateway_is_an_ask() -> None:
    ask: Ask = Gateway()
    assert ask.prepare


def test_without_a_key_it_says_which_variable_to_set() -> None:
    with pytest.raises(UsageError, match=r"^No key for openai: set OPENAI_API_KEY \(or put it in \.env\)$"):
        Gateway().prepare("openai/gpt-4o-mini", ASKED, {})


def test_an_unknown_provider_is_told_what_was_meant_and_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        Gateway().prepare("opnai/gpt-4o-mini", ASKED, {})
    said = str(caught.value)
    assert "Did you mean 'openai'?" in said
    assert all(name in said for name in (*PROVIDERS, "python"))


@pytest.mark.parametrize("name", ["gpt-4o-mini", "openai/", ""])
def test_a_model_without_its_provider_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="provider/name"):
        Gateway().prepare(name, ASKED, {})


def test_what_is_not_json_is_refused_before_anything_leaves() -> None:
    with ProviderServer() as server:
        gateway = Gateway(server.providers())
        for wrong in ({"temperature": float("nan")}, {"extra": object()}):
            with pytest.raises(UsageError, match="cannot be sent as JSON"):
                gateway.prepare("openai/m", ASKED, wrong)
        with pytest.raises(UsageError, match="cannot be sent as JSON"):
            gateway.prepare("openai/m", [{"role": "user", "content": "\ud800"}], {})
        assert not server.requests


async def _python(model: Any, **params: Any) -> Answer:
    gateway = Gateway(models={"it": model})
    return await gateway.send(gateway.prepare("python/it", ASKED, params))


@pytest.mark.parametrize("blocking", [False, True])
def test_a_function_answers_as_a_model_without_key_or_cost(blocking: bool) -> None:
    model = PythonModel(lambda messages, params: f"{messages[-1]['content']} {params['seed']}", blocking)
    assert asyncio.run(_python(model, seed=3)) == Answer("hello 3", usd=0.0)


def test_an_async_function_and_a_whole_answer_are_fine_too() -> None:
    async def model(messages: Any, params: Any) -> Answer:
        await asyncio.sleep(0)
        return Answer("yes", "length", usage=Usage(3, 4))

    assert asyncio.run(_python(model)) == Answer("yes", "length", usage=Usage(3, 4), usd=0.0)


def test_a_function_that_says_what_it_cost_is_believed() -> None:
    assert asyncio.run(_python(lambda m, p: Answer("a", usd=0.25))).usd == 0.25


def test_a_functions_own_exception_is_the_solvers_and_a_networks_is_not() -> None:
    def broken(error: Exception) -> Any:
        def model(messages: Any, params: Any) -> str:
            raise error

        return model

    with pytest.raises(CallRejected, match="model 'it' raised ValueError: no"):
        asyncio.run(_python(broken(ValueError("no"))))
    with pytest.raises(CallTransient, match="ConnectionResetError"):
        asyncio.run(_python(broken(ConnectionResetError("gone"))))
    with pytest.raises(CallRejected, match="returned int, not text"):
        asyncio.run(_python(lambda m, p: 7))


def test_ten_thousand_calls_of_a_function_cost_less_than_60_microseconds_each() -> None:
    async def spent() -> float:
        gateway = Gateway(models={"it": lambda messages, params: "x"})
        start = time.process_time()
        for _ in range(10_000):
            await gateway.send(gateway.prepare("python/it", ASKED, {"seed": 1}))
        return (time.process_time() - start) / 10_000

    assert min(asyncio.run(spent()) for _ in range(3)) < 60e-6


def test_an_unknown_function_is_told_what_was_meant() -> None:
    gateway = Gateway(models={"solver": lambda m, p: ""})
    with pytest.raises(UsageError, match="Did you mean 'solver'"):
        gateway.prepare("python/slover", ASKED, {})


def test_send_sends_once_and_never_again_by_itself() -> None:
    async def go() -> None:
        gateway = Gateway(server.providers())
        try:
            with pytest.raises(CallTransient):
                await gateway.send(gateway.prepare("openai/m", ASKED, {}))
        finally:
            await gateway.close()

    for kind in ("500", "429", "cut", "truncated"):
        with ProviderServer(faults=[Fault(kind)]) as server:
            asyncio.run(go())
            assert len(server.requests) == 1, kind


def test_a_given_price_makes_a_function_cost_money() -> None:
    async def go() -> Answer:
        gateway = Gateway(models={"it": lambda m, p: Answer("a", usage=Usage(1000, 100))}, prices=Prices(given))
        call = gateway.prepare("python/it", ASKED, {"max_tokens": 100})
        assert call.usd is not None and call.usd > 0
        assert gateway.prepare("python/it", ASKED, {}).usd is None
        return await gateway.send(call)

    given = {"python/it": Price(1.0, 10.0)}
    assert asyncio.run(go()).usd == pytest.approx(0.002)
