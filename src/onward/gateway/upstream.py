"""The one module that talks HTTP to providers. It sends once, never again by itself; what a status means is not its.

aiohttp is imported when the first request leaves: commands that only read should not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onward.errors import CallError, CallTransient, ProviderStopped
from onward.gateway.providers import Provider

if TYPE_CHECKING:
    import aiohttp

__all__ = ["MAX_BYTES", "Reply", "Upstream", "system_proxy"]

MAX_BYTES = 64 * 1024 * 1024
"""No answer of a model is longer; more than this would only fill memory and journal."""
_STALL = 120.0
_CONNECT = 30.0


@dataclass(slots=True)
class Reply:
    """A response whose head has arrived. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes] = field(repr=False)
    """The body as it comes, decompressed. Raises CallTransient where it is cut, stalls, or is over MAX_BYTES."""

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks])


def system_proxy(url: str) -> str | None:
    """The proxy that the system's settings (environment included) name for this address; None for loopback."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(host):
        return None
    found = getproxies()
    return found.get(parts.scheme) or found.get("all")


class Upstream:
    """Connections to providers, shared by all calls of one event loop.

    `stall`: seconds without a single byte after which a call is given up; `connect`: the same for the connection.
    There is no limit on the whole: a long answer that keeps coming is welcome. Certificates are always verified.
    """

    def __init__(
        self, *, stall: float = _STALL, connect: float = _CONNECT, proxy_of: Callable[[str], str | None] = system_proxy
    ) -> None:
        self._stall, self._connect, self._proxy_of = stall, connect, proxy_of
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, str | None] = {}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            import aiohttp

            # Not trust_env: it would add a thread hop to each request and let ~/.netrc override the key.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect, sock_read=self._stall),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _proxy(self, provider: Provider) -> str | None:
        if provider.base_url not in self._proxies:
            self._proxies[provider.base_url] = self._proxy_of(provider.base_url)
        return self._proxies[provider.base_url]

    @asynccontextmanager
    async def exchange(
        self, provider: Provider, path: str, body: bytes | None, headers: Mapping[str, str], *, method: str = "POST"
    ) -> AsyncIterator[Reply]:
        """Send one request and hold its response open. Raises CallTransient where the network does not carry it,
        ProviderStopped where the other end cannot be trusted (its certificate). No redirect is followed: it would
        take the key elsewhere."""
        session = self._opened()
        sent: dict[str, str] = {**provider.headers, **headers}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            response = await session.request(
                method, provider.url(path), data=body, headers=sent, allow_redirects=False, proxy=self._proxy(provider)
            )
        except Exception as error:
            lost = self._lost(provider, error)
            if lost is None:
                raise
            raise lost from None
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Reply(response.status, found, self._chunks(provider, response))
        finally:
            # A connection with unread bytes cannot carry another request.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _chunks(self, provider: Provider, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > MAX_BYTES:
                    limit = f"the answer is over {MAX_BYTES // 2**20} MB; it was dropped"
                    raise CallTransient(limit, provider=provider.name, status=response.status, sent_whole=True)
                yield chunk
        except CallError:
            raise
        except Exception as error:
            lost = self._lost(provider, error, response.status)
            if lost is None:
                raise
            raise lost from None

    def _lost(self, provider: Provider, error: Exception, status: int = 0) -> CallError | None:
        """The error for what broke on the way; None for what did not break there (a bug, a caller's exception)."""
        import aiohttp

        name = provider.name
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            said = f"the certificate of {provider.shown_url} could not be verified: {error.certificate_error}"
            return ProviderStopped(said, provider=name)
        if isinstance(error, aiohttp.InvalidURL):
            return ProviderStopped(f"base_url is no address: {provider.shown_url}", provider=name)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            said = f"no connection to {provider.shown_url} within {self._connect:g} s"
        elif isinstance(error, asyncio.TimeoutError):
            said = f"stalled: no byte for {self._stall:g} s"
        elif isinstance(error, aiohttp.ClientPayloadError):
            said = "the answer was cut before its end"
        elif isinstance(error, aiohttp.ServerDisconnectedError):
            said = "the connection was closed without an answer"
        elif isinstance(error, aiohttp.ClientError | OSError):
            said = f"network: {_plain(error)}"
        else:
            return None
        # Whoever did not even get a connection has sent nothing; else the provider may have answered, and billed.
        is_sent = not isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError)
        return CallTransient(provider.without_secrets(said), provider=name, status=status, sent_whole=is_sent)

    async def close(self) -> None:
        """Close all connections. May be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _plain(error: Any) -> str:
    """An error in one line, without the repr of request headers that some of aiohttp's carry."""
    said = str(getattr(error, "os_error", None) or getattr(error, "message", "") or error)
    return f"{type(error).__name__}: {said}"[:300]
