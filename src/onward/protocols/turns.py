"""What a request's messages are in each wire format: who speaks, which are tool results, what an answer adds.

A request holds its conversation so far. Each format says so in its own way; here are the questions that matching asks
of it, answered once for each. Values are passed through as they are: nothing is changed, a changed one is a new one.

    messages(body)      the conversation: Chat's and Messages' `messages`, Responses' `input`, Gemini's `contents`
    is_assistant(m)     whether the model said it. In Responses a turn is several items: reasoning, text, calls
    results(m)          call ids of the tool results in it
    skeleton(m)         the same without what the tools answered: which calls are answered stays, and all other text
    words(body, ms)     what a request asks for itself, without what is said around it: the system prompt, what tools do
    in_order(messages)  parallel tool results in the order of their calls: agents send them as they come in
    turn(response)      the assistant turn that an answer adds to the next request
    said(turn)          its text and calls as agents cannot change them: they drop thinking, reorder keys, trim

A body that is not in its format has no messages; nothing here raises for what an agent sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from onward.protocols.wire import arguments_of

__all__ = ["FORMS", "Form", "Said"]

_AROUND = frozenset({"system", "instructions", "systemInstruction", "system_instruction", "tools", "functions"})
_PREAMBLE = ("system", "developer")

Json = Mapping[str, Any]
Ranks = Mapping[str, int]
"""The place of each call among all calls of a conversation, by its id."""


class Said(NamedTuple):
    """What an assistant turn comes to. A call is its tool's name and its arguments; ids are the format's own matter."""

    text: str
    calls: tuple[tuple[str, Any], ...]

    def __bool__(self) -> bool:
        return bool(self.text or self.calls)


def _objects(value: Any) -> list[Json]:
    """The objects in a list; nothing where it is no list, or where anything else is in it."""
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    return []


def _text(content: Any, *kinds: str) -> str:
    """The text in a content: itself, or its parts of these kinds."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in _objects(content) if part.get("type") in kinds)


def _names(tool: Json) -> list[str]:
    """What a tool is called; Gemini declares several in one."""
    declared = _objects(tool.get("functionDeclarations"))
    inner = tool.get("function")
    found = declared or [inner if isinstance(inner, dict) else tool]
    return [str(one.get("name") or one.get("type") or "") for one in found]


def _sorted_runs(items: Sequence[Any], id_of: Callable[[Any], str | None], ranks: Callable[[], Ranks]) -> Sequence[Any]:
    """The items, those with an id in the order of their calls within each run of neighbours; those without a call after
    them, by id. The very same items where they are in order."""
    ids = list(map(id_of, items))
    made = list(items)
    stop = len(ids)
    changed = False
    while stop:
        start = stop - 1
        while start and ids[start] is not None and ids[start - 1] is not None:
            start -= 1
        if stop - start > 1:
            rank = ranks()
            order = sorted(range(start, stop), key=lambda at: (rank.get(ids[at] or "", len(rank)), ids[at] or ""))
            made[start:stop] = [items[at] for at in order]
            changed = changed or order != list(range(start, stop))
        stop = start
    return made if changed else items


class Form:
    """One wire format. `history` is the field that holds the conversation."""

    history = "messages"

    def messages(self, body: Json) -> Sequence[Json]:
        """The conversation, oldest first."""
        return _objects(body.get(self.history))

    def rest(self, body: Json) -> dict[str, Any]:
        """The body without the conversation (with it, where it is not in the format and so is none)."""
        return {name: value for name, value in body.items() if name != self.history or not self.messages(body)}

    def model(self, body: Json) -> str:
        """The model's name, where the body says it (Gemini's path does)."""
        return str(body.get("model") or "")

    def tools(self, body: Json) -> Any:
        """The tools on offer, as they are."""
        return body.get("tools") or []

    def words(self, rest: Json, messages: Sequence[Json]) -> Json | None:
        """A request as far as it is the task's and not the agent's: what is around it left out, but for the names of
        the tools. None where it offers no tools or says nothing."""
        names = sorted(name for tool in _objects(self.tools(rest)) for name in _names(tool))
        said = [message for message in messages if message.get("role") not in _PREAMBLE]
        kept = {name: value for name, value in rest.items() if name not in _AROUND}
        return {"body": kept, "tools": names, "messages": said} if names and said else None

    def role(self, message: Json) -> str:
        """Who speaks: `assistant`, or the role as the format calls it."""
        return "assistant" if self.is_assistant(message) else str(message.get("role") or message.get("type") or "")

    def is_assistant(self, message: Json) -> bool:
        """Whether the model said it."""
        return message.get("role") == "assistant"

    def runs(self, messages: Sequence[Json]) -> list[tuple[int, int]]:
        """The assistant turns, as half-open ranges of positions."""
        found: list[tuple[int, int]] = []
        for at, message in enumerate(messages):
            if self.is_assistant(message):
                if found and found[-1][1] == at:
                    found[-1] = (found[-1][0], at + 1)
                else:
                    found.append((at, at + 1))
        return found

    def results(self, message: Json) -> tuple[str, ...]:
        """Call ids of the tool results in a message."""
        raise NotImplementedError

    def skeleton(self, message: Json) -> Json:
        """The message without what tools answered. The very message where there is nothing of that."""
        raise NotImplementedError

    def in_order(self, messages: Sequence[Json]) -> Sequence[Json]:
        """The messages with parallel tool results in the order of their calls. The very same where they are."""
        return _sorted_runs(messages, self._id, self._ranks(messages))

    def _ranks(self, messages: Sequence[Json]) -> Callable[[], Ranks]:
        """The calls' order, looked up once, and only where it is asked for."""

        @cache
        def ranks() -> Ranks:
            found: dict[str, int] = {}
            for message in messages:
                if self.is_assistant(message):
                    for one in self._call_ids_in(message):
                        found.setdefault(one, len(found))
            return found

        return ranks

    def _each_in_order(self, messages: Sequence[Json], field: str) -> Sequence[Json]:
        ranks = self._ranks(messages)
        made: list[Json] = []
        changed = False
        for message in messages:
            items = message.get(field)
            if isinstance(items, list) and len(items) > 1 and len(self.results(message)) > 1:
                ordered = _sorted_runs(items, self._id, ranks)
                changed = changed or ordered is not items
                message = message if ordered is items else {**message, field: ordered}
            made.append(message)
        return made if changed else messages

    def _id(self, item: Any) -> str | None:
        """The call id of a tool result; None for anything else."""
        raise NotImplementedError

    def _call_ids_in(self, message: Json) -> Iterator[str]:
        raise NotImplementedError

    def turn(self, response: Json) -> list[Json]:
        """The assistant turn that a whole response adds, as messages of a request. Nothing where it is an error."""
        raise NotImplementedError

    def said(self, turn: Sequence[Json]) -> Said:
        """What these assistant messages come to."""
        text = "".join(self._text_in(message) for message in turn).strip()
        return Said(text, tuple(call for message in turn for call in self._calls_in(message)))

    def _text_in(self, message: Json) -> str:
        raise NotImplementedError

    def _calls_in(self, message: Json) -> Iterator[tuple[str, Any]]:
        raise NotImplementedError


class _Chat(Form):
    """A tool result is a message of its own, of role `tool` (`function` in old clients)."""

    def tools(self, body: Json) -> Any:
        return body.get("tools") or body.get("functions") or []

    def _id(self, message: Json) -> str | None:
        if message.get("role") not in ("tool", "function"):
            return None
        return str(message.get("tool_call_id") or message.get("name") or "")

    def results(self, message: Json) -> tuple[str, ...]:
        found = self._id(message)
        return () if found is None else (found,)

    def skeleton(self, message: Json) -> Json:
        found = self._id(message)
        return message if found is None else {"role": message["role"], "tool_call_id": found}

    def turn(self, response: Json) -> list[Json]:
        choice = next(iter(_objects(response.get("choices"))), {})
        message = choice.get("message")
        if not isinstance(message, dict):
            return []
        return [{"role": "assistant", **{name: value for name, value in message.items() if value is not None}}]

    def _text_in(self, message: Json) -> str:
        return _text(message.get("content"), "text")

    def _calls_in(self, message: Json) -> Iterator[tuple[str, Any]]:
        for call in _objects(message.get("tool_calls")):
            inner = call.get("function") or call.get("custom") or {}
            yield str(inner.get("name", "")), arguments_of(inner.get("arguments", inner.get("input")))

    def _call_ids_in(self, message: Json) -> Iterator[str]:
        for call in _objects(message.get("tool_calls")):
            yield str(call.get("id") or "")


class _Responses(Form):
    """Everything is an item. What the model made is a message of its role, reasoning, or a call of any sort."""

    history = "input"

    def messages(self, body: Json) -> Sequence[Json]:
        given = body.get("input")
        return [{"role": "user", "content": given}] if isinstance(given, str) else _objects(given)

    def is_assistant(self, message: Json) -> bool:
        kind = str(message.get("type") or "message")
        if kind == "message":
            return message.get("role") == "assistant"
        return kind.endswith("_call") or kind in ("reasoning", "item_reference", "compaction")

    def _id(self, message: Json) -> str | None:
        found = str(message.get("type") or "").endswith("_output")
        return str(message.get("call_id") or message.get("id") or "") if found else None

    def results(self, message: Json) -> tuple[str, ...]:
        found = self._id(message)
        return () if found is None else (found,)

    def skeleton(self, message: Json) -> Json:
        found = self._id(message)
        return message if found is None else {"type": message["type"], "call_id": found}

    def turn(self, response: Json) -> list[Json]:
        return list(_objects(response.get("output")))

    def _text_in(self, message: Json) -> str:
        return _text(message.get("content"), "output_text") if message.get("role") == "assistant" else ""

    def _calls_in(self, message: Json) -> Iterator[tuple[str, Any]]:
        if "call_id" in message:
            given = message.get("arguments", message.get("input", message.get("action")))
            yield str(message.get("name") or message.get("type")), arguments_of(given)

    def _call_ids_in(self, message: Json) -> Iterator[str]:
        if str(message.get("type") or "").endswith("_call"):
            yield str(message.get("call_id") or message.get("id") or "")


class _Messages(Form):
    """Tool results are blocks in a user message, beside others."""

    def _id(self, block: Any) -> str | None:
        if not isinstance(block, dict) or block.get("type") != "tool_result":
            return None
        return str(block.get("tool_use_id") or "")

    def results(self, message: Json) -> tuple[str, ...]:
        found = (self._id(block) for block in _objects(message.get("content")))
        return tuple(one for one in found if one is not None)

    def skeleton(self, message: Json) -> Json:
        if not self.results(message):
            return message
        blocks = [
            block if self._id(block) is None else {"type": "tool_result", "tool_use_id": self._id(block)}
            for block in message["content"]
        ]
        return {**message, "content": blocks}

    def in_order(self, messages: Sequence[Json]) -> Sequence[Json]:
        return self._each_in_order(messages, "content")

    def turn(self, response: Json) -> list[Json]:
        blocks = _objects(response.get("content"))
        return [{"role": "assistant", "content": blocks}] if response.get("type") != "error" and blocks else []

    def _text_in(self, message: Json) -> str:
        return _text(message.get("content"), "text")

    def _calls_in(self, message: Json) -> Iterator[tuple[str, Any]]:
        for block in _objects(message.get("content")):
            if block.get("type") == "tool_use":
                yield str(block.get("name", "")), arguments_of(block.get("input"))

    def _call_ids_in(self, message: Json) -> Iterator[str]:
        for block in _objects(message.get("content")):
            if block.get("type") == "tool_use":
                yield str(block.get("id") or "")


class _Gemini(Form):
    """The model's role is `model`; tool results are parts. A call's id is optional, its name is not."""

    history = "contents"

    def is_assistant(self, message: Json) -> bool:
        return message.get("role") == "model"

    def _id(self, part: Any) -> str | None:
        given = part.get("functionResponse") if isinstance(part, dict) else None
        return str(given.get("id") or given.get("name") or "") if isinstance(given, dict) else None

    def results(self, message: Json) -> tuple[str, ...]:
        found = (self._id(part) for part in _objects(message.get("parts")))
        return tuple(one for one in found if one is not None)

    def skeleton(self, message: Json) -> Json:
        if not self.results(message):
            return message
        parts = [
            part
            if self._id(part) is None
            else {"functionResponse": {name: part["functionResponse"].get(name) for name in ("id", "name")}}
            for part in message["parts"]
        ]
        return {**message, "parts": parts}

    def in_order(self, messages: Sequence[Json]) -> Sequence[Json]:
        return self._each_in_order(messages, "parts")

    def turn(self, response: Json) -> list[Json]:
        candidate = next(iter(_objects(response.get("candidates"))), {})
        content = candidate.get("content")
        return [{"role": "model", **content}] if isinstance(content, dict) and content.get("parts") else []

    def _text_in(self, message: Json) -> str:
        parts = _objects(message.get("parts"))
        return "".join(str(part.get("text") or "") for part in parts if not part.get("thought"))

    def _calls_in(self, message: Json) -> Iterator[tuple[str, Any]]:
        for part in _objects(message.get("parts")):
            call = part.get("functionCall")
            if isinstance(call, dict):
                yield str(call.get("name", "")), arguments_of(call.get("args") or {})

    def _call_ids_in(self, message: Json) -> Iterator[str]:
        for part in _objects(message.get("parts")):
            call = part.get("functionCall")
            if isinstance(call, dict):
                yield str(call.get("id") or call.get("name") or "")


FORMS: Mapping[str, Form] = {"chat": _Chat(), "responses": _Responses(), "messages": _Messages(), "gemini": _Gemini()}
"""The wire formats, by the names that `protocols` gives them."""
