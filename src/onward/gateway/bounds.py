"""How many tokens a request can be at most, from its bytes. Pure arithmetic: no tokenizer is asked.

Every tokenizer in use falls back to bytes, so no text has more tokens than it has bytes, and some texts have as many:
digits in SmolLM2's, rare scripts in all. Counting letters for less was tried and does not hold (base64 has 0.8 tokens
a byte, random words 0.9). The price is a reservation of some four to five times the input of plain prose; reservations
are given back when the answer comes, and the largest output usually outweighs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onward.ask import Message

__all__ = ["input_bound"]

_PER_REQUEST = 64
"""A chat template's frame, and the system prompt that some insert where none is given (SmolLM2's: 25 tokens)."""
_PER_MESSAGE = 8
_WITH_TOOLS = 1000
"""Tokens of hidden instructions that providers add to a request with tools (Anthropic documents up to some 700)."""
_PER_IMAGE = 50_000
"""Above the dearest image documented (OpenAI's small models at high detail: 2,833 + 5,667 for each of 8 tiles)."""


def _attachments(messages: Sequence[Message]) -> tuple[int, int]:
    """Bytes of the attachments' base64, and the tokens that they can really be: nobody reads base64 as text."""
    as_text = really = 0
    for message in messages:
        content = message.get("content")
        if isinstance(content, str) or not content:
            continue
        for part in content:
            data = part.get("data") if isinstance(part, Mapping) else None
            if isinstance(data, str):
                as_text += len(data)
                really += min(_PER_IMAGE, len(data)) if part.get("type") == "image" else len(data)
    return as_text, really


def input_bound(body: Mapping[str, Any], size: int, messages: Sequence[Message]) -> int:
    """Most tokens that a request can be as input. `size`: bytes of the body as JSON; `messages`: its common form."""
    as_text, really = _attachments(messages)
    fixed = _PER_REQUEST + _PER_MESSAGE * len(messages) + (_WITH_TOOLS if body.get("tools") else 0)
    return max(size - as_text, 0) + really + fixed
