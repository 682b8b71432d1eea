"""Settings from standard input, as JSON on standard output."""

import json
import re
import sys

BLANK = re.compile(r"[ \t]*")
PART = r"[A-Za-z0-9_-]+"
SECTION = re.compile(rf"\[[ \t]*({PART}(?:[ \t]*\.[ \t]*{PART})*)[ \t]*\]")
SETTING = re.compile(rf"({PART})[ \t]*=[ \t]*")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(?![\w.])")
WORD = re.compile(r"(true|false)(?![\w.])")
TEXT = re.compile(r'"((?:[^"\\]|\\["\\nt])*)"')
ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


class Wrong(Exception):
    pass


def value(line, at):
    """(a value, where it ends)."""
    if found := NUMBER.match(line, at):
        return (float if found[1] else int)(found[0]), found.end()
    if found := WORD.match(line, at):
        return found[0] == "true", found.end()
    if found := TEXT.match(line, at):
        return re.sub(r"\\(.)", lambda one: ESCAPES[one[1]], found[1]), found.end()
    if line[at : at + 1] != "[":
        raise Wrong("expected a value")
    items, at = [], skipped(line, at + 1)
    if line[at : at + 1] == "]":
        return items, at + 1
    while True:
        item, at = value(line, at)
        items.append(item)
        at = skipped(line, at)
        if line[at : at + 1] == "]":
            return items, at + 1
        if line[at : at + 1] != ",":
            raise Wrong("expected , or ]")
        at = skipped(line, at + 1)


def skipped(line, at):
    return BLANK.match(line, at).end()


def ended(line, at):
    at = skipped(line, at)
    if line[at : at + 1] not in ("", "#"):
        raise Wrong("there is more than can be here")


def entered(whole, names):
    """The section of this name, made where it is not there."""
    inner = whole
    for name in names:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Wrong(f"{name} is a key")
    return inner


def parse(lines):
    whole, begun = {}, set()
    section = whole
    for number, line in enumerate(lines, 1):
        at = skipped(line, 0)
        try:
            if line[at : at + 1] in ("", "#"):
                continue
            if found := SECTION.match(line, at):
                ended(line, found.end())
                names = tuple(re.findall(PART, found[1]))
                if names in begun:
                    raise Wrong("this section is there already")
                section = entered(whole, names)
                begun.add(names)
            elif found := SETTING.match(line, at):
                given, at = value(line, found.end())
                ended(line, at)
                if found[1] in section:
                    raise Wrong(f"{found[1]} is there already")
                section[found[1]] = given
            else:
                raise Wrong("neither a section nor a setting")
        except Wrong as error:
            sys.exit(f"line {number}: {error}")
    return whole


sys.stdout.write(json.dumps(parse(sys.stdin.buffer.read().decode().split("\n"))))
