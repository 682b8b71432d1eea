"""`--checkpoint-file PATH`: a JSON of all results, kept up to date while a run goes. Whole at every moment."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onward.clock import SystemClock
from onward.episode import Told
from onward.errors import OnwardError, UsageError
from onward.keys import Key
from onward.progress import Event, Progress, Watch
from onward.runs import open_run

__all__ = ["Checkpoint", "write"]

_PAUSE = 1.0
_SHARE = 10.0
"""At most this part of the time goes into writing: after a write that took a second, ten of rest."""


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write beside and rename: a reader finds the old one or the new one, never half of one."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(document, stream, ensure_ascii=False, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


class Checkpoint:
    """A Watch around another. A thread of its own reads the journal and writes; the run never waits for it."""

    def __init__(self, inner: Watch, path: Path) -> None:
        if not path.absolute().parent.is_dir():
            raise UsageError(f"--checkpoint-file {path}: there is no folder {path.parent}")
        self._inner, self._path, self._clock = inner, path.absolute(), SystemClock()
        self._folder: Path | None = None
        self._dirty, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def say(self, line: str) -> None:
        """Pass it on."""
        self._inner.say(line)

    def begin(self, progress: Progress, facts: Mapping[str, Any]) -> None:
        """From here on there is a run to write about."""
        self._folder = Path(facts["folder"])
        self._inner.begin(progress, facts)
        self._dirty.set()
        self._thread.start()

    def event(self, event: Event) -> None:
        """Pass it on."""
        self._inner.event(event)

    def text(self, key: Key, text: str) -> None:
        """Pass it on."""
        self._inner.text(key, text)

    def exchange(self, told: Told) -> None:
        """Pass it on."""
        self._inner.exchange(told)

    def trial(self, key: Key, outcome: str, scores: Mapping[str, Any], output: Any) -> None:
        """Something is new."""
        self._inner.trial(key, outcome, scores, output)
        self._dirty.set()

    def end(self, facts: Mapping[str, Any]) -> None:
        """The last state, always."""
        self._over.set()
        self._dirty.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._folder is not None:
            self._write()
        self._inner.end(facts)

    def _keep(self) -> None:
        while not self._over.is_set():
            self._dirty.wait()
            self._dirty.clear()
            if self._over.is_set():
                return
            before = self._clock.ticks()
            self._write()
            self._over.wait(max(_PAUSE, _SHARE * (self._clock.ticks() - before)))

    def _write(self) -> None:
        """A checkpoint that cannot be written must not end a run: its journal is what counts."""
        from onward.formats.checkpoint import document

        assert self._folder is not None
        with suppress(OnwardError, OSError):
            run = open_run(self._folder)
            try:
                made = document(run)
            finally:
                run.close()
            write(self._path, made)
