"""How content lies in a store: made small where that is possible, as it is where it is not.

Most of what a journal holds is short and looks alike, so it is compressed against a dictionary of what such content
looks like; and digests, which JSON spells in hex, are first put back into bytes. The first byte says how it was done.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from onward.errors import Damaged

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdDict, ZstdError
else:
    from backports.zstd import CompressionParameter, ZstdCompressor, ZstdDecompressor, ZstdDict, ZstdError

__all__ = ["shrunk", "whole", "without_hex"]

_AS_IT_IS, _SMALL, _SMALL_HEX = b"\x00", b"\x01", b"\x02"
_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of every zstd frame: not worth storing each time."""
_PLAIN: Mapping[int, int] = {CompressionParameter.compression_level: 1, CompressionParameter.content_size_flag: 0}
_ALIKE: Mapping[int, int] = {**_PLAIN, CompressionParameter.compression_level: 6, CompressionParameter.dict_id_flag: 0}
_LEAST = 32
_LONG = 512
"""Long content that does not shrink to half is mostly chance: what it has in common with other content only costs."""
_IN_BYTES = re.compile(rb"\x01(.{16})|\x02(.{6})", re.DOTALL)
_SHAPE = bytes(ord("x") if letter in b"0123456789abcdef" else ord(" ") for letter in range(256))
_RUN = b"x" * 12
"""The least digest, by its shape: runs of it are found in a tenth of the time that a pattern takes."""
_local = threading.local()


@cache
def _dictionary() -> ZstdDict:
    """What content looks like. What was compressed with it can only be read with it, so the file is never edited: a
    better one would be another file, with marks of its own (`bench/alike.py` made this one)."""
    return ZstdDict(Path(__file__).with_name("alike.zdict").read_bytes())


def _compressor() -> ZstdCompressor:
    found: ZstdCompressor | None = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = ZstdCompressor(options=_ALIKE, zstd_dict=_dictionary())
    return found


def _to_hex(found: re.Match[bytes]) -> bytes:
    return (found[1] or found[2]).hex().encode()


def without_hex(content: bytes) -> bytes:
    """Content with its digests in bytes, where it can have that form; else as it is."""
    if b"\x01" in content or b"\x02" in content:
        return content
    shape = content.translate(_SHAPE)
    start, at, pieces = shape.find(_RUN), 0, list[bytes]()
    while start >= 0:
        end = shape.find(b" ", start)
        end = len(shape) if end < 0 else end
        pieces.append(content[at:start])
        while end - start >= len(_RUN):
            size, mark = (32, b"\x01") if end - start >= 32 else (12, b"\x02")
            pieces.append(mark + bytes.fromhex(content[start : start + size].decode()))
            start += size
        at, start = start, shape.find(_RUN, end)
    return b"".join((*pieces, content[at:])) if pieces else content


def shrunk(content: bytes) -> bytes:
    """Content as it is stored. The inverse of `whole`."""
    if len(content) < _LEAST:
        return _AS_IT_IS + content
    given = without_hex(content)
    mark = _SMALL if given is content else _SMALL_HEX
    small = _compressor().compress(given, ZstdCompressor.FLUSH_FRAME)
    if len(given) >= _LONG and 2 * len(small) > len(given):
        small = min(small, ZstdCompressor(options=_PLAIN).compress(given, ZstdCompressor.FLUSH_FRAME), key=len)
    return mark + small[4:] if len(small) - 4 < len(content) else _AS_IT_IS + content


def whole(stored: bytes) -> bytes:
    """Content from what is stored. Raises Damaged where it cannot be restored."""
    mark = stored[:1]
    if mark == _AS_IT_IS:
        return stored[1:]
    if mark not in (_SMALL, _SMALL_HEX):
        raise Damaged(f"stored content cannot be restored: it begins with {mark.hex()!r}")
    try:
        decompressor = ZstdDecompressor(zstd_dict=_dictionary())
        content = decompressor.decompress(_MAGIC + stored[1:])
    except ZstdError as error:
        raise Damaged(f"stored content cannot be restored: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise Damaged("stored content cannot be restored: it is cut, or something stands behind it")
    return _IN_BYTES.sub(_to_hex, content) if mark == _SMALL_HEX else content
