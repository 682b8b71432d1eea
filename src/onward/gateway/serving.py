"""What a trial recorded before, as the match wants it and as an agent is given it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from onward.context import Context
from onward.entry import Entry, unpack
from onward.fingerprint import canonical
from onward.gateway.exchanges import Exchange, Recorded, Request, request_of
from onward.gateway.flights import Head
from onward.gateway.normalisers import Rules, allowing
from onward.protocols import PROTOCOLS
from onward.protocols.recorded import assembled, response_of
from onward.protocols.turns import FORMS
from onward.protocols.wire import compact, load

__all__ = ["PREFIX", "Before", "Beside", "answer_of", "before", "exchange_of", "target_of", "turn_of"]

PREFIX = "llm:"
"""What the names of exchanges begin with."""
_EVENTS = "text/event-stream"
_TOOLS = 8
"""Sets of tools of one trial that are remembered: an agent's, and its sub-agents'."""


class Before(NamedTuple):
    """What earlier attempts of a step left."""

    recorded: Recorded
    ends: int
    """The last counter in the order of starts and ends."""
    rules: Rules
    """By which live requests are compared with them."""


def target_of(protocol: str, model: str) -> str:
    """What a request's path says and its body does not."""
    return model if protocol == "gemini" else ""


def before(
    context: Context, rules: Rules, live: Mapping[str, str] = MappingProxyType({}), *, exact_only: bool = False
) -> Before:
    """The exchanges below a step, in the order in which they were first sent; those without an answer are marked.

    `live`: {model that was asked for: model that was asked}, where they are not the same."""
    stated = {asked: name for name, asked in live.items()}
    recorder, history = context.world.recorder, context.history
    mine = f"{context.key}/{PREFIX}"
    fetch = cache(recorder.journal.blob)  # requests repeat their history: each message is read once for all of them
    intents: dict[str, Entry] = {}
    for seq, row in history.rows:
        if row.kind == "intent" and row.key.startswith(mine) and row.tokens is not None:
            intents.setdefault(row.key, unpack(row, fetch, seq=seq))
    rules = allowing(rules, (intent.data for intent in intents.values()))
    recorded, ends = Recorded(), 0
    for key, intent in intents.items():
        kept = history.newest(key)
        protocol, body, model = intent.data["protocol"], intent.data["request"], intent.data["model"]
        request = request_of(protocol, body, rules, target=target_of(protocol, stated.get(model, model)))
        if kept is None or kept.row.outcome != "ok":
            recorded.add(Exchange(key, request, complete=False))
            continue
        value = unpack(kept.row, fetch, seq=kept.seq).value
        ends = max(ends, *value.get("order", (0,)))
        recorded.add(exchange_of(key, request, value, exact_only=exact_only))
    return Before(recorded, ends, rules)


def exchange_of(key: str, request: Request, value: Mapping[str, Any], *, exact_only: bool = False) -> Exchange:
    """A recorded exchange as the match sees it."""
    turn = turn_of(request.protocol, response_of(request.protocol, value))
    return Exchange.of(key, request, turn, parent_changed=exact_only)


def turn_of(protocol: str, response: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The assistant turn that a whole response adds."""
    return FORMS[protocol].turn(response)


class Beside:
    """Notices when an answer has a tool start something that goes on beside the conversation: no record can bring back
    its timing. `names`: the arguments that say so (see `Rules`)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.started = False
        self._names = names
        self._known: dict[bytes, Sequence[str]] = {}

    def heed(self, protocol: str, kind: bytes, body: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Look at an exchange. `kind` tells its tools apart: only what takes such an argument can be told to use it."""
        if self.started or not self._names:
            return
        form, offered = FORMS[protocol], self._known.get(kind)
        if offered is None:  # a conversation's tools stay as they are, and are searched once
            tools = canonical(form.tools(body))
            offered = [name for name in self._names if name.encode() in tools]
            self._known = {kind: offered, **dict(islice(self._known.items(), _TOOLS - 1))}
        if offered:
            calls = form.said(turn_of(protocol, response_of(protocol, value))).calls
            told = [arguments for _, arguments in calls if isinstance(arguments, Mapping)]
            self.started = any(one.get(name) is True for one in told for name in offered)


def answer_of(protocol: str, value: Mapping[str, Any], stream: bool) -> tuple[Head, bytes]:
    """A recorded answer, as it was; in the other form, where a stream is asked for and none was recorded, or the
    other way round. A refusal is one body either way. Raises Malformed, Reported where it cannot be rendered."""
    status, headers = value["status"], dict(value["headers"])
    if 200 <= status < 300 and stream != ("frames" in value):
        if stream:
            headers["content-type"] = _EVENTS
            return Head(status, headers), b"".join(_rendered(protocol, value["body"]))
        headers["content-type"] = "application/json"
        return _bodied(status, headers, compact(assembled(protocol, value["frames"])).encode())
    if "body" in value:
        return _bodied(status, headers, value["body"].encode())
    return Head(status, headers), "".join(text for _, text in value["frames"]).encode()


def _bodied(status: int, headers: dict[str, str], body: bytes) -> tuple[Head, bytes]:
    return Head(status, {**headers, "content-length": str(len(body))}), body


def _rendered(protocol: str, body: str) -> Iterator[bytes]:
    return PROTOCOLS[protocol].frames(load(body))
