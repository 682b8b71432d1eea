"""BenchFlow's `task.md`: settings as YAML front matter, then the prompt; and `verifier/verifier.md` beside it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import Any

import yaml

from onward.tasks import harbor
from onward.tasks.section import Remarks, Section

__all__ = ["read", "verifier_command"]

_HEADING = re.compile(r"^##[ \t]+(prompt|role:[\w.-]+|scene:[\w.-]+|user-persona)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_ESCAPED = re.compile(r"^\\(?=##[ \t]+(?:prompt|role:|scene:|user-persona))", re.IGNORECASE | re.MULTILINE)
_ALONE = "one agent works, with one prompt"


def read(text: str, remarks: Remarks, file: str, names: Collection[str]) -> tuple[str, harbor.Settings]:
    """(prompt, settings) of a `task.md`; `names` are the files of its folder."""
    form, body = _split(text, remarks, file)
    top = Section(form, remarks, file)
    top.refuse("presets are not known here: write their fields out", "profile", "profiles")
    top.refuse(_ALONE, "agents", "scenes", "user")
    for shorthand, usual in (("verifier", "verifier"), ("oracle", "oracle")):
        if isinstance(form.get(shorthand), str):
            place = top.text(shorthand)
            if place.strip("/") != usual:
                top.wrong(shorthand, f"expected the folder {usual}/, not {place!r}")
    _services(top.inner("benchflow"))
    name, image = top.text("name"), top.text("image")
    spelled = {"sandbox": "environment", "oracle": "solution"}
    for native, harbors in spelled.items():
        if native in top and harbors in top:
            top.wrong(harbors, f"is {native} by another name: keep one of them")
    place = "environment" if "environment" in top else "sandbox"
    found = harbor.read(top, place, "solution" if "solution" in top else "oracle")
    found.image = found.image or image
    if name:
        found.metadata.setdefault("name", name)
    for path in sorted(names):
        if re.fullmatch(r"prompts/(role\..*|scene\..*|user-persona)\.md", path):
            remarks.wrong.append(f"{path}: {_ALONE}")
    return _prompt(body, remarks, file), found


def _split(text: str, remarks: Remarks, file: str) -> tuple[dict[str, Any], str]:
    lines = text.splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if line.strip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        remarks.wrong.append(f"{file}: expected settings between two lines of --- at its top")
        return {}, text
    try:
        form = yaml.safe_load("".join(lines[1 : ends[1]]))
    except yaml.YAMLError as error:
        at = getattr(error, "problem_mark", None)
        where = f"{file}:{at.line + 2}" if at else file
        remarks.wrong.append(f"{where}: not YAML: {getattr(error, 'problem', None) or error}")
        return {}, ""
    except (ValueError, RecursionError) as error:
        remarks.wrong.append(f"{file}: not YAML: {error}")
        return {}, ""
    if form is not None and not isinstance(form, dict):
        remarks.wrong.append(f"{file}: expected fields between the lines of ---")
        form = {}
    return form or {}, "".join(lines[ends[1] + 1 :])


def _prompt(body: str, remarks: Remarks, file: str) -> str:
    """What stands below `## prompt`, or all of it."""
    parts = _HEADING.split(body)
    before, sections = parts[0].strip(), dict(zip(map(str.lower, parts[1::2]), parts[2::2], strict=True))
    for heading in sections:
        if heading != "prompt":
            remarks.wrong.append(f"{file}: ## {heading}: {_ALONE}")
    if "prompt" not in sections:
        return _ESCAPED.sub("", before)
    if before:
        remarks.told.append(f"{file}: what stands above ## prompt is not given to the agent")
    return _ESCAPED.sub("", sections["prompt"].strip())


def _services(given: Section) -> None:
    """BenchFlow's own block: where its tools look for things. Only a world of services would change the task."""
    environment = given.inner("environment")
    environment.refuse("services beside the sandbox are not started", "services", "manifest")


def verifier_command(text: str, remarks: Remarks, file: str) -> str:
    """The command of a `verifier.md`, from the verifier's folder; "" where it names none."""
    form, _ = _split(text, remarks, file)
    verifier = Section(form, remarks, file).inner("verifier")
    strategies = verifier.take("strategies")
    if not isinstance(strategies, dict) or not strategies:
        verifier.wrong("strategies", "there is none")
        return ""
    name = verifier.text("default_strategy") or str(next(iter(strategies)))
    chosen = Section(strategies.get(name), remarks, file, f"verifier.strategies.{name}")
    kind = chosen.text("type")
    if kind != "script":
        chosen.wrong("type", f"only a script can be the verifier here, not {kind or 'nothing'}")
        return ""
    outputs = verifier.inner("outputs")
    for kept, usual in (("reward_text", "reward.txt"), ("reward_json", "reward.json")):
        if outputs.text(kept) not in ("", f"/logs/verifier/{usual}"):
            outputs.wrong(kept, f"a reward is read from /logs/verifier/{usual}")
    command = chosen.text("command")
    try:
        words = shlex.split(command)
    except ValueError as error:
        chosen.wrong("command", str(error))
        return ""
    if not words or words[0].startswith("/") or ".." in words[0].split("/"):
        chosen.wrong("command", "expected a command that starts in the verifier's folder")
        return ""
    return command
