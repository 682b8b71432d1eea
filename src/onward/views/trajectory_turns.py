"""One exchange of an episode, read: what was new in its request, what the model said, and how the agent came by it.

Pure over entries: the journal is read in `trajectory`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from math import inf
from typing import Any, Literal

from onward.entry import Entry
from onward.episode import Told
from onward.protocols.pieces import Piece, flat, pieces
from onward.protocols.recorded import response_of
from onward.protocols.turns import FORMS
from onward.views.trajectory_lanes import Spoken, reply_of

__all__ = ["Calls", "Heard", "Mark", "Tokens", "ToolCall", "Try", "Turn", "answered", "heard", "passed"]

Json = Mapping[str, Any]
Mark = Literal["live", "recorded", "served", "in doubt", "failed", "error", "timeout"]
"""`live`: paid in the newest attempt. `recorded`: in an earlier one, or in another run, and not asked for since.
`served`: recorded, and given to the agent again. The others have no answer."""

_EXIT = re.compile(
    r"(?:exit(?:ed)?(?: with)?[ _-]?(?:code|status)|return_?code)[^\w\n-]{1,4}(-?\d{1,3})\b", re.IGNORECASE
)
_GUIDING = ("system", "developer")
_ABOVE = ("system", "instructions", "systemInstruction", "system_instruction")
_LOOKED_AT = 1000
"""Characters at either end of a tool's answer in which its exit code is looked for."""


@dataclass(slots=True)
class Calls:
    """What the journal holds of one exchange, in order."""

    name: str
    """Relative to the step."""
    intents: list[Entry] = field(default_factory=list)
    results: list[Entry] = field(default_factory=list)
    served: list[Entry] = field(default_factory=list)

    @property
    def value(self) -> Mapping[str, Any]:
        """What was recorded of the answer; nothing where there is none."""
        found = self.results[-1].value if self.results else None
        return found if isinstance(found, Mapping) else {}


@dataclass(slots=True)
class Try:
    """An attempt at an exchange that brought no answer: its outcome, or `in doubt`."""

    attempt: int
    outcome: str
    at: str
    reason: str = ""
    status: int | None = None
    usd: float | None = None


@dataclass(slots=True)
class ToolCall:
    """A tool that the model called, and what it was told. `result` is None where no request told it."""

    id: str
    tool: str
    arguments: Any
    result: str | None = None
    failed: bool = False
    exit_code: int | None = None

    def take(self, found: Piece) -> None:
        """Take in what the tool answered."""
        self.result, self.failed = found.text, found.failed
        code = _EXIT.search(found.text[:_LOOKED_AT]) or _EXIT.search(found.text[-_LOOKED_AT:])
        self.exit_code = int(code[1]) if code else None


def answered(calls: Sequence[ToolCall], results: Sequence[Piece]) -> None:
    """Each call takes its result: by id, equal ids in order."""
    waiting = list(results)
    for call in calls:
        found = next((one for one in waiting if one.call == call.id), None)
        if found is not None:
            waiting.remove(found)
            call.take(found)


@dataclass(slots=True)
class Tokens:
    """As the provider counted them; `estimated` where it did not. `input` includes `cached`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    estimated: bool = False


@dataclass(slots=True)
class Turn:
    """One exchange, as a turn of its lane."""

    exchange: str
    mark: Mark
    number: int = 0
    """In its lane, from 1."""
    model: str = ""
    protocol: str = ""
    at: str = ""
    seconds: float | None = None
    level: str = ""
    """How a served one was matched: `exact`, `prefix`, `anchored`, `replies`."""
    difference: str = ""
    """Where the live request first differed from the recorded one."""
    served: int = 0
    """How often its answer was given again: to later attempts, or to a client that had not seen its end."""
    origin: Mapping[str, Any] | None = None
    system: str = ""
    told: list[str] = field(default_factory=list)
    """What is new in the request and no tool's answer."""
    thinking: str | None = None
    """None where the model did not think; empty where it did and did not say what."""
    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    status: int | None = None
    refused: str = ""
    """What came instead of an answer: the provider's refusal, or what is in no format."""
    tokens: Tokens = field(default_factory=Tokens)
    usd: float | None = None
    tries: list[Try] = field(default_factory=list)


@dataclass(slots=True)
class Heard:
    """A turn with what places it among the others."""

    turn: Turn
    spoken: Spoken
    results: list[Piece]
    """What its request tells of tools since the last assistant turn."""
    had: float = inf
    """Where in the journal the newest attempt had its answer; behind all else where it did without."""


def heard(found: Calls, began: int) -> Heard:
    """An exchange, read. `began`: the seq at which the newest attempt of the episode began."""
    turn, spoken = _stands(found, began), Spoken()
    results = _request(found, turn, spoken)
    _answer(found.value, turn, spoken)
    return Heard(turn, spoken, results, _had(found, turn, began))


def passed(told: Told) -> Heard:
    """An exchange as it passes, read."""
    sent = Entry("intent", told.key, "", {"protocol": told.protocol, "request": told.request})
    came = Entry("result", told.key, "", {"value": told.value}, "ok")
    found = heard(Calls(told.key.names[-1], [sent], [came]), 0)
    if told.level:
        found.turn.mark, found.turn.level = "served", told.level
    return found


def _stands(found: Calls, began: int) -> Turn:
    """How the agent came by it, when, and for how much."""
    result = found.results[-1] if found.results else None
    attempt = max(entry.attempt for entry in (*found.intents, *found.results))
    answered = result is not None and result.attempt == attempt and result.outcome == "ok"
    turn = Turn(found.name, "in doubt", tries=_tries(found))
    if found.intents:
        sent = found.intents[-1]
        turn.at, turn.protocol = sent.at, str(sent.data.get("protocol") or "")
        turn.model = "/".join(str(sent.data[part]) for part in ("provider", "model") if sent.data.get(part))
    if result is not None and result.attempt == attempt:
        turn.seconds = _between(turn.at, result.at)
        turn.at, turn.mark, turn.usd = turn.at or result.at, str(result.outcome), result.usd  # type: ignore[assignment]
        turn.origin = result.data.get("origin")
    if answered and result is not None:
        earlier = turn.origin is not None or result.seq < began
        again = [entry for entry in found.served if entry.seq >= began] if earlier else []
        turn.mark = "served" if again else "recorded" if earlier else "live"
        turn.served = len(found.served)
        if again:
            turn.level = str(again[-1].data.get("level") or "")
            turn.difference = str(again[-1].data.get("difference") or "")
    return turn


def _had(found: Calls, turn: Turn, began: int) -> float:
    if turn.mark == "live":
        return found.results[-1].seq
    return next((entry.seq for entry in found.served if entry.seq >= began), inf) if turn.mark == "served" else inf


def _tries(found: Calls) -> list[Try]:
    """The attempts without an answer, the newest one too if it is in doubt or failed."""
    ended = {entry.attempt: entry for entry in found.results}
    tries = []
    for intent in found.intents:
        result = ended.get(intent.attempt)
        if result is None:
            tries.append(Try(intent.attempt, "in doubt", intent.at, usd=intent.usd))
        elif result.outcome != "ok":
            error = result.data.get("error") or {}
            status, reason = error.get("status"), str(error.get("reason") or "")
            tries.append(Try(intent.attempt, str(result.outcome), intent.at, reason, status, result.usd))
    return tries


def _between(started: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return None


def _format(turn: Turn) -> str:
    """The wire format; models that run in this process are asked in Chat's."""
    return turn.protocol if turn.protocol in FORMS else "chat"


def _pieces(protocol: str, messages: Sequence[Json]) -> list[Piece]:
    return [one for message in messages for one in pieces(protocol, message)]


def _texts(said: Sequence[Piece]) -> list[str]:
    """What is said in words; of what is none, its name."""
    return [one.text if one.kind == "text" else f"[{one.text}]" for one in said if one.kind in ("text", "other")]


def _request(found: Calls, turn: Turn, spoken: Spoken) -> list[Piece]:
    """Read the request into turn and place. Returns what it tells of tools."""
    body = next((entry.data["request"] for entry in reversed(found.intents) if "request" in entry.data), None)
    if not isinstance(body, Mapping):
        return []
    protocol = _format(turn)
    form = FORMS[protocol]
    every = form.messages(body)
    guiding = [one for one in every if one.get("role") in _GUIDING]
    above = [text for text in (_above(body.get(name)) for name in _ABOVE) if text]
    turn.system = "\n\n".join([*above, *_texts(_pieces(protocol, guiding))])
    messages = [one for one in every if one.get("role") not in _GUIDING]
    runs = form.runs(messages)
    replies = (reply_of(_pieces(protocol, messages[start:stop])) for start, stop in runs)
    spoken.messages, spoken.replies = messages, tuple(reply for reply in replies if reply)
    spoken.previous = str(body.get("previous_response_id") or "")
    spoken.opening = tuple(_texts(_pieces(protocol, messages[: runs[0][0] if runs else None])))
    said = _pieces(protocol, messages[runs[-1][1] if runs else 0 :])
    turn.told = _texts(said)
    return [one for one in said if one.kind == "result"]


def _above(value: Any) -> str:
    """A system prompt that stands beside the conversation."""
    return flat(value["parts"] if isinstance(value, Mapping) and "parts" in value else value)


def _answer(value: Json, turn: Turn, spoken: Spoken) -> None:
    """Read the answer into turn and place."""
    if not value:
        return
    turn.status = value.get("status")
    said, spoken.id = _said(_format(turn), value)
    if not said:
        turn.refused = _raw(value)
    thoughts = [one.text for one in said if one.kind == "thinking"]
    turn.thinking = "\n".join(text for text in thoughts if text) if thoughts else None
    turn.text = "".join(_texts(said))
    turn.calls = [ToolCall(one.call, one.tool, one.arguments) for one in said if one.kind == "call"]
    answered(turn.calls, [one for one in said if one.kind == "result"])  # tools that the provider itself runs
    spoken.reply = reply_of(said)
    used = value.get("usage")
    if isinstance(used, Mapping):
        turn.tokens = Tokens(**{item.name: used[item.name] for item in fields(Tokens) if item.name in used})


def _said(protocol: str, value: Json) -> tuple[list[Piece], str]:
    """What the model said, and the answer's id. Calls that we made ourselves are recorded with text and calls, those of
    agents as they came."""
    own = "text" in value and "status" not in value
    response = value.get("response") or {} if own else response_of(protocol, value) if "status" in value else {}
    said = _pieces(protocol, FORMS[protocol].turn(response))
    if own and not said:
        calls = value.get("tool_calls") or ()
        said = [Piece("text", str(value["text"]))]
        said += [Piece("call", "", str(one.get("id")), str(one.get("name")), one.get("arguments")) for one in calls]
    return said, str(response.get("id") or response.get("responseId") or "")


def _raw(value: Json) -> str:
    """The body as it came."""
    return str(value["body"]) if "body" in value else "".join(str(text) for _, text in value.get("frames") or ())
