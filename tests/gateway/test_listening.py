"""What goes over the gateway's sockets: requests come whole, and an answer's head with what follows it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from onward.gateway.listening import Listener

Application = Callable[..., Awaitable[None]]


@asynccontextmanager
async def connected(application: Application) -> AsyncIterator[socket.socket]:
    listener = Listener(application)
    await listener.open()
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", listener.port))
        yield client
    finally:
        client.close()
        await listener.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def ask(client: socket.socket, body: bytes, method: str = "POST") -> None:
    head = f"{method} / HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    await asyncio.get_running_loop().sock_sendall(client, head + body)


def test_an_answers_head_comes_with_its_body() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await start(send, (b"content-length", b"6"))
        await send({"type": "http.response.body", "body": b"answer"})

    async def test() -> None:
        async with connected(application) as client:
            for _ in range(20):
                await ask(client, b"?")
                got = await asyncio.get_running_loop().sock_recv(client, 65536)
                assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"\r\n\r\nanswer")

    run(test())


def test_a_head_does_not_wait_for_a_body_that_is_not_there_yet() -> None:
    seen = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await start(send)
        await seen.wait()
        await send({"type": "http.response.body", "body": b"HTTP/ is a text like others"})

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with connected(application) as client:
            await ask(client, b"?")
            assert (await loop.sock_recv(client, 65536)).endswith(b"transfer-encoding: chunked\r\n\r\n")
            seen.set()
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += await loop.sock_recv(client, 65536)
            assert got == b"1b\r\nHTTP/ is a text like others\r\n0\r\n\r\n"

    run(test())


def test_an_answer_without_a_body_is_sent_and_so_is_the_last_of_a_connection() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await start(send, (b"content-length", b"0"), *([(b"connection", b"close")] * (scope["method"] == "GET")))
        await send({"type": "http.response.body", "body": b""})

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with connected(application) as client:
            for method in ("HEAD", "POST", "GET"):
                await ask(client, b"", method)
                assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 200")
            assert await loop.sock_recv(client, 65536) == b""

    run(test())


@pytest.mark.parametrize(("size", "most"), [(300_000, 1), (4_000_000, 8)])
def test_a_request_is_handed_over_whole_unless_it_is_very_long(size: int, most: int) -> None:
    parts: list[bytes] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            parts.append(message["body"])
            more = message["more_body"]
        await start(send, (b"content-length", b"2"))
        await send({"type": "http.response.body", "body": b"ok"})

    async def test() -> None:
        body = bytes(range(256)) * (size // 256)
        async with connected(application) as client:
            await ask(client, body)
            assert (await asyncio.get_running_loop().sock_recv(client, 65536)).endswith(b"ok")
        assert b"".join(parts) == body and len(parts) <= most

    run(test())
