"""How content lies in a store: made small where that is possible, as it is where it is not.

Most of what a journal holds is short and looks alike, so it is compressed against a dictionary of what such content
looks like; and digests, which JSON spells in hex, are first put back into bytes. The first byte says how it was done.
"""

from __future__ import annotations

import re
import sys
import threading

from onward.errors import Damaged

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor, ZstdDecompressor, ZstdDict, ZstdError
else:
    from backports.zstd import ZstdCompressor, ZstdDecompressor, ZstdDict, ZstdError

__all__ = ["shrunk", "whole"]

_AS_IT_IS, _SMALL, _SMALL_HEX = b"\x00", b"\x01", b"\x02"
_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of every zstd frame: not worth storing each time."""
_LEVEL = 9
_LEAST = 32

# What was compressed with this text can only be read with this text: it is never edited. A better one would get marks
# of its own. What is likeliest stands last, where references to it are shortest.
_ALIKE = ZstdDict(
    (
        b"the of and to in is that for it as was with be by on not he this are or his from at which but have an had "
        b"they "
        b"you were their one all we can her has there been if more when will would who so no What is the answer? "
        b"Please answer the following question. Think step by step. Answer: The final answer is \n\n```python\nimport "
        b"def return print(self, for in range( if else: None True False\n```\n"
        b'{"reason":"timed out","kind":"CallTransient","status":429}{"prefixes":[" "],"why":"'
        b'{"score":1.0,"correct":true,"explanation":"{"parsed":"{"origin":{"run":"","seq":1,"usd":0.0}'
        b'{"type":"function","function":{"name":"","description":"","parameters":{"type":"object","properties":{'
        b'"type":"string","required":[],"additionalProperties":false}}}'
        b'{"role":"tool","tool_call_id":"call_\x01","content":{"$text":"\x01"'
        b'"tool_calls":[{"id":"call_\x01","type":"function","function":{"name":"bash","arguments":"{\\"command\\": \\"'
        b'{"type":"tool_use","id":"toolu_","name":"","input":{"type":"tool_result","tool_use_id":"toolu_","content":['
        b'"id":"msg_","type":"message","role":"assistant","stop_reason":"end_turn","stop_sequence":null,"usage":{'
        b'"input_tokens":,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":'
        b'{"request":{"model":"gpt-claude-gemini-","max_tokens":4096,"temperature":0.7,"system":{"$text":"\x01"'
        b'"tools":{"$json":"\x01""stream":true,"seed":0,"top_p":1.0'
        b'"served_by":"","request_id":"req_","status":200,"headers":{"latency":0.,"finish":"stop"'
        b'{"value":{"text":{"$text":"\x01"},"response":{"id":"chatcmpl-\x01","object":"chat.completion","created":17'
        b',"model":"","choices":[{"index":0,"message":{"role":"assistant","content":{"$text":"\x01"'
        b',"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":'
        b',"completion_tokens":,"total_tokens":,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}}}}'
        b',"parts":{"agent":"\x02","image":"\x02","prompt":"\x02","task":"\x02","sampling":"\x02","upstream":"\x02","messages":"\x02"'
        b'{"provider":"openai","model":"","request":{"model":"","messages":{"$chain":"\x01","n":},"temperature":0.0}'
        b',"parts":{"model":"\x02","request":"\x02","seed":"\x02"}}'
        b'{"role":"system","content":"{"role":"assistant","content":{"$text":"\x01"}}{"role":"user","content":{"$text":"\x01"}}'
    ),
    is_raw=True,
)
_IN_HEX = re.compile(rb"([0-9a-f]{32})|([0-9a-f]{12})")
_IN_BYTES = re.compile(rb"\x01(.{16})|\x02(.{6})", re.DOTALL)
_SHAPE = bytes(ord("x") if letter in b"0123456789abcdef" else ord(" ") for letter in range(256))
_RUN = b"x" * 12
"""Most content has no digest in it, and to see that by its shape costs a tenth of what the search for one does."""
_local = threading.local()


def _compressor() -> ZstdCompressor:
    found: ZstdCompressor | None = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = ZstdCompressor(_LEVEL, zstd_dict=_ALIKE)
    return found


def _to_bytes(found: re.Match[bytes]) -> bytes:
    long, short = found.groups()
    return b"\x01" + bytes.fromhex(long.decode()) if long else b"\x02" + bytes.fromhex(short.decode())


def _to_hex(found: re.Match[bytes]) -> bytes:
    return (found[1] or found[2]).hex().encode()


def shrunk(content: bytes) -> bytes:
    """Content as it is stored. The inverse of `whole`."""
    if len(content) < _LEAST:
        return _AS_IT_IS + content
    mark, given = _SMALL, content
    if b"\x01" not in content and b"\x02" not in content and _RUN in content.translate(_SHAPE):
        given, mark = _IN_HEX.sub(_to_bytes, content), _SMALL_HEX
    small = _compressor().compress(given, ZstdCompressor.FLUSH_FRAME)
    return mark + small[4:] if len(small) - 4 < len(content) else _AS_IT_IS + content


def whole(stored: bytes) -> bytes:
    """Content from what is stored. Raises Damaged where it cannot be restored."""
    mark = stored[:1]
    if mark == _AS_IT_IS:
        return stored[1:]
    if mark not in (_SMALL, _SMALL_HEX):
        raise Damaged(f"stored content cannot be restored: it begins with {mark.hex()!r}")
    try:
        decompressor = ZstdDecompressor(zstd_dict=_ALIKE)
        content = decompressor.decompress(_MAGIC + stored[1:])
    except ZstdError as error:
        raise Damaged(f"stored content cannot be restored: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise Damaged("stored content cannot be restored: it is cut, or something stands behind it")
    return _IN_BYTES.sub(_to_hex, content) if mark == _SMALL_HEX else content
