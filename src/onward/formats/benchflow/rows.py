"""One line of `trajectory/llm_trajectory.jsonl`: an exchange, read with whatever is wrong with it.

What is recorded of a request is a projection (model, messages, tools and a few more). Of Claude's requests that came to
an answer the whole original body is there too, as JSON text inside `input`; where it is, it is what was asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from onward.errors import Refused
from onward.fingerprint import digest_of
from onward.formats.benchflow.redaction import Damage, damages
from onward.protocols.wire import whole

__all__ = ["Row", "object_of", "row_of", "seconds_of"]

Json = Mapping[str, Any]

_CLAUDES = ("claude",)
"""Agents that speak the Messages format."""
_CALL_TYPES = {"anthropic_messages": "messages", "responses": "responses", "generate_content": "gemini"}
_STATUS = re.compile(r"^(?:[\w.]+: )?(?:Error code: )?([45]\d\d)\b")
_decode = json.JSONDecoder(parse_constant=lambda _: None, strict=False).decode
"""NaN and Infinity, which some write for a token's logarithm, are read as null: nothing here is made of them."""


@dataclass(frozen=True, slots=True)
class Row:
    """An exchange as it stands in the file. Times are seconds by the recorder's own clock; None: not told."""

    line: int
    """Which line of the file, from 1."""
    raw: bytes = field(repr=False)
    trouble: str = ""
    """Why it is no exchange; then nothing below is set."""
    protocol: str = ""
    request: Json = field(default_factory=dict, repr=False)
    """What the agent asked, in its own wire format, as far as it is known."""
    whole: bool = False
    """Whether that is the original body, and not its projection."""
    digest: str = ""
    """Of the request: equal ones are one request asked again."""
    status: int = 0
    response: Json = field(default_factory=dict, repr=False)
    """LiteLLM's assembled answer: a chat completion, whatever the agent spoke."""
    asked: float | None = None
    answered: float | None = None
    said_status: int = 0
    """What a refusal's own text says its status was; the recorded one is a guess. 0: it says nothing."""
    refusal: str = ""
    """What the agent was told, where it was refused."""
    request_damage: tuple[Damage, ...] = field(default=(), repr=False)
    response_damage: tuple[Damage, ...] = field(default=(), repr=False)

    @property
    def is_error(self) -> bool:
        """Whether it came to a refusal."""
        return not self.trouble and self.status >= 400

    @property
    def is_answer(self) -> bool:
        """Whether the model said something."""
        return not self.trouble and 200 <= self.status < 300 and bool(message_of(self.response))

    @property
    def model(self) -> str:
        """The name that the agent asked for."""
        return str(self.request.get("model") or "")


def object_of(text: bytes | str) -> tuple[Json | None, str]:
    """The JSON object in a text, or why there is none. What is no UTF-8 or half a character is replaced."""
    said = text if isinstance(text, str) else text.decode("utf-8", "replace")
    try:
        found = whole(_decode(said), said)
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:
        return None, f"it is not JSON: {error}"
    if not isinstance(found, dict):
        return None, f"it is no JSON object but {type(found).__name__}"
    return found, ""


def seconds_of(value: Any) -> float | None:
    """An ISO time as seconds; one without a zone is the recorder's own, and read as if it were UTC."""
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def message_of(response: Json) -> Json:
    """The first choice's message in a chat completion; nothing where there is none."""
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    found = first.get("message") if isinstance(first, dict) else None
    return found if isinstance(found, dict) else {}


def row_of(line: int, raw: bytes, agent: str) -> Row:
    """The exchange in a line. `agent` tells the wire format where the line does not."""
    found, trouble = object_of(raw)
    if found is None:
        return Row(line, raw, trouble=trouble)
    request, response = found.get("request"), found.get("response")
    body = request.get("body") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(body, dict):
        return Row(line, raw, trouble="it has no request body")
    protocol, asked, is_whole = _request(request, body, found.get("metadata"), agent)
    try:
        digest = digest_of([protocol, asked])
    except Refused as error:
        return Row(line, raw, trouble=f"its request cannot be kept: {error}")
    answer = response if isinstance(response, dict) else {}
    said = answer.get("body")
    said = said if isinstance(said, dict) else {}
    status = _status(answer.get("status_code"), said)
    began, ended = _times(request, answer, found.get("duration_ms"))
    words, said_status = _refusal(said) if status >= 400 else ("", 0)
    return Row(
        line, raw, "", protocol, asked, is_whole, digest, status, said, began, ended, said_status, words,
        tuple(damages(asked)), tuple(damages(message_of(said))),
    )  # fmt: skip


def _request(request: Json, body: Json, metadata: Any, agent: str) -> tuple[str, Json, bool]:
    """Wire format, body, and whether that is the original one."""
    path = str(request.get("path") or "")
    original = _original(body.get("input"))
    if original is not None:
        protocol = "gemini" if "contents" in original else "messages" if "messages" in original else "responses"
        if protocol == "messages" and not path.endswith("/messages") and "max_tokens" not in original:
            protocol = "chat"
        return protocol, original, True
    protocol = _protocol(path, body, metadata, agent)
    leave = "messages" if protocol == "responses" else "input"
    return protocol, {name: value for name, value in body.items() if value is not None and name != leave}, False


def _original(given: Any) -> Json | None:
    """The whole body that is kept as the text of a single user message."""
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        return None
    content = given[0].get("content")
    if not isinstance(content, str) or not content.startswith("{"):
        return None
    found, _ = object_of(content)
    if found is None:
        return None
    history = next((found[name] for name in ("messages", "contents", "input") if name in found), None)
    return found if isinstance(history, list) else None


def _protocol(path: str, body: Json, metadata: Any, agent: str) -> str:
    kind = str(metadata.get("call_type") or "") if isinstance(metadata, dict) else ""
    told = next((name for part, name in _CALL_TYPES.items() if part in kind), "")
    if told or path.endswith("/messages"):
        return told or "messages"
    tools = _list(body.get("tools"))
    if agent.startswith(_CLAUDES) or any(isinstance(tool, dict) and "input_schema" in tool for tool in tools):
        return "messages"  # a refused call is filed under another path
    return "chat" if _list(body.get("messages")) or not _list(body.get("input")) else "responses"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _status(code: Any, body: Json) -> int:
    try:
        found = int(code or 0)
    except (TypeError, ValueError):
        found = 0
    return 500 if body.get("error") and not message_of(body) and found < 400 else found


def _times(request: Json, response: Json, duration: Any) -> tuple[float | None, float | None]:
    began, ended = seconds_of(request.get("timestamp")), seconds_of(response.get("timestamp"))
    took = duration / 1000 if isinstance(duration, int | float) and not isinstance(duration, bool) else None
    if took is not None and took >= 0:
        began = ended - took if began is None and ended is not None else began
        ended = began + took if ended is None and began is not None else ended
    return began, ended


def _refusal(body: Json) -> tuple[str, int]:
    """What was said, and the status that this names. Where the message is empty, the last line of its trace is it."""
    error = body.get("error")
    if not isinstance(error, dict):
        return str(error or "an error without a message"), 0
    words = str(error.get("message") or "")
    if words in ("", "None"):
        trace: Sequence[str] = [line for line in str(error.get("traceback") or "").splitlines() if line.strip()]
        words = re.sub(r"^[\w.]+(?:Error|Exception): ", "", trace[-1]) if trace else "an error without a message"
    found = _STATUS.match(words)
    return words, int(found[1]) if found else 0
