"""The one way out of a sandbox without a network: its own 127.0.0.1:PORT, forwarded to a unix socket.

Bytes only; it knows no HTTP. It runs inside, in the loop of `inside`, so it works where nothing more can be started
(a fork bomb at its limit); hence the standard library alone, and no threads.
"""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress

__all__ = ["Bridge"]

_ROOM = 256 * 1024  # how much one side may be ahead of the other
_PATIENCE = 5.0  # a full backlog makes connecting to a unix socket wait


class _End:
    """One of the two sockets of a connection, and what is to be written to it."""

    def __init__(self, sock: socket.socket, selector: selectors.BaseSelector) -> None:
        self.sock, self._selector = sock, selector
        self.waiting = bytearray()
        self.ended = False  # it will say nothing more
        self.closing = False  # nothing more will be given to it
        self.shut = False
        self._watched = 0
        self.peer = self

    def watch(self) -> None:
        """Listen to what can be made use of now, and to nothing else."""
        wanted = 0
        if not self.ended and len(self.peer.waiting) < _ROOM:
            wanted |= selectors.EVENT_READ
        if self.waiting:
            wanted |= selectors.EVENT_WRITE
        if wanted and self._watched:
            self._selector.modify(self.sock, wanted, self.ready)
        elif wanted:
            self._selector.register(self.sock, wanted, self.ready)
        elif self._watched:
            self._selector.unregister(self.sock)
        self._watched = wanted

    def ready(self, mask: int) -> None:
        """Move what can be moved."""
        try:
            if mask & selectors.EVENT_READ:
                self._read()
            if mask & selectors.EVENT_WRITE:
                self.write()
        except BlockingIOError:
            pass
        except OSError:
            return self.drop()
        if self.shut and self.peer.shut:
            return self.drop()
        self.watch()
        self.peer.watch()
        return None

    def _read(self) -> None:
        data = self.sock.recv(65536)
        if data:
            self.peer.waiting += data
        else:
            self.ended = self.peer.closing = True
        self.peer.write()

    def write(self) -> None:
        """Give what waits; when that was all there will ever be, say so."""
        with suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: self.sock.send(self.waiting)]
        if self.closing and not self.waiting and not self.shut:
            self.shut = True
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Close both."""
        for end in (self, self.peer):
            if end._watched:
                end._selector.unregister(end.sock)
                end._watched = 0
            end.sock.close()


class Bridge:
    """Listens on 127.0.0.1:`port` (0: any that is free) and forwards each connection to the unix socket at `path`."""

    def __init__(self, selector: selectors.BaseSelector, path: str, port: int) -> None:
        self._selector, self._path = selector, path
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, mask: int) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            gateway = socket.socket(socket.AF_UNIX)
            try:
                gateway.settimeout(_PATIENCE)
                gateway.connect(self._path)
            except OSError:  # the gateway is gone: the client sees its connection closed
                gateway.close()
                client.close()
                return
            near, far = _End(client, self._selector), _End(gateway, self._selector)
            near.peer, far.peer = far, near
            for end in (near, far):
                end.sock.setblocking(False)
                end.watch()
