"""`--stream`: text and calls as they arrive, one conversation at a time, however many are under way."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from onward.cli.words import joined, money
from onward.keys import Key
from onward.progress import Event

__all__ = ["Stream"]


class Stream:
    """One call has the floor and is shown as it comes; the others wait, and follow as a whole when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._floor: Key | None = None
        self._waiting: dict[Key, list[str]] = {}
        self._ended: dict[Key, str] = {}

    def text(self, key: Key, text: str) -> None:
        """A piece of an answer."""
        if self._floor is None:
            self._take(key)
        if key == self._floor:
            self._write(text)
        else:
            self._waiting.setdefault(key, []).append(text)

    def ended(self, event: Event) -> None:
        """A call has its result, or will be tried again: what it said so far is closed."""
        key = event.key
        billed = event.tokens is not None
        cost = money(event.usd) if event.usd is not None else ""
        said = joined((event.outcome, f"{event.tokens:,} tokens" if event.tokens else "", cost))
        if key == self._floor:
            self._close(said)
            self._next()
        elif key in self._waiting:
            self._ended[key] = said
        elif billed and self._floor is None:
            self._take(key)
            self._close(said)

    def close(self) -> None:
        """No more comes."""
        if self._floor is not None:
            self._close("cut off")
        self._next()

    def _next(self) -> None:
        while self._floor is None and self._waiting:
            key = next(iter(self._waiting))
            pieces = self._waiting.pop(key)
            self._take(key)
            self._write("".join(pieces))
            if key in self._ended:
                self._close(self._ended.pop(key))

    def _take(self, key: Key) -> None:
        self._floor = key
        self._console.print(Text(f"── {key}", style="dim"), highlight=False)

    def _write(self, text: str) -> None:
        self._console.print(Text(text), end="", soft_wrap=True, highlight=False)
        self._console.file.flush()

    def _close(self, said: str) -> None:
        self._floor = None
        self._console.print(Text(f"\n   {said}", style="dim"), highlight=False)
