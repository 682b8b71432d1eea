"""The wire formats, by name. Each is a module of pure functions with the shape of `wire.Wire`."""

from __future__ import annotations

from collections.abc import Mapping

from onward.protocols import chat, gemini, messages, responses
from onward.protocols.wire import Assembly, Malformed, Reported, Wire

__all__ = ["PROTOCOLS", "Assembly", "Malformed", "Reported", "Wire"]

PROTOCOLS: Mapping[str, Wire] = {"chat": chat, "responses": responses, "messages": messages, "gemini": gemini}
"""`chat`, `responses`, `messages`, `gemini`."""
