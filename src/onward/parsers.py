"""From what a model said to a value: `fn(text, **options) -> JSON`.

A new parser is one function under `@parser(version=…)`. One that finds nothing raises ParseFailed (or any ValueError):
an answer that cannot be parsed is a failure of the thing under test, not of ours.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Iterator
from typing import Any

from onward.errors import Refused, StepFailed
from onward.fingerprint import canonical
from onward.functions import Function, Registry

__all__ = [
    "ParseFailed", "choice_letter", "code", "final_answer", "json", "last_number", "number_in", "parse", "parser",
    "regex", "text",
]  # fmt: skip

parser = Registry("parser", positional=1)
"""Decorator and registry: `@parser(version="1")`, `parser.resolve("last_number")`."""


class ParseFailed(StepFailed, ValueError):
    """The answer does not hold what the parser looks for. Recorded as `failed`, scored 0."""


def parse(function: Function, answer: Any) -> Any:
    """What a resolved parser makes of an answer: a JSON value that can be recorded.

    Raises ParseFailed if the answer is not text, if the parser finds nothing or raises ValueError, and if what it
    found is not JSON. Any other exception is a bug in the parser and comes out as it is.
    """
    if not isinstance(answer, str):
        raise ParseFailed(f"the answer is not text but {type(answer).__name__}", kind="parse")
    try:
        value = function.call(answer)
        canonical(value)
    except ParseFailed:
        raise
    except (ValueError, RecursionError) as error:
        raise ParseFailed(f"{function.name}: {error}", kind="parse") from error
    except Refused as error:
        raise ParseFailed(f"{function.name}: what it found cannot be recorded: {error}", kind="parse") from None
    return value


# ---------------------------------------------------------------- text and numbers


@parser(version="1")
def text(answer: str) -> str:
    """The answer as it stands, without white space around it."""
    return answer.strip()


_SIGN = "-+\u2212\u2013\ufe63\uff0d"
_NUMBER = re.compile(
    rf"""
    (?: (?<![\w)\]}}%{_SIGN}]) (?P<sign>[{_SIGN}]) )?      # a sign, unless it stands between two operands
    [$€£¥]? (?P<late>(?<=[$€£¥])[{_SIGN}])?                # -$5 and $-5
    (?: (?<![A-Za-z_0-9]) (?<![0-9]\.)                    # not inside a word, a version or another number
        (?P<digits>[0-9]{{1,3}}(?:[,\u00a0\u2009\u202f][0-9]{{3}})+(?![0-9]) | [0-9]+)
        (?P<fraction>\.[0-9]+)?
      | (?<![\w.]) (?P<bare>\.[0-9]+) )
    (?P<exponent>[eE][-+]?[0-9]+(?![A-Za-z0-9]))?
    """,
    re.VERBOSE,
)
_SPACE, _DIGIT = re.compile(r"[ \t\r\n]+"), re.compile(r"[0-9]")
_BRACES = re.compile(r"\\boxed\s*\{|[{}]")
_FRACTION = re.compile(
    rf"([{_SIGN}])?\s*(?:\\[dt]?frac\s*\{{([^{{}}]+)\}}\s*\{{([^{{}}]+)\}}|([0-9.,]+)\s*/\s*([0-9.,]+))"
)
_LATEX_SEPARATOR = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!;: ])(?=[0-9]{3})")
_LARGEST = 2**63
"""Beyond this an integer cannot be recorded as one, and becomes a float."""


def _value(match: re.Match[str]) -> int | float | None:
    plain = re.sub(r"[^0-9]", "", match["digits"] or "")
    fraction, exponent = match["fraction"] or match["bare"] or "", match["exponent"] or ""
    sign = -1 if (match["sign"] or match["late"] or "+") != "+" else 1
    if not fraction and not exponent and len(plain) < 20 and int(plain) < _LARGEST:
        return sign * int(plain)
    value = float(f"{plain or '0'}{fraction}{exponent}")
    return sign * value if value < float("inf") else None


def number_in(words: str) -> int | float | None:
    r"""The number that a text ends on, None if it holds none.

    The last `\boxed{}` that holds a number counts before all else (there a fraction has its value); then the last
    number. Read are 1,000 · $5 · -$5 · 3.5 · .5 · 25% (as 25) · 1e3 · 1{,}000 · U+2212 as minus. A dash between
    operands (16-3, 2020-12-25) is no sign; digits inside a word (H2O) or after a second point (1.2.3) are no number.
    """
    words = _LATEX_SEPARATOR.sub(",", words) if "\\" in words or "{,}" in words else words
    for _, inside in reversed(_boxes(words) if "\\boxed" in words else []):
        fraction = _FRACTION.fullmatch(inside.strip(" $"))
        if fraction:
            upper, lower = (number_in(part or "") for part in (fraction[2] or fraction[4], fraction[3] or fraction[5]))
            if upper is not None and lower:
                return upper / lower * (-1 if fraction[1] and fraction[1] != "+" else 1)
        found = _last(inside)
        if found is not None:
            return found
    return _last(words)


def _last(words: str) -> int | float | None:
    """No number holds a space of these, so only the last word with one is read closely: an answer may be huge."""
    for word in reversed(_SPACE.split(words)):
        if _DIGIT.search(word):
            read = [value for match in _NUMBER.finditer(word) if (value := _value(match)) is not None]
            if read:
                return read[-1]
    return None


def _boxes(words: str) -> list[tuple[int, str]]:
    r"""Where each `\boxed{…}` starts and what stands in it, braces balanced, the outermost of nested ones.

    One that is never closed (the answer was cut off) reaches to the end of its line. Takes one pass.
    """
    open_braces: list[tuple[int, int] | None] = []
    spans: list[tuple[int, int, int]] = []
    for match in _BRACES.finditer(words):
        if match[0] != "}":
            open_braces.append((match.start(), match.end()) if len(match[0]) > 1 else None)
        elif open_braces and (box := open_braces.pop()):
            while spans and spans[-1][0] > box[0]:
                spans.pop()
            spans.append((*box, match.start()))
    cut = next((box for box in reversed(open_braces) if box), None)
    if cut and (not spans or cut[0] > spans[-1][2]):
        end = words.find("\n", cut[1])
        spans.append((*cut, end if end >= 0 else len(words)))
    return [(start, words[inside:end]) for start, inside, end in spans]


@parser(version="1")
def last_number(answer: str) -> int | float:
    """The number that the answer ends on (see `number_in`)."""
    found = number_in(answer)
    if found is None:
        raise ParseFailed("the answer holds no number", kind="parse")
    return found


# ---------------------------------------------------------------- marked answers

_EMPHASIS = " \t*_`\"'“”"
_MARKER = re.compile(
    r"""
    (?: ^[ \t>*_\#]* \#{4} [ \t]*                                                   # GSM8K: #### 18
      | (?<![\w]) (?:final[ ]+)? answer [*_]* [ \t]* (?: (?:is|would[ ]be|:|=|：)[*_]*[ \t]*[:：]?[*_]* )
      | ^[ \t*_]* A [ \t]* : )
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_TAGGED = re.compile(r"<(final_answer|answer)>((?:(?!<\1>).)*?)</\1>", re.DOTALL | re.IGNORECASE)


def _bare(value: str) -> str:
    r"""A marked answer without emphasis, quotes, and dollar signs of LaTeX around it."""
    value = value.strip().strip(_EMPHASIS)
    if len(value) > 2 and value[0] == value[-1] == "$":
        value = value.strip("$").strip()
    boxed = _boxes(value)
    return boxed[-1][1].strip() if boxed else value


def _line_at(answer: str, start: int) -> str:
    """The rest of the line, or the next line that is not empty, if nothing but emphasis follows."""
    end = start
    while end < len(answer):
        end = answer.find("\n", start)
        end = len(answer) if end < 0 else end
        line = answer[start:end]
        if line.strip(_EMPHASIS + "\r"):
            return line
        start = end + 1
    return ""


def _marked(answer: str) -> Iterator[str]:
    """What a text marks as its answer, from the last mark backwards (at most 100: each may be as long as the text)."""
    tagged = {match.start(): match[2] for match in _TAGGED.finditer(answer)}
    boxed = dict(_boxes(answer))
    lines = {match.start(): match.end() for match in _MARKER.finditer(answer)}
    for start in sorted({*tagged, *boxed, *lines}, reverse=True)[:100]:
        if start in lines:
            value = _bare(_line_at(answer, lines[start]))
        else:
            value = _bare(tagged[start] if start in tagged else boxed[start])
        if value:
            yield value


@parser(version="1")
def final_answer(answer: str) -> str:
    r"""What the answer marks as its answer; the last mark wins.

    Marks, in any case: `FINAL ANSWER: x`, `Answer: x`, `the (final) answer is x`, a line `A: x`, `#### x`,
    `<answer>x</answer>`, `\boxed{x}`. x is the rest of the line (the next line that is not empty, if nothing follows),
    without Markdown emphasis and quotes; its punctuation stays.
    """
    for value in _marked(answer):
        return value
    raise ParseFailed('the answer marks no final answer (as in "FINAL ANSWER: …")', kind="parse")


def _check_letters(letters: str = "ABCDEFGHIJ") -> None:
    if not re.fullmatch("[A-Z]{2,}", letters):
        raise ValueError(f'letters must be capital letters, such as "ABCD", not "{letters}"')


@parser(version="1", check=_check_letters)
def choice_letter(answer: str, letters: str = "ABCDEFGHIJ") -> str:
    """The letter of the choice that the answer makes, one of `letters`.

    The last that is marked as the answer (see `final_answer`); else the last line that is a choice ("C", "(C)",
    "C. …"); else the last letter in parentheses; else the only capital that stands alone ("A dog": an article).
    """
    one = f"[{letters}]"
    for value in _marked(answer):
        chosen = rf"(?:option|choice)?[\s*_(\[{{]*(?:\\text\s*\{{)?\(?({one})(?![\w'’])(?! [a-z])"
        match = re.match(chosen, value, re.IGNORECASE)
        if match and (match[1].isupper() or len(value.strip(" ().*_")) == 1):
            return match[1].upper()
    tiers = (
        rf"^[ \t>*_]*\(?({one})[*_]*(?:[).:][^\n]*|[ \t*_]*)$",
        rf"\(({one})\)",
    )
    for tier in tiers:
        found = re.findall(tier, answer, re.MULTILINE)
        if found:
            return str(found[-1])
    alone = set(re.findall(rf"(?<![\w'’])({one})(?![\w'’])(?!(?<=[AI]) (?!(?:and|or|nor|is|but)\b)[a-z])", answer))
    if len(alone) == 1:
        return str(alone.pop())
    problem = "names several choices and marks none" if alone else f"names no choice of {letters[0]}-{letters[-1]}"
    raise ParseFailed(f"the answer {problem}", kind="parse")


# ---------------------------------------------------------------- structured answers

_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*\r?$|\Z)", re.DOTALL | re.MULTILINE
)
_LEAST_EFFORT = 1_000_000
"""Characters that the search for JSON may read in vain, ten times the answer's length aside."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@parser(version="1")
def json(answer: str) -> Any:
    """The first JSON value: the whole answer, else what stands in a fenced block, else the first object or list."""
    decoder = _json.JSONDecoder(strict=False, parse_constant=_no_constant)
    fenced = (match[3] for match in _FENCE.finditer(answer) if match[2].lower() in ("", "json", "jsonc", "json5"))
    for whole in (answer, *fenced):
        try:
            return decoder.decode(whole.strip())
        except (ValueError, RecursionError):
            continue
    effort = 10 * len(answer) + _LEAST_EFFORT
    for match in re.finditer(r"[{\[]", answer):
        try:
            return decoder.raw_decode(answer, match.start())[0]
        except _json.JSONDecodeError as error:
            effort -= error.pos - match.start() + error.pos // 16 + 1
        except (ValueError, RecursionError):
            effort -= _LEAST_EFFORT // 1000
        if effort < 0:
            break
    raise ParseFailed("the answer holds no JSON object or list", kind="parse")


def _check_pick(pick: str = "first", **_: Any) -> None:
    if pick not in ("first", "last"):
        raise ValueError(f'pick is "first" or "last", not "{pick}"')


@parser(version="1", check=_check_pick)
def code(answer: str, language: str = "", pick: str = "first") -> str:
    """What stands in a fenced block; with `language`, in one of that language, else in one that names none.

    `pick`: the first such block or the last. A block that is never closed reaches to the end.
    """
    blocks = [(match[2].lower(), match[3]) for match in _FENCE.finditer(answer)]
    fit = [body for tag, body in blocks if not language or tag == language.lower()]
    fit = fit or [body for tag, body in blocks if not tag]
    if not fit:
        raise ParseFailed(f"the answer holds no block of {language or 'code'}", kind="parse")
    return fit[0 if pick == "first" else -1]


def _check_regex(pattern: str, group: int | str | None = None, pick: str = "first") -> None:
    _check_pick(pick)
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f'the pattern "{pattern}" is not a regular expression: {error}') from None
    if group is not None and group not in compiled.groupindex and group not in range(compiled.groups + 1):
        raise ValueError(f'the pattern "{pattern}" has no group {group}')


@parser(version="1", check=_check_regex)
def regex(answer: str, pattern: str, group: int | str | None = None, pick: str = "first") -> str:
    """What a regular expression finds: the first match or the last (`pick`), by a group's number or name.

    `group` defaults to the first group of the pattern, or the whole match where it has none. Flags go inline: `(?i)…`.
    """
    found = None
    for match in re.finditer(pattern, answer):
        found = match
        if pick == "first":
            break
    if found is None:
        raise ParseFailed(f'the answer does not match "{pattern}"', kind="parse")
    chosen = found[group if group is not None else 1 if found.re.groups else 0]
    if chosen is None:
        raise ParseFailed(f'the answer matches "{pattern}", but not in group {group or 1}', kind="parse")
    return str(chosen)
