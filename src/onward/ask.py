"""What a model call is, as pure data, and the protocol by which calls leave. The gateway implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from onward.entry import Turns

__all__ = ["Answer", "Ask", "Call", "Message", "Reply", "Usage"]

Message = Mapping[str, Any]
"""`{"role": "system"|"user"|"assistant"|"tool", "content": text or parts}`, the common form of all protocols here."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them. `input` includes what it read from its cache (`cached`)."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Call:
    """One model request, ready to leave: pure data, made before anything is decided about sending it."""

    provider: str
    """Whose limits and key it uses: `openai`, `anthropic`, `google`, `local`, or a name from the experiment."""
    protocol: str
    """The wire format: `chat`, `responses`, `messages`, `gemini`, or `python` for an in-process model."""
    model: str
    """The model's own name, without the provider."""
    body: Mapping[str, Any]
    """The JSON body that is sent, without what only concerns delivery (streaming)."""
    tokens: int | None = None
    """Upper bound of tokens it can be billed: an estimate of the input, from its bytes, and its largest output."""
    usd: float | None = None
    """The same in USD at list price; None where price or largest output is unknown."""
    turns: Turns | None = field(default=None, repr=False, compare=False)
    """Of its conversation, where that is long, goes on from call to call, and is changed by nobody."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said. `response` is the provider's own JSON, whole."""

    text: str
    finish: str = "stop"
    """`stop`, `length`, `tool` (it asks for tools), or `refused`."""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    """`{"id", "name", "arguments"}` each, arguments as an object."""
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    """What it cost at list price; None where the price is unknown."""
    response: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The form in which it is journalled."""
        usage = self.usage
        form: dict[str, Any] = {"text": self.text, "finish": self.finish, "response": self.response}
        if self.tool_calls:
            form["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.usd is not None:
            form["usd"] = self.usd
        form["usage"] = {"input": usage.input, "output": usage.output}
        if usage.cached:
            form["usage"]["cached"] = usage.cached
        if usage.reasoning:
            form["usage"]["reasoning"] = usage.reasoning
        return form

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        """The inverse of `to_json`."""
        return cls(**{**value, "usage": Usage(**value.get("usage", {}))})


class Reply(NamedTuple):
    """What came back for a call, as the engine records it: any JSON value, and what it was billed."""

    value: Any
    usd: float | None = None
    tokens: int = 0


class Ask(Protocol):
    """How model calls leave. The gateway implements it; `onward.testing` and any callable model can stand in."""

    def prepare(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Call:
        """The request that asks `model` (`provider/name`) this. Pure. Raises UsageError for an unknown provider or a
        missing key. `params`: temperature, max_tokens, seed, stop, tools, response_format, and any other field of the
        wire format, which is passed through."""
        ...

    async def send(self, call: Call, on_text: Callable[[str], None] | None = None) -> Answer:
        """Send it once. Streams when `on_text` is given, with the same answer. Raises CallError (see `errors`)."""
        ...

    async def close(self) -> None:
        """Let go of connections and of what was started."""
        ...
