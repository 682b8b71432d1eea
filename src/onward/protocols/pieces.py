"""What a message says, in each wire format: text, thinking, calls of tools, and what these answered.

For whoever reads a conversation (`turns` is for whoever matches one): ids are kept, so that a call finds its result,
and everything that is no text is named. Nothing here raises for what is not in its format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from onward.protocols.wire import arguments_of, compact

__all__ = ["Piece", "flat", "pieces"]

Json = Mapping[str, Any]


class Piece(NamedTuple):
    """One thing that a message says."""

    kind: Literal["text", "thinking", "call", "result", "other"]
    text: str = ""
    """Of a result what the tool answered; of something `other` what it is (`image`)."""
    call: str = ""
    """The id that a call and its result share. Where a format has none, the tool's name."""
    tool: str = ""
    arguments: Any = None
    failed: bool = False
    """Whether a result says of itself that it is an error."""


def pieces(protocol: str, message: Json) -> list[Piece]:
    """What a message of a request, or of an assistant turn (see `turns`), says in this format."""
    return list(_READERS[protocol](message))


def flat(content: Any) -> str:
    """A content as text: itself, its parts' texts, JSON for anything else; images and files are named."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(flat(part) for part in content)
    if isinstance(content, dict):
        if isinstance(content.get("text"), str):
            return str(content["text"])
        kind = str(content.get("type") or "")
        return f"[{kind}]" if "image" in kind or "file" in kind or kind == "document" else compact(content)
    return "" if content is None else compact(content)


def _objects(value: Any) -> Iterator[Json]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _parts(content: Any) -> Iterator[Piece]:
    """Chat's, Responses' and Messages' content: their parts have no type in common that means different things."""
    if isinstance(content, str):
        yield Piece("text", content)
    for part in _objects(content):
        kind = str(part.get("type") or "")
        if kind in ("text", "input_text", "output_text", "summary_text", "reasoning_text"):
            yield Piece("text", str(part.get("text") or ""))
        elif kind == "refusal":
            yield Piece("text", str(part.get("refusal") or ""))
        elif kind in ("thinking", "redacted_thinking"):
            yield Piece("thinking", str(part.get("thinking") or ""))
        elif kind.endswith("tool_use"):
            name, id_ = str(part.get("name") or ""), str(part.get("id") or "")
            yield Piece("call", "", id_, name, arguments_of(part.get("input")))
        elif kind.endswith("tool_result"):
            id_ = str(part.get("tool_use_id") or "")
            yield Piece("result", flat(part.get("content")), id_, failed=bool(part.get("is_error")))
        else:
            yield Piece("other", kind or "part")


def _chat(message: Json) -> Iterator[Piece]:
    if message.get("role") in ("tool", "function"):
        id_ = str(message.get("tool_call_id") or message.get("name") or "")
        yield Piece("result", flat(message.get("content")), id_)
        return
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought:
        yield Piece("thinking", flat(thought))
    yield from _parts(message.get("content"))
    if message.get("refusal"):
        yield Piece("text", str(message["refusal"]))
    for call in _objects(message.get("tool_calls")):
        inner = next(_objects([call.get("function"), call.get("custom")]), {})
        name = str(inner.get("name") or "")
        yield Piece(
            "call", "", str(call.get("id") or name), name, arguments_of(inner.get("arguments", inner.get("input")))
        )


def _responses(message: Json) -> Iterator[Piece]:
    kind, id_ = str(message.get("type") or "message"), str(message.get("call_id") or message.get("id") or "")
    if kind == "message":
        yield from _parts(message.get("content"))
    elif kind == "reasoning":
        told = (flat(message.get(name)) for name in ("summary", "content"))
        yield Piece("thinking", "\n".join(text for text in told if text))
    elif kind.endswith("_call"):
        given = message.get("arguments", message.get("input", message.get("action")))
        yield Piece("call", "", id_, str(message.get("name") or kind), arguments_of(given))
    elif kind.endswith("_output"):
        yield Piece("result", flat(message.get("output")), id_)
    else:
        yield Piece("other", kind)


def _messages(message: Json) -> Iterator[Piece]:
    yield from _parts(message.get("content"))


def _gemini(message: Json) -> Iterator[Piece]:
    for part in _objects(message.get("parts")):
        call, answer = part.get("functionCall"), part.get("functionResponse")
        if isinstance(call, dict):
            name = str(call.get("name") or "")
            yield Piece("call", "", str(call.get("id") or name), name, arguments_of(call.get("args") or {}))
        elif isinstance(answer, dict):
            name, said = str(answer.get("name") or ""), answer.get("response")
            failed = isinstance(said, dict) and "error" in said
            only = next(iter(said.values())) if isinstance(said, dict) and len(said) == 1 else said
            yield Piece("result", flat(only), str(answer.get("id") or name), name, failed=failed)
        elif isinstance(part.get("text"), str):
            yield Piece("thinking" if part.get("thought") else "text", part["text"])
        else:
            yield Piece("other", next((name for name in part if name != "thoughtSignature"), "part"))


_READERS: Mapping[str, Callable[[Json], Iterator[Piece]]] = {
    "chat": _chat, "responses": _responses, "messages": _messages, "gemini": _gemini,
}  # fmt: skip
