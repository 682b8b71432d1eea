"""How many tokens a request can be at most, from its bytes. Pure arithmetic: no tokenizer is asked.

Every tokenizer in use falls back to bytes, so no text has more tokens than bytes. Letters are the exception that makes
a bound useful: even random letters come out at about two per token, words at four or more. Hence a letter counts
one half, and every other byte (digits, blanks, punctuation, anything beyond ASCII) counts one. Measured against
SmolLM2's tokenizer, whose vocabulary is small, on prose, code, numbers, base64 and other scripts: `tests/gateway`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onward.context import Message

__all__ = ["input_bound", "text_bound"]

_LETTERS = bytes(range(65, 91)) + bytes(range(97, 123))
_PER_REQUEST = 32
_PER_MESSAGE = 8
_WITH_TOOLS = 1000
"""Tokens of hidden instructions that providers add to a request with tools (Anthropic documents up to some 700)."""
_PER_IMAGE = 50_000
"""Above the dearest image documented (OpenAI's small models at high detail: 2,833 + 5,667 for each of 8 tiles)."""


def _halves(text: bytes) -> int:
    return len(text) + len(text.translate(None, _LETTERS))


def text_bound(text: str | bytes) -> int:
    """Most tokens that a text can be."""
    return -(-_halves(text.encode() if isinstance(text, str) else text) // 2)


def _attachments(messages: Sequence[Message]) -> tuple[int, int]:
    """What attachments count as text (in halves), and what they really count: their base64 is not read as text."""
    as_text = really = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str) or not content:
            continue
        for part in content:
            data = part.get("data") if isinstance(part, Mapping) else None
            if isinstance(data, str):
                as_text += _halves(data.encode())
                really += min(_PER_IMAGE, len(data)) if part.get("type") == "image" else len(data)
    return as_text, really


def input_bound(body: Mapping[str, Any], text: bytes, messages: Sequence[Message]) -> int:
    """Most tokens that a request can be as input. `text` is the body as JSON, `messages` its common form."""
    as_text, really = _attachments(messages)
    fixed = _PER_REQUEST + _PER_MESSAGE * len(messages) + (_WITH_TOOLS if body.get("tools") else 0)
    return max(-(-(_halves(text) - as_text) // 2), 0) + really + fixed
