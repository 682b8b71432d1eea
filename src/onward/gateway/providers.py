"""Who answers: a provider's name, its wire format, its base URL, and the NAME of the variable that holds its key.

Known ones are a table; an experiment adds its own as data. Keys themselves are read by `config` and handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from onward.errors import SpecError, UsageError

__all__ = ["PROVIDERS", "Provider", "from_entry", "unknown_provider", "with_keys"]

_PROTOCOLS = ("chat", "responses", "messages", "gemini")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Provider:
    """Where calls go. Neither the key nor extra headers (which may hold secrets) appear in its repr."""

    name: str
    protocol: str
    """`chat`, `responses`, `messages` or `gemini`."""
    base_url: str
    """What the format's paths are appended to: `…/v1` for OpenAI's formats, the bare host for the other two."""
    key: str | None = field(default=None, repr=False)
    key_name: str = ""
    """The environment variable that holds the key; empty where none is needed."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Fields of the body that this provider knows by another name."""

    def url(self, path: str) -> str:
        """The address of a path. A version that base URL and path both hold is not repeated."""
        base = self.base_url.rstrip("/")
        version = base.rpartition("/")[2]
        return base.removesuffix(f"/{version}") + path if path.startswith(f"/{version}/") else base + path

    def speaking(self, protocol: str) -> Provider:
        """The same provider in another of its wire formats: its base URL ends with a version in OpenAI's alone.

        Most compatible servers speak several. One that does not says so itself: nothing is translated.
        """
        if protocol == self.protocol:
            return self
        base, versioned = self.base_url.rstrip("/"), ("chat", "responses")
        if protocol in versioned and self.protocol not in versioned:
            base = f"{base}/v1"
        elif protocol not in versioned:
            base = base.removesuffix("/v1")
        return replace(self, protocol=protocol, base_url=base)

    def check(self) -> None:
        """Raises UsageError where it needs a key and has none."""
        if self.key_name and not self.key:
            raise UsageError(f"No key for {self.name}: set {self.key_name} (or put it in .env)")

    @property
    def shown_url(self) -> str:
        """The base URL as it may be printed: without user, password or query."""
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"

    def without_secrets(self, text: str) -> str:
        """The text with the key, and the values of extra headers, blotted out."""
        for secret in (self.key, *self.headers.values()):
            if secret and len(secret) >= 8:
                text = text.replace(secret, "[secret]")
        return text


PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "openai", "chat", "https://api.openai.com/v1", key_name="OPENAI_API_KEY",
            renames={"max_tokens": "max_completion_tokens"},  # its reasoning models refuse the older name
        ),
        Provider("openai-responses", "responses", "https://api.openai.com/v1", key_name="OPENAI_API_KEY"),
        Provider("anthropic", "messages", "https://api.anthropic.com", key_name="ANTHROPIC_API_KEY"),
        Provider("google", "gemini", "https://generativelanguage.googleapis.com", key_name="GEMINI_API_KEY"),
        # llama.cpp's server closes a connection after a stream without saying so beforehand.
        Provider("local", "chat", "http://127.0.0.1/v1", headers={"Connection": "close"}),
    )
}  # fmt: skip
"""The known ones, without keys. The port of `local` is known once it runs."""


def with_keys(providers: Mapping[str, Provider], keys: Mapping[str, str]) -> dict[str, Provider]:
    """The providers with the keys that there are; `keys` is by variable name."""
    return {
        name: replace(provider, key=keys[provider.key_name]) if keys.get(provider.key_name) else provider
        for name, provider in providers.items()
    }


def from_entry(name: str, entry: Mapping[str, Any]) -> Provider:
    """A provider from an experiment's table: `base_url`, and optionally `protocol` (default `chat`), `key_name`,
    `headers`, `renames`; what a known name leaves out it keeps. Raises SpecError."""
    known = PROVIDERS.get(name)
    fields = {"base_url", "protocol", "key_name", "headers", "renames"}
    where = f"providers.{name}"
    for given in entry:
        if given not in fields:
            raise SpecError(f"unknown field; there are {', '.join(sorted(fields))}", field=f"{where}.{given}")
    base = entry.get("base_url", known.base_url if known else None)
    if not isinstance(base, str) or not re.match(r"https?://[^/\s]+", base):
        raise SpecError("must be a URL that begins with http:// or https://", field=f"{where}.base_url")
    protocol = entry.get("protocol", known.protocol if known else "chat")
    if protocol not in _PROTOCOLS:
        raise SpecError(f"must be one of {', '.join(_PROTOCOLS)}", field=f"{where}.protocol")
    key_name = entry.get("key_name", known.key_name if known else "")
    if key_name and not (isinstance(key_name, str) and _VARIABLE.fullmatch(key_name)):
        raise SpecError("is the NAME of the variable that holds the key, never the key", field=f"{where}.key_name")
    made = Provider(name, protocol, base.rstrip("/"), key_name=key_name)
    headers = entry.get("headers", known.headers if known else {})
    return replace(made, headers=headers, renames=entry.get("renames", known.renames if known else {}))


def unknown_provider(name: str, known: list[str]) -> UsageError:
    """The error for a provider that is not there, with what was probably meant and the whole list."""
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(
        f"Unknown provider {name!r}.{hint} There are: {', '.join(sorted(known))}; "
        "or define its base_url under `providers` in the experiment"
    )
