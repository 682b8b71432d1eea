"""What passes between a sandbox and its owner: a line of JSON and some bytes, each with its length before it.

Used on both sides, hence by itself: inside there is the standard library of some Python and nothing else.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

__all__ = ["CHUNK", "Frames", "pack", "send"]

CHUNK = 256 * 1024
_HEAD = struct.Struct("!II")
_MOST = 64 << 20  # what comes out of a sandbox is not trusted, not even its lengths


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(header).encode()
    return _HEAD.pack(len(text), len(body)) + text + body


def send(fd: int, header: dict[str, Any], body: bytes = b"") -> None:
    """Write one frame, waiting for whoever reads."""
    view = memoryview(pack(header, body))
    while view:
        view = view[os.write(fd, view) :]


class Frames:
    """Bytes in, whole frames out. Raises ValueError on what is no frame."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """Take these bytes; return the frames that are whole now."""
        self._bytes += data
        whole = []
        while len(self._bytes) >= _HEAD.size:
            text, body = _HEAD.unpack_from(self._bytes)
            if text + body > _MOST:
                raise ValueError("a frame is too long")
            end = _HEAD.size + text + body
            if len(self._bytes) < end:
                break
            header = json.loads(self._bytes[_HEAD.size : _HEAD.size + text])
            if not isinstance(header, dict):
                raise ValueError("a frame's header is no object")
            whole.append((header, bytes(self._bytes[_HEAD.size + text : end])))
            del self._bytes[:end]
        return whole
