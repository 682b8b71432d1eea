"""What a provider's refusal means: (status, headers, body) → one of the three classes of CallError. Pure.

| what came | class |
|---|---|
| context length exceeded, content refused, any other 4xx (400, 413, 422: the request itself is wrong) | CallRejected |
| 401, 402, 403, 404, a redirect, an exhausted quota whatever its status | ProviderStopped |
| 408, 409, 425, 429, 5xx (529 overloaded), network, stall, cut stream, an answer not in its format | CallTransient |

A 400 that is not about length stays with its request: asked again it fails again, while other requests may well
succeed, so it neither retries nor stops the provider.

Sources: the providers' pages on errors and rate limits (OpenAI "Error codes" and "Rate limits", Anthropic "Errors",
Gemini "Troubleshooting" and google.rpc `RetryInfo`, `QuotaFailure`), RFC 9110 §10.2.3 for Retry-After.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from onward.errors import CallError, CallRejected, CallTransient, ProviderStopped
from onward.gateway.providers import Provider

__all__ = ["failure", "reported", "retry_after"]

_TOO_LONG = re.compile(
    r"context.?(length|window|size)|prompt is too long|input is too long|too many (input )?tokens"
    r"|input token count.*exceeds|maximum (number of )?(input )?tokens|reduce the length", re.IGNORECASE,
)  # fmt: skip
_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error", "request_too_large"}
_REFUSED = re.compile(
    r"content.?(management|filter|safety|policy)|safety system|usage (policies|guidelines)", re.IGNORECASE
)
_REFUSED_CODES = {"content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt", "blocked"}
_NO_MONEY = re.compile(
    r"credit balance|insufficient (credit|balance|fund|quota)|out of credit|billing.*(limit|not active|inactive)",
    re.IGNORECASE,
)
_NO_MONEY_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"}
_BAD_KEY_CODES = {"api_key_invalid", "invalid_api_key", "authentication_error"}
_TRANSIENT = {408, 409, 425, 429}
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "invalid_api_key": 401, "unauthenticated": 401,
    "billing_error": 402, "permission_error": 403, "permission_denied": 403, "not_found_error": 404,
    "model_not_found": 404, "not_found": 404, "request_too_large": 413, "rate_limit_error": 429,
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "resource_exhausted": 429, "too_many_requests": 429,
    "timeout_error": 504, "overloaded_error": 529, "overloaded": 529, "unavailable": 503, "invalid_argument": 400,
    "context_length_exceeded": 400, "content_filter": 400, "invalid_prompt": 400,
}  # fmt: skip
_SHOWN = 300
"""Characters of a provider's own message that ours quotes."""


def failure(provider: Provider, model: str, status: int, headers: Mapping[str, str], raw: bytes) -> CallError:
    """The error that a status other than 2xx means. `headers` by lower-case name, `raw` the body."""
    error = _error_in(raw)
    said = provider.without_secrets(_message(error))
    codes = {code.lower() for code in _codes(error)}
    wait = retry_after(headers, said, error) if status in _TRANSIENT or status >= 500 else None
    return _classified(provider, model, status, (said, codes, _is_daily(error)), wait)


def reported(provider: Provider, model: str, error: Mapping[str, Any]) -> CallError:
    """The error that a response with status 200 reports in its body or its stream."""
    number = error.get("code")
    if isinstance(number, int) and 300 <= number < 600:
        status = number
    else:
        status = next((_STATUS_OF[code] for code in map(str.lower, _codes(error)) if code in _STATUS_OF), 500)
    return failure(provider, model, status, {}, json.dumps({"error": dict(error)}).encode())


def _classified(
    provider: Provider, model: str, status: int, what: tuple[str, set[str], bool], wait: float | None
) -> CallError:
    said, codes, daily = what
    name, tail = provider.name, f": {said}" if said else ""
    key = f"the key in {provider.key_name}" if provider.key_name else "the key"
    if 400 <= status < 500 and status != 429:
        if codes & _TOO_LONG_CODES or (status in (400, 413, 422) and _TOO_LONG.search(said)):
            return CallRejected(f"{status} — longer than the context of {model!r}{tail}", provider=name, status=status)
        if codes & _REFUSED_CODES or (status in (400, 403, 422) and _REFUSED.search(said)):
            return CallRejected(f"{status} — the content was refused{tail}", provider=name, status=status)
    stop = ""
    if status == 402 or codes & _NO_MONEY_CODES or daily or (status in (400, 403, 429) and _NO_MONEY.search(said)):
        stop = f"the account behind {key} has no credit or quota left{tail}"
    elif status == 401 or (status in (400, 403) and codes & _BAD_KEY_CODES):
        # What was said is left out: some providers repeat a part of the key in it.
        stop = f"{key} was refused" if provider.key else "it wants a key and none is configured"
    elif status == 403:
        stop = f"{key} may not use {model!r}{tail}"
    elif status == 404:
        stop = f"model {model!r} does not exist at {provider.shown_url}{tail}"
    elif 300 <= status < 400:
        stop = f"{provider.shown_url} redirects elsewhere; put the final address into base_url"
    if stop:
        return ProviderStopped(f"{status} — {stop}", provider=name, status=status)
    if status in _TRANSIENT or status >= 500 or status < 300:
        kind = {429: "rate limit", 529: "overloaded", 503: "unavailable"}.get(status, "no answer this time")
        return CallTransient(f"{status} — {kind}{tail}", provider=name, status=status, retry_after=wait)
    return CallRejected(f"{status} — the request was refused{tail}", provider=name, status=status)


def _error_in(raw: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {"message": " ".join(raw[:2000].decode("utf-8", "replace").split())}
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, Mapping):
        return {"message": str(found)}
    inner = found.get("error", found)
    return inner if isinstance(inner, Mapping) else {"message": str(inner)}


def _message(error: Mapping[str, Any]) -> str:
    said = error.get("message") or error.get("detail") or error.get("error_description") or ""
    text = said if isinstance(said, str) else json.dumps(said)
    text = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _SHOWN])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = error.get("details")
    return (item for item in (found if isinstance(found, list) else ()) if isinstance(item, Mapping))


def _codes(error: Mapping[str, Any]) -> Iterator[str]:
    for source in (error, *_details(error)):
        yield from (str(source[name]) for name in ("code", "type", "status", "reason") if source.get(name))


def _is_daily(error: Mapping[str, Any]) -> bool:
    """Whether a Gemini quota is one by the day: its advice to come back in seconds is then not true."""
    return any("perday" in json.dumps(item.get("violations", "")).lower() for item in _details(error))


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_AGAIN = re.compile(r"(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|[smhd]))+)", re.IGNORECASE)


def _span(text: str) -> float | None:
    """Seconds in a span such as `6m0s`, `1.5s`, `20ms`."""
    found = _SPAN.findall(text)
    return sum(float(number) * _UNITS[unit] for number, unit in found) if found else None


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if 0 <= found < 1e9 else None


def _until(date: str, now: str) -> float | None:
    try:
        return max((parsedate_to_datetime(date) - parsedate_to_datetime(now)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def retry_after(headers: Mapping[str, str], said: str = "", error: Mapping[str, Any] | None = None) -> float | None:
    """Seconds that a provider asks us to wait, None where it does not say.

    `retry-after-ms`, `Retry-After` in seconds or as a date (counted from the response's own `Date`, so that no clock is
    asked and skew does not matter), Gemini's RetryInfo, OpenAI's `x-ratelimit-reset-*` of the limits that have nothing
    left, and last the sentence "try again in 1.2s".
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    plain = headers.get("retry-after")
    if plain is not None:
        number = _number(plain)
        wait = number if number is not None else _until(plain, headers.get("date", ""))
        if wait is not None:
            return wait
    for item in _details(error or {}):
        if isinstance(item.get("retryDelay"), str):
            return _span(item["retryDelay"])
    spent = [
        _span(headers.get(f"x-ratelimit-reset-{kind}", "")) or 0.0
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
    ]
    if any(spent):
        return max(spent)
    asked = _AGAIN.search(said)
    return _span(asked[1]) if asked else None
