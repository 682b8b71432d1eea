"""What the gateway itself says no with, in the error shape of the wire format that was spoken. Pure."""

from __future__ import annotations

from typing import Any

from onward.protocols.wire import compact

__all__ = ["refusal"]

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "conflict_error", 413: "request_too_large", 415: "invalid_request_error", 426: "invalid_request_error",
}  # fmt: skip
_GEMINI = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
}  # fmt: skip


def refusal(protocol: str, status: int, said: str) -> bytes:
    """The body of an error. An unknown format is answered in OpenAI's, which most programs can read."""
    kind = _TYPES.get(status, "api_error")
    body: dict[str, Any] = {"error": {"message": said, "type": kind, "param": None, "code": kind}}
    if protocol == "messages":
        body = {"type": "error", "error": {"type": kind, "message": said}}
    elif protocol == "gemini":
        body = {"error": {"code": status, "message": said, "status": _GEMINI.get(status, "INTERNAL")}}
    return compact(body).encode()
