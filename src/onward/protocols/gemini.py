"""Gemini generateContent.

Source of the format: the Gemini API reference, `models.generateContent` and `models.streamGenerateContent?alt=sse`.
A stream has no event that says it is over: it is over when each candidate has its `finishReason` (or the prompt was
blocked), and the last chunk before the connection ends holds the counts.

Newer models want the `thoughtSignature` of a call handed back: give an assistant turn the response's own parts as
`content` (they go out as they are) instead of `tool_calls`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onward.ask import Answer, Message, Usage
from onward.protocols.sse import Event, frame_of
from onward.protocols.wire import (
    Malformed,
    Reported,
    arguments_of,
    chunks_of,
    function_of,
    id_of,
    load,
    names_of_calls,
    parts_of,
    text_of,
)

__all__ = ["NAME", "assembly", "body", "delivered", "frames", "headers", "largest_output", "parse", "path", "render"]

NAME = "gemini"
Json = dict[str, Any]
_REFUSED = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
})  # fmt: skip
_CONFIG = {
    "max_tokens": "maxOutputTokens", "temperature": "temperature", "seed": "seed", "top_p": "topP", "top_k": "topK",
    "n": "candidateCount", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty",
    "topP": "topP", "topK": "topK", "candidateCount": "candidateCount", "maxOutputTokens": "maxOutputTokens",
    "presencePenalty": "presencePenalty", "frequencyPenalty": "frequencyPenalty", "thinkingConfig": "thinkingConfig",
    "responseModalities": "responseModalities", "responseLogprobs": "responseLogprobs", "logprobs": "logprobs",
    "mediaResolution": "mediaResolution", "responseMimeType": "responseMimeType", "responseSchema": "responseSchema",
    "responseJsonSchema": "responseJsonSchema", "stopSequences": "stopSequences",
}  # fmt: skip
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"text": part["text"]}
    if kind in ("image", "file") and "data" in part:
        return {"inlineData": {"mimeType": part.get("media_type", "application/octet-stream"), "data": part["data"]}}
    return part


def _turn(message: Message, names: Mapping[str, str]) -> Json:
    content = message.get("content")
    if message["role"] == "tool":
        call = str(message.get("tool_call_id", ""))
        name = message.get("name") or names.get(call, "")
        given = {"name": name, "response": {"output": text_of(content)}}
        return {"role": "user", "parts": [{"functionResponse": given}]}
    parts = [_part(part) for part in parts_of(content)]
    for asked in message.get("tool_calls") or ():
        inner = asked.get("function", asked)
        parts.append({"functionCall": {"name": inner["name"], "args": arguments_of(inner.get("arguments"))}})
    return {"role": "model" if message["role"] == "assistant" else "user", "parts": parts}


def _contents(messages: Sequence[Message]) -> list[Json]:
    """The conversation, with outputs of parallel tool calls joined into one turn, as the format wants them."""
    names = names_of_calls(messages)
    made: list[Json] = []
    for message in messages:
        turn = _turn(message, names)
        if message["role"] == "tool" and made and "functionResponse" in made[-1]["parts"][-1]:
            made[-1]["parts"] += turn["parts"]
        else:
            made.append(turn)
    return made


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    functions = [made for tool in tools if (made := None if "functionDeclarations" in tool else function_of(tool))]
    others = [tool for tool in tools if "functionDeclarations" in tool or not function_of(tool)]
    declared = [
        {"name": each.name, "description": each.description, "parametersJsonSchema": each.parameters}
        for each in functions
    ]
    return [{"functionDeclarations": declared}, *others] if declared else others


def _choice(choice: Any) -> Json:
    if isinstance(choice, str):
        return {"functionCallingConfig": {"mode": _MODES.get(choice, choice.upper())}}
    name = (choice.get("function") or choice).get("name")
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}


def body(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Json:
    """The request body; the model is in the path. What is no known setting stands beside `generationConfig`."""
    first = [message for message in messages if message["role"] in ("system", "developer")]
    made: Json = {"contents": _contents([m for m in messages if m["role"] not in ("system", "developer")])}
    if first:
        made["systemInstruction"] = {"parts": [_part(p) for m in first for p in parts_of(m.get("content"))]}
    config: Json = {}
    for name, value in params.items():
        if name in _CONFIG:
            config[_CONFIG[name]] = value
        elif name == "stop":
            if value:
                config["stopSequences"] = [value] if isinstance(value, str) else list(value)
        elif name == "response_format":
            config["responseMimeType"] = "application/json"
            if isinstance(value.get("json_schema"), Mapping):
                config["responseJsonSchema"] = value["json_schema"]["schema"]
        elif name == "tools":
            made["tools"] = _tools(value)
        elif name == "tool_choice":
            made["toolConfig"] = _choice(value)
        elif name != "generationConfig":
            made[name] = value
    config.update(params.get("generationConfig") or {})
    if config:
        made["generationConfig"] = config
    return made


def delivered(body: Mapping[str, Any], stream: bool) -> Mapping[str, Any]:
    """As it is: streaming is asked for by the path."""
    return body


def path(model: str, stream: bool) -> str:
    """`/v1beta/models/MODEL:…`; the base URL is the bare host."""
    return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"


def headers(key: str | None) -> dict[str, str]:
    """`x-goog-api-key`."""
    return {"x-goog-api-key": key} if key else {}


def largest_output(body: Mapping[str, Any]) -> int | None:
    """`maxOutputTokens`, thoughts included, times `candidateCount`."""
    config = body.get("generationConfig") or {}
    limit = config.get("maxOutputTokens")
    return int(limit) * int(config.get("candidateCount") or 1) if limit else None


def _usage(found: Any) -> Usage:
    """Its candidates' count leaves the thoughts out; our output holds both, and input holds what tools brought in."""
    if not isinstance(found, Mapping):
        return Usage()
    thoughts = int(found.get("thoughtsTokenCount") or 0)
    return Usage(
        int(found.get("promptTokenCount") or 0) + int(found.get("toolUsePromptTokenCount") or 0),
        int(found.get("candidatesTokenCount") or 0) + thoughts,
        int(found.get("cachedContentTokenCount") or 0),
        thoughts,
    )


def parse(response: Any) -> Answer:
    """The first candidate. Thoughts are no part of the text. A blocked prompt is Reported as `content_filter`."""
    if isinstance(response.get("error"), Mapping):
        raise Reported(response["error"])
    blocked = (response.get("promptFeedback") or {}).get("blockReason")
    if blocked and not response.get("candidates"):
        said = response["promptFeedback"].get("blockReasonMessage", "")
        raise Reported({"type": "content_filter", "message": f"the prompt was blocked: {blocked} {said}".strip()})
    try:
        candidate = response["candidates"][0]
        parts = (candidate.get("content") or {}).get("parts") or []
        text = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
        calls = [
            {
                "id": str(part["functionCall"].get("id") or f"call_{index}"),
                "name": str(part["functionCall"]["name"]),
                "arguments": arguments_of(part["functionCall"].get("args") or {}),
            }
            for index, part in enumerate(part for part in parts if "functionCall" in part)
        ]
        reason = candidate.get("finishReason", "STOP")
        finish = "length" if reason == "MAX_TOKENS" else "refused" if reason in _REFUSED else "stop"
        if calls and finish == "stop":
            finish = "tool"
        return Answer(text, finish, calls, _usage(response.get("usageMetadata")), None, response)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Malformed(f"no candidate in the answer: {error!r}") from None


class _Assembly:
    """Candidates grow by index: text is appended to a last part of its own kind, any other part stands by itself."""

    def __init__(self) -> None:
        self._top: Json = {}
        self._candidates: dict[int, Json] = {}

    @property
    def done(self) -> bool:
        """Whether each candidate has its end, or the prompt was blocked."""
        if not self._candidates:
            return bool((self._top.get("promptFeedback") or {}).get("blockReason"))
        return all(candidate.get("finishReason") for candidate in self._candidates.values())

    def feed(self, event: Event) -> str:
        chunk = load(event.data)
        if isinstance(chunk.get("error"), Mapping):
            raise Reported(chunk["error"])
        added = ""
        try:
            for candidate in chunk.get("candidates") or ():
                text = self._grow(candidate)
                if candidate.get("index", 0) == 0:
                    added += text
        except (KeyError, TypeError, AttributeError) as error:
            raise Malformed(f"a chunk of the stream is not in the format: {error!r}") from None
        self._top.update({name: value for name, value in chunk.items() if name != "candidates"})
        return added

    def _grow(self, found: Mapping[str, Any]) -> str:
        mine = self._candidates.setdefault(found.get("index", 0), {"content": {"parts": [], "role": "model"}})
        parts, added = mine["content"]["parts"], ""
        for part in (found.get("content") or {}).get("parts") or ():
            last = parts[-1] if parts else {}
            if "text" in part and "text" in last and bool(part.get("thought")) == bool(last.get("thought")):
                parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
            else:
                parts.append(dict(part))
            added += part["text"] if "text" in part and not part.get("thought") else ""
        mine.update({name: value for name, value in found.items() if name != "content"})
        return added

    def response(self) -> Json:
        made = dict(self._top)
        if self._candidates:
            made["candidates"] = [self._candidates[index] for index in sorted(self._candidates)]
        return made


def assembly() -> _Assembly:
    """A fresh assembly."""
    return _Assembly()


def render(answer: Answer, model: str) -> Json:
    """A `GenerateContentResponse` that says this."""
    parts: list[Json] = [{"text": answer.text}] if answer.text or not answer.tool_calls else []
    parts.extend(
        {"functionCall": {"id": call["id"], "name": call["name"], "args": dict(call["arguments"])}}
        for call in answer.tool_calls
    )
    used = answer.usage
    finish = {"length": "MAX_TOKENS", "refused": "SAFETY"}.get(answer.finish, "STOP")
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": used.input, "candidatesTokenCount": used.output - used.reasoning,
            "thoughtsTokenCount": used.reasoning, "cachedContentTokenCount": used.cached,
            "totalTokenCount": used.total,
        },
        "modelVersion": model, "responseId": id_of(answer),
    }  # fmt: skip


def _chunks(response: Mapping[str, Any]) -> Iterator[Json]:
    top = {name: value for name, value in response.items() if name not in ("candidates", "usageMetadata")}
    for candidate in response.get("candidates") or ():
        index = candidate.get("index", 0)
        for part in (candidate.get("content") or {}).get("parts") or ():
            pieces = [{**part, "text": piece} for piece in chunks_of(part["text"])] if part.get("text") else [part]
            for piece in pieces:
                yield {**top, "candidates": [{"content": {"parts": [piece], "role": "model"}, "index": index}]}
        rest = {name: value for name, value in candidate.items() if name != "content"}
        last = {**top, "candidates": [{"content": {"parts": [], "role": "model"}, **rest}]}
        yield {**last, "usageMetadata": response["usageMetadata"]} if "usageMetadata" in response else last
    if not response.get("candidates"):
        yield dict(response)


def frames(response: Mapping[str, Any]) -> Iterator[bytes]:
    """Chunks of text, then the reason of the end and the counts."""
    for chunk in _chunks(response):
        yield frame_of(json.dumps(chunk))
