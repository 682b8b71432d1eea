"""Rules: what must not count when an agent's request is compared with a recorded one. Data, named and versioned.

    drop    leaves the value at a path out (a key whose presence varies must be dropped, not masked)
    mask    replaces what a pattern finds in the text at a path
    alias   replaces each different text that a pattern finds by a name for it, numbered by first appearance
    block   a text at a path becomes one text block: some agents write either
    order   puts in order what a pattern finds in the text at a path, or the items of the list there: sets are told of
            as they were found
    sort    puts parallel tool results in the order of their calls, before all else

They serve the match alone: a normalised body is a new value that nobody stores, serves or sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from operator import is_
from typing import Any, Literal, get_args

from onward.errors import UsageError
from onward.fingerprint import canonical, digest_of
from onward.gateway.bodies import Said
from onward.gateway.normalisers.paths import GONE, Act, Known, Memory, Place, places, rewritten
from onward.protocols.turns import FORMS

__all__ = ["Rule", "Rules", "normalised", "rules_from"]

Action = Literal["drop", "mask", "alias", "block", "order", "sort"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `becomes` is what a mask puts in (with \\1 for groups), or what an alias's number is hung on.

    An alias stands for the first group, else for all that is found; rules of one name share their numbers.
    """

    name: str
    action: Action
    paths: tuple[str, ...] = ()
    pattern: str = ""
    becomes: str = ""
    where: str = ""
    """Only texts that hold this are searched: the pattern stays slow, and a request stays fast."""

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise UsageError(f"rule {self.name}: {self.action!r} is not one of {', '.join(get_args(Action))}")
        if (self.action == "sort") == bool(self.paths):
            raise UsageError(f"rule {self.name}: {self.action} takes {'no paths' if self.paths else 'paths'}")
        if self.action != "order" and (self.action in ("mask", "alias")) != bool(self.pattern):
            raise UsageError(f"rule {self.name}: mask and alias take a pattern, order may, the others do not")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UsageError(f"rule {self.name}: {self.pattern!r} is no regular expression: {error}") from None
        places((path, _kept) for path in self.paths)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for an agent, from one of its versions on. `edition` rises when we change the set for that version."""

    agent: str
    since: str
    rules: tuple[Rule, ...]
    edition: int = 1
    background: tuple[str, ...] = ()
    """Arguments of its tools that, being true, start what goes on beside the conversation: a sub-agent, a command. What
    the one finds of the other's work is then a matter of timing, which no record brings back."""

    @property
    def name(self) -> str:
        """`claude-code@2.1.197/1`: what a trial's result says it was matched with."""
        return f"{self.agent}@{self.since}/{self.edition}"

    @property
    def digest(self) -> str:
        """A hash of what the rules say."""
        return digest_of([asdict(rule) for rule in self.rules])


def rules_from(data: Mapping[str, Any]) -> Rules:
    """Rules written as JSON or YAML: `agent`, `since`, `rules` (`name`, `action`, `paths`, …), `background`.
    Raises UsageError."""
    try:
        made = tuple(Rule(**{**rule, "paths": tuple(rule.get("paths", ()))}) for rule in data["rules"])
        beside = tuple(map(str, data.get("background", ())))
        return Rules(str(data["agent"]), str(data["since"]), made, int(data.get("edition", 1)), beside)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"these are no rules: {error!r}") from None


def _kept(value: Any, memory: Memory) -> Any:
    return value


def _gone(value: Any, memory: Memory) -> Any:
    return GONE


def _block(value: Any, memory: Memory) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def _mask(rule: Rule, pattern: re.Pattern[str]) -> Act:
    def act(value: Any, memory: Memory) -> Any:
        if not isinstance(value, str) or rule.where not in value:
            return value
        return pattern.sub(rule.becomes, value)

    return act


def _alias(rule: Rule, pattern: re.Pattern[str]) -> Act:
    group = 1 if pattern.groups else 0

    def act(value: Any, memory: Memory) -> Any:
        if not isinstance(value, str) or rule.where not in value:
            return value

        def alias(found: re.Match[str]) -> str:
            given = memory.setdefault(rule.name, {})
            name = given.setdefault(found[group], f"{rule.becomes}#{len(given) + 1}")
            start, stop = found.start(group) - found.start(), found.end(group) - found.start()
            return found[0][:start] + name + found[0][stop:]

        return pattern.sub(alias, value)

    return act


def _order(rule: Rule) -> Act:
    if not rule.pattern:
        return _ordered
    pattern = re.compile(rule.pattern)

    def act(value: Any, memory: Memory) -> Any:
        if not isinstance(value, str) or rule.where not in value:
            return value
        found = [one[0] for one in pattern.finditer(value)]
        ordered = sorted(found)
        if found == ordered:
            return value
        following = iter(ordered)
        return pattern.sub(lambda _: next(following), value)

    return act


def _ordered(value: Any, memory: Memory) -> Any:
    if not isinstance(value, list):
        return value
    ordered = sorted(value, key=canonical)
    return value if all(map(is_, ordered, value)) else ordered


def _act(rule: Rule) -> Act:
    if rule.action == "drop":
        return _gone
    if rule.action == "block":
        return _block
    if rule.action == "order":
        return _order(rule)
    pattern = re.compile(rule.pattern)
    return _mask(rule, pattern) if rule.action == "mask" else _alias(rule, pattern)


@lru_cache(maxsize=256)
def _tree(rules: Rules) -> tuple[Place, bool]:
    pairs = [(path, _act(rule)) for rule in rules.rules if rule.action != "sort" for path in rule.paths]
    return places(pairs), any(rule.action == "sort" for rule in rules.rules)


def normalised(protocol: str, body: Mapping[str, Any], rules: Rules, said: Sequence[Known] = ()) -> Mapping[str, Any]:
    """The body as the match sees it. A new value, sharing with the old one whatever no rule changed. `said`: the
    messages of the body, where what they become is remembered; always under the same rules."""
    tree, sorts = _tree(rules)
    form = FORMS[protocol]
    if sorts:  # first, so that ids are numbered in an order that is the conversation's and not the tools'
        messages = form.messages(body)
        ordered = form.in_order(messages)
        if ordered is not messages:
            body = {**body, form.history: list(ordered)}
            known = {id(one.value): one for one in said}
            said = [known.get(id(one)) or Said(one) for one in ordered] if said else ()
    return rewritten(body, tree, {}, {form.history: said} if said else {})  # type: ignore[no-any-return]
