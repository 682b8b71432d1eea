"""How content lies in a store: compressed where that makes it smaller, raw where it does not."""

from __future__ import annotations

import sys
import threading

from onward.errors import Damaged

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdError, decompress
else:
    from backports.zstd import ZstdCompressor, ZstdError, decompress

__all__ = ["MAGIC", "shrunk", "whole"]

MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of every zstd frame."""
_RAW = b"\x00"
"""Before content that is stored as it is, where its own first bytes could be taken for something else."""
_LEVEL = 9
_SMALL = 48
_local = threading.local()


def _compressor() -> ZstdCompressor:
    found: ZstdCompressor | None = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = ZstdCompressor(_LEVEL)
    return found


def shrunk(content: bytes) -> bytes:
    """Content as it is stored. The inverse of `whole`."""
    if len(content) >= _SMALL:
        small = _compressor().compress(content, ZstdCompressor.FLUSH_FRAME)
        if len(small) < len(content):
            return small
    return _RAW + content if content[:4] == MAGIC or content[:1] == _RAW else content


def whole(stored: bytes) -> bytes:
    """Content from what is stored. Raises Damaged where it cannot be restored."""
    if stored[:4] == MAGIC:
        try:
            return decompress(stored)
        except ZstdError as error:
            raise Damaged(f"stored content cannot be restored: {error}") from error
    return stored[1:] if stored[:1] == _RAW else stored
