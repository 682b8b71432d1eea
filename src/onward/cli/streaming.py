"""`--stream`: text and calls as they arrive, one conversation at a time, however many are under way. Of agents, whose
conversations are long and side by side, a line for each exchange."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from onward.cli.words import joined, money
from onward.episode import Told
from onward.keys import Key
from onward.progress import Event
from onward.report.trajectory import exchange_line
from onward.views.trajectory_lanes import Lanes
from onward.views.trajectory_turns import passed

__all__ = ["Stream"]


class Stream:
    """One call has the floor and is shown as it comes; the others wait, and follow as a whole when it has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._floor: Key | None = None
        self._waiting: dict[Key, list[str]] = {}
        self._ended: dict[Key, str] = {}
        self._lines: list[Text] = []
        self._lanes: dict[Key, Lanes] = {}
        self._usd: dict[Key, float] = {}
        self._midway = False
        """Whether a line is begun that does not end yet."""

    def line(self, text: Text) -> None:
        """A line between conversations: while one has the floor, it waits."""
        self._lines.append(text)
        if self._floor is None:
            self._told()

    def asked(self, event: Event) -> None:
        """A call of an agent's has its result: what it cost is told with what was said; that it failed, here."""
        if event.type == "step.failed" and event.detail:
            name = _named(event.key)
            self.line(Text(f"{name} · {event.outcome} · {event.detail.get('reason', '')}", style="yellow"))
        elif event.usd is not None:
            self._usd[event.key] = event.usd

    def exchange(self, told: Told) -> None:
        """An agent has an answer."""
        found = passed(told)
        place = self._lanes.setdefault(told.key.parent, Lanes()).place(told.key, found.spoken)
        found.turn.usd = self._usd.pop(told.key, None)
        said = exchange_line(_named(told.key), place, found.turn, self._console.width)
        self.line(Text(said, style="dim" if told.level else ""))

    def settled(self, trial: Key) -> None:
        """Nothing more comes of this trial."""
        for step in [step for step in self._lanes if trial.covers(step)]:
            del self._lanes[step]

    def pause(self) -> None:
        """Something is said that does not wait: it begins a line."""
        if self._midway:
            self._console.print()
            self._midway = False

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

    def _told(self) -> None:
        for line in self._lines:
            self._console.print(line, soft_wrap=True, highlight=False)
        self._lines.clear()

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
        self._midway = not text.endswith("\n")

    def _close(self, said: str) -> None:
        self._floor, self._midway = None, False
        self._console.print(Text(f"\n   {said}", style="dim"), highlight=False)
        self._told()


def _named(exchange: Key) -> str:
    """The trial that an exchange is of; with its sample, where that is not the only one."""
    names = exchange.split("/")
    return "/".join(names[:3] if names[4:5] == ["0"] else names[:5])
