"""The wire formats, by name. Each is a module of pure functions with the shape of `wire.Wire`."""

from __future__ import annotations

from collections.abc import Mapping

from onward.gateway.protocols import chat
from onward.gateway.protocols.wire import Assembly, Malformed, Reported, Wire

__all__ = ["PROTOCOLS", "Assembly", "Malformed", "Reported", "Wire"]

PROTOCOLS: Mapping[str, Wire] = {"chat": chat}
"""`chat`, `responses`, `messages`, `gemini`."""
