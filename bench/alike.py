"""Makes the dictionary that journals compress with: what the content of journals is like.

    python bench/alike.py TARGET

It is trained on this repository's own sources, tests and pages, in pieces of 2 KB, for the texts that are exchanged
with models; and on small JSON: how exchanges in every wire format, calls and steps lie in a journal. The JSON stands
last, where references to it are shortest. What a journal of today was compressed with is `journal/alike.zdict`: it is
never made anew, for nothing could be read without it. A better one would be a second file, with marks of its own.
"""

from __future__ import annotations

import json
import random
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backports.zstd import ZstdDict, finalize_dict, train_dict

HERE = Path(__file__).resolve().parents[1]
PIECE = 2048
EXCHANGES = 160
TEXT, JSON, LEVEL = 28 * 1024, 8 * 1024, 9
MODELS = {
    "chat": ["gpt-5-mini", "m", "llama-3.3-70b-instruct"],
    "responses": ["gpt-5-codex", "gpt-5.1"],
    "messages": ["claude-sonnet-4-5-20250929", "claude-opus-4-1"],
    "gemini": ["gemini-2.5-pro", "gemini-2.5-flash"],
}
PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "google"}
USUAL = (
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
    b'{"provider":"openai","model":"","request":{"model":"","messages":{"$chain":"\x01"},"temperature":0.0}'
    b',"parts":{"model":"\x02","request":"\x02","seed":"\x02"}}'
    b'[{"role":"system","content":"[{"role":"assistant","content":{"$text":"\x01"}},{"role":"user","content":{"$text":"\x01"}}]'
)
"""What calls and steps have in common, the likeliest last. Before digests stand the bytes 1 and 2."""


def texts() -> Iterator[bytes]:
    """What people and models write: code and prose."""
    for pattern in ("src/**/*.py", "tests/**/*.py", "docs/**/*.md", "*.md"):
        for path in sorted(HERE.glob(pattern)):
            content = path.read_bytes()
            yield from (content[start : start + PIECE] for start in range(0, len(content) - 200, PIECE))


class Exchanges:
    """Recorded exchanges that never were: the same in every run of this script."""

    def __init__(self) -> None:
        self._chance = random.Random(7)

    def _hex(self, length: int = 24) -> str:
        return self._chance.randbytes(length // 2).hex()

    def _name(self, length: int = 24) -> str:
        return "".join(self._chance.choices(string.ascii_letters + string.digits, k=length))

    def _answer(self) -> Any:
        from onward.ask import Answer, Usage

        chance = self._chance
        read = chance.randrange(500, 90_000)
        used = Usage(read, chance.randrange(20, 2000), chance.choice([0, 0, read // 2]), chance.choice([0, 0, 300]))
        calls = [
            {"id": f"call_{self._name()}", "name": chance.choice(["bash", "read", "edit", "Bash", "shell"]),
             "arguments": chance.choice([{"command": self._name(12)}, {"path": self._name(9)}, {"cmd": ["sh", "-c"]}])}
        ]  # fmt: skip
        asks = chance.random() < 0.5
        return Answer(self._name(400), "tool" if asks else "stop", calls if asks else (), used)

    def _value(self, protocol: str, is_stream: bool, is_tight: bool, number: int) -> dict[str, Any]:
        from onward.protocols import PROTOCOLS

        wire, answer = PROTOCOLS[protocol], self._answer()
        response = wire.render(answer, self._chance.choice(MODELS[protocol]))
        for name in ("created", "created_at"):
            if name in response:
                response[name] = self._chance.randrange(1_750_000_000, 1_950_000_000)
        kept: dict[str, str] = {"content-type": "text/event-stream" if is_stream else "application/json"}
        if self._chance.random() < 0.5:
            kept["x-request-id" if protocol in ("chat", "responses") else "request-id"] = f"req_{self._name()}"
        value: dict[str, Any] = {"status": 200, "headers": kept}
        if is_stream:
            after = 300
            value["frames"] = frames = []
            for frame in wire.frames(response):
                after += self._chance.choice([0, 0, 0, 1, 13, 20])
                frames.append([after, tightened(frame.decode()) if is_tight else frame.decode()])
        else:
            value["body"] = json.dumps(response, separators=(",", ":") if is_tight else None)
        used = answer.usage
        value["usage"] = {"input": used.input, "output": used.output}
        value["order"] = [number, number + self._chance.randrange(1, 4)]
        return value

    def _talk(self) -> list[dict[str, Any]]:
        call = {"id": f"call_{self._name()}", "name": "bash", "arguments": {"command": self._name(300)}}
        return [
            {"role": "system", "content": self._name(400)},
            {"role": "user", "content": self._name(400)},
            {"role": "assistant", "content": self._name(300), "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": self._name(300)},
            {"role": "assistant", "content": self._name(300)},
            {"role": "user", "content": self._name(40)},
        ]

    def __iter__(self) -> Iterator[bytes]:
        from onward.entry import Entry, pack
        from onward.fingerprint import Fingerprint
        from onward.keys import Key
        from onward.protocols import PROTOCOLS

        for number in range(EXCHANGES):
            protocol, is_stream = self._chance.choice([*MODELS]), number % 2 == 0
            model = self._chance.choice(MODELS[protocol])
            request = {**PROTOCOLS[protocol].body(model, self._talk(), {}), "stream": is_stream}
            sent = {"provider": PROVIDERS[protocol], "protocol": protocol, "model": model, "request": request}
            value = self._value(protocol, is_stream, number % 4 < 2, number * 2)
            entries = (
                Entry("intent", Key.of("a"), "", sent),
                Entry(
                    "result", Key.of("a"), "", {"value": value}, fingerprint=Fingerprint.of(model=model, request=number)
                ),
            )
            for row, blobs in map(pack, entries):
                yield from (each for each in (*blobs.values(), row.body.encode()) if b'"' in each)


def tightened(frame: str) -> str:
    """A frame without spaces in its JSON."""
    head, data, rest = frame.partition("data: {")
    return head + "data: " + json.dumps(json.loads(data[-1] + rest), separators=(",", ":")) + "\n\n" if data else frame


def made() -> bytes:
    """The dictionary."""
    from onward.journal.blobs import without_hex

    small = [without_hex(content) for content in Exchanges()]
    large = list(texts())
    content = train_dict(large, TEXT).dict_content + train_dict(small, JSON).dict_content + USUAL
    size = len(content) + 4096  # the statistics of its letters
    return finalize_dict(ZstdDict(content, is_raw=True), [*large, *small], size, LEVEL).dict_content


def main() -> None:
    """Write it."""
    Path(sys.argv[1]).write_bytes(made())


if __name__ == "__main__":
    main()
