"""The gateway as bodies see it: `prepare` makes a call, `send` sends it once.

gateway = Gateway(with_keys(PROVIDERS, keys), models={"echo": lambda messages, params: messages[-1]["content"]})
answer = await gateway.send(gateway.prepare("python/echo", [{"role": "user", "content": "hi"}], {}))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NoReturn, Protocol

from onward.ask import Answer, Call, Message, Usage
from onward.errors import CallTransient, UsageError
from onward.gateway.bounds import input_bound
from onward.gateway.faults import failure, reported
from onward.gateway.inprocess import Function, PythonModel, ask_python
from onward.gateway.local import LocalModel
from onward.gateway.prices import Prices
from onward.gateway.providers import PROVIDERS, Provider, unknown_provider
from onward.gateway.upstream import Reply, Upstream
from onward.protocols import PROTOCOLS, Malformed, Reported, Wire
from onward.protocols.sse import Frames, event_of
from onward.protocols.wire import compact, load, whole

__all__ = ["Gateway", "Served"]


class Served(Protocol):
    """A model server that is started when it is first asked (see `local`)."""

    window: int
    """Most tokens of a request and its answer together."""

    def check(self, model: str) -> object:
        """Raises UsageError where it does not have this model."""
        ...

    def turn(self, model: str) -> AbstractAsyncContextManager[str]:
        """Starts it if it does not run, waits for its slot, gives its base URL. Raises UsageError, CallTransient."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class Gateway:
    """Implements `onward.ask.Ask`.

    `providers`: those that may be used, by name (default: the known ones, without keys). `models`: functions for the
    provider `python`. `local`: the server behind the provider `local`, unless that provider was given an address of
    its own. `upstream`: the connections. One gateway serves one event loop.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider] = PROVIDERS,
        *,
        models: Mapping[str, Function | PythonModel] | None = None,
        prices: Prices | None = None,
        local: Served | None = None,
        upstream: Upstream | None = None,
    ) -> None:
        self._providers = dict(providers)
        self._models: dict[str, PythonModel] = {}
        self._prices = prices or Prices()
        self._local = local or LocalModel()
        self._upstream = upstream or Upstream()
        for name, model in (models or {}).items():
            self.register(name, model)

    def register(self, name: str, model: Function | PythonModel) -> None:
        """Make a function answer as `python/NAME`."""
        self._models[name] = model if isinstance(model, PythonModel) else PythonModel(model)

    def prepare(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Call:
        """The request that asks `model` (`provider/name`) this. Pure. Raises UsageError: an unknown provider or
        function, a missing key, what the wire format cannot say."""
        vendor, slash, name = model.partition("/")
        if vendor == "python" and slash:
            return self._prepare_python(name, messages, params)
        provider, name = self._named(model)
        provider.check()
        wire = PROTOCOLS[provider.protocol]
        body = wire.body(name, messages, params)
        for field, other in provider.renames.items():
            if field in body:
                body[other] = body.pop(field)
        tokens, usd = self._bounds(provider, wire, name, body, messages)
        return Call(provider.name, provider.protocol, name, body, tokens, usd)

    def _named(self, model: str) -> tuple[Provider, str]:
        """Who answers `provider/name`, and what the model is called there."""
        vendor, slash, name = model.partition("/")
        if not slash or not name:
            raise UsageError(f"A model is named provider/name, such as openai/gpt-4o-mini; {model!r} is not")
        provider = self._providers.get(vendor)
        if provider is None:
            raise unknown_provider(vendor, [*self._providers, "python"])
        if self._is_ours(provider):
            self._local.check(name)
        return provider, name

    @asynccontextmanager
    async def reach(self, model: str) -> AsyncIterator[tuple[Provider, str]]:
        """Who answers `provider/name`, with an address that answers while this is open, and its name there. Raises
        UsageError. (A key that is missing is missed when a call is to leave: what is served from a record needs none.)
        """
        provider, name = self._named(model)
        if not self._is_ours(provider):
            yield provider, name
            return
        async with self._local.turn(name) as url:
            yield replace(provider, base_url=url), name

    def _prepare_python(self, name: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Call:
        if name not in self._models:
            near = get_close_matches(name, list(self._models), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"No Python model {name!r}.{hint} There are: {', '.join(sorted(self._models)) or 'none'}")
        body = {"messages": [m if type(m) is dict else dict(m) for m in messages], "params": dict(params)}
        tokens: int | None = 0
        usd: float | None = 0.0
        if self._prices.own("python", name):
            most = params.get("max_tokens")
            used = Usage(input_bound(body, len(_encoded(body)), messages), int(most or 0))
            tokens, usd = (used.total, self._prices.bound("python", name, used)) if most else (None, None)
        return Call("python", "python", name, body, tokens, usd)

    def _bounds(
        self, provider: Provider, wire: Wire, model: str, body: Mapping[str, Any], messages: Sequence[Message]
    ) -> tuple[int | None, float | None]:
        text = _encoded(body)
        most_in, most_out = input_bound(body, len(text), messages), wire.largest_output(body)
        if self._is_ours(provider):
            most = self._local.window
            return min(most, most_in + (most if most_out is None else most_out)), self._usd(provider, model, most, most)
        window = self._prices.window(provider.name, model)
        if window:
            most_in = min(most_in, window)
        if most_out is None:
            return None, 0.0 if self._usd(provider, model, 1, 1) == 0 else None
        caching = b'"cache_control"' in text
        used = Usage(most_in, most_out)
        return used.total, self._prices.bound(provider.name, model, used, caching=caching)

    def _usd(self, provider: Provider, model: str, most_in: int, most_out: int) -> float | None:
        return self._prices.bound(provider.name, model, Usage(most_in, most_out))

    async def send(self, call: Call, on_text: Callable[[str], None] | None = None) -> Answer:
        """Send it once; streams when `on_text` is given, with the same answer. Raises CallError (see `faults`)."""
        if call.protocol == "python":
            return await self._send_python(call, on_text)
        provider = self._providers[call.provider]
        if not self._is_ours(provider):
            return await self._exchange(provider, call, on_text)
        async with self._local.turn(call.model) as url:
            # Always streamed: a small machine may need minutes for a long answer, and its bytes tell that it works.
            return await self._exchange(replace(provider, base_url=url), call, on_text or _unheard)

    async def _exchange(self, provider: Provider, call: Call, on_text: Callable[[str], None] | None) -> Answer:
        wire, stream = PROTOCOLS[call.protocol], on_text is not None
        payload = _encoded(wire.delivered(call.body, stream))
        headers = wire.headers(provider.key)
        try:
            async with self._upstream.exchange(provider, wire.path(call.model, stream), payload, headers) as reply:
                if not 200 <= reply.status < 300:
                    raise failure(provider, call.model, reply.status, reply.headers, await reply.read())
                if on_text and "event-stream" in reply.headers.get("content-type", ""):
                    response = await _assembled(wire, reply, on_text)
                    answer = wire.parse(response)
                else:
                    raw = (await reply.read()).decode("utf-8", "strict")
                    answer = wire.parse(whole(load(raw), raw))
                    if on_text and answer.text:
                        on_text(answer.text)
        except Reported as said:
            raise reported(provider, call.model, said.error) from None
        except (Malformed, UnicodeDecodeError) as error:
            _not_in_format(provider, error)
        usd = self._prices.cost(call.provider, call.model, answer.usage, cache_writes=_cache_writes(answer))
        return replace(answer, usd=usd)

    async def _send_python(self, call: Call, on_text: Callable[[str], None] | None) -> Answer:
        answer = await ask_python(call.model, self._models[call.model], call.body)
        if on_text and answer.text:
            on_text(answer.text)
        if answer.usd is None or self._prices.given:
            price = self._prices.cost("python", call.model, answer.usage)
            answer = replace(answer, usd=answer.usd or price)
        return answer

    def _is_ours(self, provider: Provider) -> bool:
        return provider.name == "local" and provider.base_url == PROVIDERS["local"].base_url

    async def close(self) -> None:
        """Close connections, and the local server if it was started."""
        await self._upstream.close()
        await self._local.stop()


def _unheard(text: str) -> None:
    """Streamed for the sake of its bytes."""


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return compact(body).encode()
    except (ValueError, TypeError) as error:
        raise UsageError(f"the request cannot be sent as JSON: {error}") from None


def _not_in_format(provider: Provider, error: ValueError) -> NoReturn:
    said = "the answer is not text" if isinstance(error, UnicodeDecodeError) else str(error)
    shown = provider.without_secrets(said[:300])
    raise CallTransient(shown, provider=provider.name, status=200, sent_whole=True) from None


async def _events(reply: Reply) -> AsyncIterator[Any]:
    frames = Frames()
    async for chunk in reply.chunks:
        for frame in frames.feed(chunk):
            event = event_of(frame)
            if event is not None:
                yield event


async def _assembled(wire: Wire, reply: Reply, on_text: Callable[[str], None]) -> dict[str, Any]:
    """The response that a stream adds up to. Raises Malformed where it ends before its terminal event."""
    assembly, odd = wire.assembly(), False
    async for event in _events(reply):
        text = assembly.feed(event)
        odd = odd or "\\ud" in event.data or "\\uD" in event.data
        if text:
            on_text(text.encode("utf-8", "replace").decode() if odd else text)
    if not assembly.done:
        raise Malformed("the stream was cut: it ended before its terminal event")
    found: dict[str, Any] = whole(assembly.response(), "\\ud" if odd else "")
    return found


def _cache_writes(answer: Answer) -> int:
    """Input tokens written to the provider's cache: only Anthropic's format counts them apart, and dearer."""
    used = answer.response.get("usage")
    return int(used.get("cache_creation_input_tokens") or 0) if isinstance(used, Mapping) else 0
