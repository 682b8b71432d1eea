"""The first-run benchmark: word problems made from a seed, so that every filter works with no download.

Task number n depends on the seed and n alone, on every machine and in every version: a larger size extends a smaller
one, and a golden test pins the texts. Numbers are drawn from SHA-256 in counter mode, because the standard library
does not promise that `random` draws the same in another version.

Levels are the steps that a solution takes (1 to 3); level 3 also mentions a number that does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from onward.errors import SpecError
from onward.tasks.source import generated
from onward.tasks.task import Attachment, Task

__all__ = ["CATEGORIES", "ArithmeticSource"]

T = TypeVar("T")
VERSION = 1


class _Draw:
    """A stream of numbers that is the same everywhere."""

    def __init__(self, *parts: object) -> None:
        self._seed = "\n".join(map(str, ("onward arithmetic", VERSION, *parts))).encode()
        self._count = 0

    def below(self, limit: int) -> int:
        """0 <= n < limit, without bias: the few values above the largest multiple are drawn again."""
        while True:
            block = sha256(self._seed + b"\n" + str(self._count).encode()).digest()
            self._count += 1
            value = int.from_bytes(block[:8], "big")
            if value < 2**64 - 2**64 % limit:
                return value % limit

    def between(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return low + self.below(high - low + 1)

    def one(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[self.below(len(options))]


_NAMES = ("Ada", "Bruno", "Chen", "Dina", "Emil", "Fatou", "Goran", "Hana", "Ivo", "Jun")
_THINGS = ("apples", "books", "buttons", "coins", "marbles", "pencils", "shells", "stamps")

Problem = tuple[str, int | float, tuple[Attachment, ...]]


def _addition(draw: _Draw, level: int) -> Problem:
    who, what = draw.one(_NAMES), draw.one(_THINGS)
    a, b, c, d = (draw.between(3, 40 * level) for _ in range(4))
    if level == 1:
        return f"{who} has {a} {what} and finds {b} more. How many {what} does {who} have now?", a + b, ()
    if level == 2:
        story = f"{who} has {a} {what}, finds {b} more on Monday and {c} more on Tuesday."
        return f"{story} How many {what} does {who} have now?", a + b + c, ()
    story = f"{who}, who is {draw.between(8, 16)} years old, has {a} {what}. {who} finds {b}, then {c}, then {d} more."
    return f"{story} How many {what} does {who} have now?", a + b + c + d, ()


def _subtraction(draw: _Draw, level: int) -> Problem:
    who, other, what = draw.one(_NAMES[:5]), draw.one(_NAMES[5:]), draw.one(_THINGS)
    b, c, d = (draw.between(2, 15 * level) for _ in range(3))
    a = b + c + d + draw.between(1, 30)
    if level == 1:
        return f"{who} had {a} {what} and gave {b} of them to {other}. How many {what} are left?", a - b, ()
    if level == 2:
        story = f"{who} had {a} {what}, gave {b} of them to {other} and lost {c}."
        return f"{story} How many {what} are left?", a - b - c, ()
    story = f"{who} had {a} {what} in {draw.between(2, 6)} boxes, gave {b} to {other}, lost {c} and sold {d}."
    return f"{story} How many {what} are left in all?", a - b - c - d, ()


def _multiplication(draw: _Draw, level: int) -> Problem:
    what = draw.one(_THINGS)
    a, b, c = draw.between(2, 6 + 3 * level), draw.between(3, 9 + 3 * level), draw.between(2, 6)
    extra = draw.between(2, 30)
    if level == 1:
        return f"There are {a} boxes with {b} {what} in each. How many {what} are there?", a * b, ()
    if level == 2:
        story = f"There are {a} boxes with {b} {what} in each, and {extra} {what} on the table."
        return f"{story} How many {what} are there?", a * b + extra, ()
    story = f"Each of {c} shelves, {draw.between(50, 90)} cm wide, carries {a} boxes with {b} {what} in each."
    return f"{story} Another {extra} {what} lie on the table. How many {what} are there?", a * b * c + extra, ()


def _percent(draw: _Draw, level: int) -> Problem:
    share, base = draw.one((5, 10, 20, 25, 50)), 100 * draw.between(1, 6 * level)
    part = base * share // 100
    if level == 1:
        return f"What is {share} percent of {base}?", part, ()
    if level == 2:
        story = f"A coat costs ${base}. Its price falls by {share} percent."
        return f"{story} What is the new price, in $?", base - part, ()
    fee = draw.between(2, 20)
    story = f"A coat of size {draw.between(36, 48)} costs ${base}. Its price falls by {share} percent."
    question = f"Sending a coat costs ${fee} more. What do two such coats cost with their sending, in $?"
    return f"{story} {question}", 2 * (base - part + fee), ()


def _time(draw: _Draw, level: int) -> Problem:
    hours, minutes, stop = draw.between(2, 4 + level), 5 * draw.between(1, 11), 5 * draw.between(1, 8)
    total = 60 * hours + minutes
    if level == 1:
        return f"A film runs for {hours} hours and {minutes} minutes. How many minutes is that?", total, ()
    if level == 2:
        story = f"A train runs for {hours} hours and {minutes} minutes, with a stop of {stop} minutes on top."
        return f"{story} How many minutes does the journey take?", total + stop, ()
    trips = draw.between(2, 5)
    story = f"Train {draw.between(100, 999)} runs for {hours} hours and {minutes} minutes, then stands {stop} minutes."
    return f"{story} It does so {trips} times. How many minutes does that take?", trips * (total + stop), ()


def _money(draw: _Draw, level: int) -> Problem:
    who, count = draw.one(_NAMES), draw.between(2, 4 + 2 * level)
    cents = (20 if level == 3 else 25) * draw.between(2, 20)
    paid = 100 * (count * cents // 100 + draw.between(1, 10))
    story = f"A pen costs ${cents // 100}.{cents % 100:02d}. {who} buys {count} pens"
    if level == 1:
        return f"{story}. How many dollars does {who} pay?", count * cents / 100, ()
    if level == 2:
        story = f"{story} and pays with ${paid // 100}."
        return f"{story} How many dollars does {who} get back?", (paid - count * cents) / 100, ()
    friends = draw.one((2, 4, 5))
    story = f"{story} and a bag for ${friends}.00, {draw.between(3, 9)} days before a trip."
    question = f"{friends} friends share the cost equally. How many dollars does each pay?"
    return f"{story} {question}", (count * cents // friends + 100) / 100, ()


def _files(draw: _Draw, level: int) -> Problem:
    rows = [(thing, draw.between(2, 20 * level), draw.between(1, 9)) for thing in _THINGS[: 3 + level]]
    story = "The attached file stock.csv lists a shop's stock"
    table = "item,count,price\n" + "".join(f"{thing},{count},{price}\n" for thing, count, price in rows)
    file = generated("stock.csv", table.encode())
    thing, count, price = draw.one(rows)
    if level == 1:
        return f"{story}. How many {thing} are there?", count, (file,)
    if level == 2:
        return f"{story} with prices in $. What are all {thing} worth together, in $?", count * price, (file,)
    worth = sum(count * price for _, count, price in rows)
    return f"{story} with prices in $. What is all of it worth, in $?", worth, (file,)


_MAKERS: Mapping[str, Callable[[_Draw, int], Problem]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "multiplication": _multiplication,
    "percent": _percent,
    "time": _time,
    "money": _money,
    "files": _files,
}
CATEGORIES = tuple(_MAKERS)


class ArithmeticSource:
    """`size` word problems (default 200) of a `seed` (default 0). Raises SpecError for a size below 1."""

    name = "arithmetic"

    def __init__(self, size: int = 200, seed: int = 0) -> None:
        for option, value in (("size", size), ("seed", seed)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise SpecError(f"{option} is an integer, not {value!r}", field=f"tasks.{option}")
        if size < 1:
            raise SpecError(f"size is at least 1, not {size}", field="tasks.size")
        self.size, self.seed = size, seed

    @property
    def identity(self) -> Mapping[str, Any]:
        """Version and seed; the size is left out, as a limit is: a larger one extends."""
        return {"source": "arithmetic", "version": VERSION, "seed": self.seed}

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        for number in range(1, self.size + 1):
            draw = _Draw(self.seed, number)
            level, category = draw.between(1, 3), draw.one(CATEGORIES)
            text, target, files = _MAKERS[category](draw, level)
            target = int(target) if target == int(target) else target
            yield Task(f"{category}-{number:04d}", text, target, {"level": level, "category": [category]}, files)
