"""The rule sets of the agents that we have met, each found by recording an episode twice and looking what differs.

A set holds from the agent's version named in `since` on, until a newer set of that agent. An agent without a set, or an
older version than any, gets GENERIC: what is safe to leave out of any request.
"""

from __future__ import annotations

import re

from onward.gateway.normalisers.rules import Rule, Rules

__all__ = ["AGENTS", "GENERIC", "rules_for"]

_DELIVERY = Rule("delivery", "drop", ("stream", "stream_options"))
"""How an answer is to come is no part of what is asked: SDKs fall back from a stream to a whole answer."""

_SORT = Rule("parallel-results", "sort")
"""Results of parallel tools and sub-agents come in the order in which they were done."""

_CACHE = Rule(
    "cache-marks",
    "drop",
    (
        "system[*].cache_control", "messages[*].content[*].cache_control", "tools[*].cache_control",
        "messages[*].content[*].content[*].cache_control",
    ),
)  # fmt: skip
"""Sits on the last user block, so it moves from request to request, and breaks the chain from one to the next."""

_CACHE_KEY = Rule("cache-key", "drop", ("prompt_cache_key",))
_USER_ID = Rule("user-id", "drop", ("metadata.user_id",))
_CLIENT = Rule("client-metadata", "drop", ("client_metadata",))

_GEMINI_IDS = Rule(
    "call-ids", "alias", ("contents[*].parts[*].functionCall.id", "contents[*].parts[*].functionResponse.id"),
    r"^[\w.:-]+_\d{13}_\d+$", "call", "_",
)  # fmt: skip
"""`write_file_1795248000000_0`: minted by the agent where the provider sends no id."""


def _skill_places(*paths: str) -> Rule:
    """Where a skill lies: below the agent's own installation, or in one of several folders that all have it."""
    return Rule(
        "skill-places", "mask", paths, r"(<location>)[^<]*(/[^/<]+/SKILL\.md</location>)", r"\1PLACE\2", "<location>"
    )


_GEMINI_SKILLS = (
    _skill_places("systemInstruction.parts[*].text"),
    Rule("skills", "order", ("systemInstruction.parts[*].text",), r"(?s)<skill>.*?</skill>", where="<skill>"),
    Rule("skills", "order", ("tools[*].functionDeclarations[*].parametersJsonSchema.properties.name.enum",)),
    Rule(
        "skills", "mask", ("tools[*].functionDeclarations[*].description",),
        r"( \(Available: )'.*?'\)", r"\1SKILLS)", " (Available: '",
    ),
)  # fmt: skip
"""gemini-cli reads its skills' folders all at once, and tells of them in the order in which the reads came back: on a
busy machine not the same one each time. In the description they are named a third time."""

_DAY = r"(?:[A-Z][a-z]+,? )?(?:\d{4}[-/]\d\d?[-/]\d\d?|[A-Z][a-z]{2,8} \d{1,2},? \d{4})"
"""A day, as agents write it: 2026-11-21, Saturday, November 21, 2026, Sat Nov 21 2026."""


def _date(*paths: str) -> Rule:
    return Rule(
        "date", "mask", paths, rf"((?i:today's date(?: is|:)|current date(?: is|:)) ){_DAY}", r"\1DATE", " date"
    )


_FIRST_WORDS = (
    "system", "system[*].text", "instructions", "systemInstruction.parts[*].text",
    "messages[0].content", "messages[0].content[*].text", "messages[1].content", "messages[1].content[*].text",
    "input[0].content", "input[0].content[*].text", "input[1].content[*].text",
    "contents[0].parts[*].text",
)  # fmt: skip
"""Where an agent's own preamble stands. Dates further on are the conversation's, and count."""


def _kernel(before: str, pattern: str, after: str = "") -> Rule:
    return Rule(
        "kernel", "mask", _FIRST_WORDS, rf"({before}){pattern}({after})", r"\1KERNEL\2", before.partition("\\")[0]
    )


_CLAUDE_KERNEL = _kernel("OS Version: ", r"[^\n]+")
_MINI_KERNEL = _kernel("<system_information>", "[^<]*", "</system_information>")
_OPENHANDS_KERNEL = _kernel(r"User operating system: \w+ \(kernel ", r"[^)\n]*")
"""Which Linux it is: a run goes on where it was copied to, and after an upgrade."""

_LISTING = tuple(
    Rule(
        "listing-times", "mask",
        (
            "messages[*].content", "messages[*].content[*].text", "messages[*].content[*].content",
            "messages[*].content[*].content[*].text", "input[*].output", "input[*].output[*].text",
            "contents[*].parts[*].functionResponse.response.output",
        ),
        r"([-dlcbps](?:(?<![\w.-].)|(?<=\\n.))(?:[-r][-w][-xsStT]){3}[.+@]? +\d+ +\S+ +\S+ +[\d.,]+[KMGT]?(?: +\d+)? +)"
        r"(?:[A-Z][a-z]{2} +\d{1,2} +(?:\d\d:\d\d|\d{4})"
        r"|\d{4}-\d\d-\d\d \d\d:\d\d(?::[\d.]+)?(?: [-+]\d{4})?)(?= )",
        r"\1TIME", where,
    )
    for where in ("rw-", "rwx")
)  # fmt: skip
"""When the files were made that `ls -l` lists: each attempt makes its own, and most agents look first of all."""

_CLAUDE_BACKGROUND, _GEMINI_BACKGROUND = "run_in_background", "is_background"

GENERIC = Rules(
    "generic", "0",
    (
        _DELIVERY, _CACHE, _CACHE_KEY, _USER_ID, _CLIENT, _date(*_FIRST_WORDS), _GEMINI_IDS, *_GEMINI_SKILLS,
        _CLAUDE_KERNEL, _MINI_KERNEL, _OPENHANDS_KERNEL, *_LISTING, _SORT,
    ),
    edition=2,
    background=(_CLAUDE_BACKGROUND, _GEMINI_BACKGROUND),
)  # fmt: skip

_CLAUDE_TEXTS = (
    "messages[*].content[*].text", "messages[*].content[*].content", "messages[*].content[*].content[*].text",
)  # fmt: skip

_CLAUDE_CODE = Rules(
    "claude-code", "2.1.197",
    (
        _DELIVERY,
        _USER_ID,
        _CACHE,
        Rule("text-as-block", "block", ("messages[*].content",)),
        _date("messages[0].content[*].text"),
        _CLAUDE_KERNEL,
        Rule("agent-ids", "alias", _CLAUDE_TEXTS, r"agentId: ([0-9a-z]{6,})", "agent", where="agentId: "),
        Rule("agent-ids", "alias", _CLAUDE_TEXTS, r"<task-id>([0-9a-z]{6,})", "agent", where="<task-id>"),
        Rule(
            "agent-ids", "alias", _CLAUDE_TEXTS, r"SendMessage with to: '([0-9a-z]{6,})'", "agent",
            where="SendMessage with to: ",
        ),
        Rule("agent-usage", "mask", _CLAUDE_TEXTS, r"(<usage>[^<]*duration_ms: )\d+", r"\1MS", "duration_ms: "),
        *_LISTING,
        _SORT,
    ),
    edition=3,
    background=(_CLAUDE_BACKGROUND,),
)  # fmt: skip

_CODEX = Rules(
    "codex", "0.169.0",
    (
        _DELIVERY,
        _CLIENT,
        _CACHE_KEY,
        Rule("item-ids", "drop", ("input[*].id",)),
        Rule(
            "chunk-id", "mask", ("input[*].output", "input[*].output[*].text"),
            r"(Chunk ID: )\w+", r"\1ID", "Chunk ID: ",
        ),
        Rule(
            "wall-time", "mask", ("input[*].output", "input[*].output[*].text"),
            r"(Wall time: )[\d.]+( seconds)", r"\1TIME\2", "Wall time: ",
        ),
        Rule(
            "date", "mask", ("input[*].content[*].text",),
            r"<(current_date|timezone)>[^<]*</\1>", r"<\1>DATE</\1>", "<current_date>",
        ),
        *_LISTING,
        _SORT,
    ),
    edition=2,
)  # fmt: skip

_GEMINI_CLI = Rules(
    "gemini-cli", "0.61.0",
    (
        _DELIVERY,
        _GEMINI_IDS,
        Rule(
            "process-group", "mask", ("contents[*].parts[*].functionResponse.response.output",),
            r"(Process Group PGID: )\d+", r"\1PGID", "Process Group PGID: ",
        ),
        _date("contents[0].parts[*].text"),
        *_GEMINI_SKILLS,
        *_LISTING,
        _SORT,
    ),
    edition=2,
    background=(_GEMINI_BACKGROUND,),
)  # fmt: skip

_OPENCODE = Rules(
    "opencode", "1.18.33",
    (
        _DELIVERY,
        _date("messages[*].content", "messages[*].content[*].text", "system[*].text", "instructions"),
        # Of a skill that lies in several folders (.claude, .agents, its own) it takes the one that it read last.
        _skill_places("messages[0].content", "messages[0].content[*].text", "system[*].text", "instructions"),
        *_LISTING,
        _SORT,
    ),
    edition=2,
)  # fmt: skip

_MINI = Rules("mini-swe-agent", "2.4.6", (_DELIVERY, _MINI_KERNEL, *_LISTING, _SORT), edition=2)
_AIDER = Rules("aider", "0.86.2", (_DELIVERY,))

_OPENHANDS_FIRST = ("messages[0].content[*].text", "system[*].text")
_OPENHANDS = Rules(
    "openhands", "1.16.0",
    (
        _DELIVERY,
        _CACHE_KEY,
        Rule(
            "date", "mask", ("messages[*].content", "messages[*].content[*].text"),
            r"((?i:current date and time is):? )\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?", r"\1DATE",
            "urrent date and time is",
        ),
        _OPENHANDS_KERNEL,
        # It tells of skills, and of files such as AGENTS.md, in the order in which the disk lists them.
        Rule("skills", "order", _OPENHANDS_FIRST, r"(?s)<skill>.*?</skill>", where="<skill>"),
        Rule("context-files", "order", _OPENHANDS_FIRST, r"(?s)\[BEGIN context.*?\[END Context\]", where="[BEGIN c"),
        *_LISTING,
        _SORT,
    ),
    edition=2,
)  # fmt: skip

AGENTS: tuple[Rules, ...] = (_CLAUDE_CODE, _CODEX, _GEMINI_CLI, _OPENCODE, _MINI, _AIDER, _OPENHANDS)
"""All sets; several of one agent stand side by side, told apart by `since`."""


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def rules_for(agent: str, version: str = "", sets: tuple[Rules, ...] = AGENTS) -> Rules:
    """The newest set that holds for this version; the newest of all where no version is known; else GENERIC."""
    held = [one for one in sets if one.agent == agent and (not version or _order(one.since) <= _order(version))]
    return max(held, key=lambda one: (_order(one.since), one.edition), default=GENERIC)
