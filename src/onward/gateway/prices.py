"""List prices: what a call cost, and what it can cost at most. In USD; None where no price is known.

Prices come from the data bundled with `genai-prices` (nothing is fetched) unless given: `--price MODEL=IN/OUT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from onward.ask import Usage
from onward.errors import UsageError

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

__all__ = ["Price", "Prices", "parse_price"]

_FREE = frozenset({"local", "python"})
_VENDORS = {"openai-responses": "openai"}
_CACHES = ("cache_read_tokens", "cache_write_tokens")


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float


class _Rates(NamedTuple):
    """USD a token, where a price is so many tokens times so much: the list asks in a fifteenth of a millisecond, and
    each call is priced twice."""

    input: Decimal
    output: Decimal
    cached: Decimal
    """What a token more or less costs that was read from a cache, or written to it."""
    written: Decimal
    below: int | None
    """Tokens of input from which other prices hold."""

    def cost(self, usage: Usage, cached: int, written: int) -> float | None:
        """What these cost; None where the list itself must say."""
        if cached + written > usage.input or (self.below is not None and usage.input >= self.below):
            return None
        return float(
            usage.input * self.input + usage.output * self.output + cached * self.cached + written * self.written
        )


def parse_price(text: str) -> tuple[str, Price]:
    """`MODEL=IN/OUT`, USD per million tokens. MODEL is with or without its provider. Raises UsageError."""
    model, _, rest = text.rpartition("=")
    ins, slash, outs = rest.partition("/")
    try:
        price = Price(float(ins), float(outs))
    except ValueError:
        price = Price(-1, -1)
    if not model or not slash or not (0 <= price.input < 1e9 and 0 <= price.output < 1e9):
        raise UsageError(f"--price {text}: give it as MODEL=IN/OUT in USD per million tokens, such as my-model=0.5/1.5")
    return model, price


@dataclass(slots=True)
class Prices:
    """The price list. `given` (by model, or by provider/model) goes before the bundled one."""

    given: Mapping[str, Price] = field(default_factory=dict)
    _known: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)
    _rates: dict[tuple[str, str], _Rates | None] = field(default_factory=dict, repr=False)

    def own(self, provider: str, model: str) -> Price | None:
        """The price that was given for this model, if one was."""
        return (self.given.get(f"{provider}/{model}") or self.given.get(model)) if self.given else None

    def cost(self, provider: str, model: str, usage: Usage, *, cache_writes: int = 0) -> float | None:
        """What these tokens cost. `cache_writes`: those of the input that were written to the provider's cache."""
        price = self.own(provider, model)
        if price:
            return (usage.input * price.input + usage.output * price.output) / 1e6
        if provider in _FREE:
            return 0.0
        return self._listed(provider, model, usage, min(usage.cached, usage.input), cache_writes)

    def bound(self, provider: str, model: str, usage: Usage, *, caching: bool = False) -> float | None:
        """What so many tokens cost at most. `caching`: whether input may be written to a cache, which costs more."""
        found = self.cost(provider, model, Usage(usage.input, usage.output))
        if not found or not caching:
            return found
        return max(found, self.cost(provider, model, Usage(usage.input, usage.output), cache_writes=usage.input) or 0.0)

    def window(self, provider: str, model: str) -> int | None:
        """The model's context window in tokens, where the list knows it."""
        info = self._info(provider, model)
        return info.context_window if info else None

    def _info(self, provider: str, model: str) -> ModelInfo | None:
        if provider in _FREE:
            return None
        if (provider, model) not in self._known:
            self._known[provider, model] = _lookup(_VENDORS.get(provider, provider), model)
        found: ModelInfo | None = self._known[provider, model]
        return found

    def _listed(self, provider: str, model: str, usage: Usage, cached: int, written: int) -> float | None:
        info = self._info(provider, model)
        if info is None:
            return None
        if (provider, model) not in self._rates:
            self._rates[provider, model] = _rates_of(info)
        rates = self._rates[provider, model]
        found = rates.cost(usage, cached, written) if rates is not None else None
        if found is not None:
            return found
        import genai_prices

        caches = {name: count for name, count in zip(_CACHES, (cached, written), strict=True) if count}
        counts = genai_prices.Usage(input_tokens=usage.input, output_tokens=usage.output, **caches)
        try:
            listed = genai_prices.calc_price(counts, model, provider_id=_VENDORS.get(provider, provider))
        except (ValueError, LookupError):
            return None
        return float(listed.total_price)


def _rates_of(info: ModelInfo) -> _Rates | None:
    """A model's prices as rates; None where they go by the hour, or by more than tokens."""
    from genai_prices import Usage as Counts
    from genai_prices.types import ModelPrice, TieredPrices

    prices = info.prices
    if not isinstance(prices, ModelPrice):
        return None

    def of(**counts: int) -> Decimal:
        return prices.calc_price(Counts(**counts))["total_price"] / 1000

    try:
        if of(input_tokens=0, output_tokens=0):
            return None
        plain, out = of(input_tokens=1000, output_tokens=0), of(input_tokens=0, output_tokens=1000)
        cached, written = (of(input_tokens=1000, output_tokens=0, **{name: 1000}) - plain for name in _CACHES)
    except (ValueError, LookupError):
        return None
    starts = [tier.start for price in vars(prices).values() if isinstance(price, TieredPrices) for tier in price.tiers]
    return _Rates(plain, out, cached, written, min(starts, default=None))


def _lookup(vendor: str, model: str) -> ModelInfo | None:
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, vendor, None)[1]
    except LookupError:
        return None
