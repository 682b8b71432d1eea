"""LLM traffic: wire protocols (pure), providers (data), and one module that reaches them."""

from onward.gateway.ask import Gateway
from onward.gateway.inprocess import PythonModel
from onward.gateway.prices import Price, Prices, parse_price
from onward.gateway.providers import PROVIDERS, Provider, from_entry, with_keys

__all__ = [
    "PROVIDERS", "Gateway", "Price", "Prices", "Provider", "PythonModel", "from_entry", "parse_price", "with_keys",
]  # fmt: skip
