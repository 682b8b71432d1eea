"""Runs /app/parse.py with settings that are right and wrong, and writes the reward."""

import json
import re
import subprocess
import sys
from pathlib import Path

RIGHT = {
    "the sample": (
        '# A sample\nname = "depot 7"   # comments may stand here\nratio = -0.25\nopen = true\n\n[server.http]\n'
        'port = 8080\nhosts = ["a.example", "b.example"]\n\n[server]\nthreads = 4\n',
        {"name": "depot 7", "ratio": -0.25, "open": True,
         "server": {"http": {"port": 8080, "hosts": ["a.example", "b.example"]}, "threads": 4}},
    ),
    "nothing": ("", {}),
    "comments alone": ("# one\n\n   # two\n\t\n", {}),
    "no line feed at the end": ("a = 1", {"a": 1}),
    "spaces and tabs": ("\t a\t=\t1  \n [ x . y ] # here\n  b=2#there\n", {"a": 1, "x": {"y": {"b": 2}}}),
    "kinds of numbers": ("a = 1\nb = 1.0\nc = -0\nd = 007\ne = -12.50\n", {"a": 1, "b": 1.0, "c": 0, "d": 7, "e": -12.5}),
    "truths are no numbers": ("a = true\nb = [false, 0, 0.0]\n", {"a": True, "b": [False, 0, 0.0]}),
    "escapes": (r'a = "x\"y\\z\n\t."' + "\n", {"a": 'x"y\\z\n\t.'}),
    "what looks like more within a text": ('a = "# [b] = 1, ]"\n', {"a": "# [b] = 1, ]"}),
    "an empty text and an empty list": ('a = ""\nb = []\nc = [ ]\n', {"a": "", "b": [], "c": []}),
    "lists in lists": ('a = [1,[2.5,[ "x" ],[]],true] # end\n', {"a": [1, [2.5, ["x"], []], True]}),
    "other scripts": ('a = "Überfall · 駅 · 🚲"\n', {"a": "Überfall · 駅 · 🚲"}),
    "odd keys": ("-_ = 1\n9 = 2\ntrue = 3\n[1.-]\na = 4\n", {"-_": 1, "9": 2, "true": 3, "1": {"-": {"a": 4}}}),
    "an empty section": ("[a]\n[b.c]\n", {"a": {}, "b": {"c": {}}}),
    "a section above one that is there": ("[a.b]\nx = 1\n[a]\ny = 2\n", {"a": {"b": {"x": 1}, "y": 2}}),
    "the same key in two sections": ("x = 1\n[a]\nx = 2\n[b]\nx = 3\n", {"x": 1, "a": {"x": 2}, "b": {"x": 3}}),
}  # fmt: skip
WRONG = {
    "a word": ("a = 1\nhello\n", 2),
    "no value": ("\n\na =\n", 3),
    "no key": ("= 1\n", 1),
    "a key with a dot": ("a.b = 1\n", 1),
    "a key with a space": ("a b = 1\n", 1),
    "a letter that is not ASCII in a key": ("ä = 1\n", 1),
    "more after a value": ("a = 1 2\n", 1),
    "more after a text": ('a = "x" y\n', 1),
    "half a decimal number": ("a = 1.\n", 1),
    "another half": ("a = .5\n", 1),
    "an exponent": ("a = 1e3\n", 1),
    "a plus": ("a = +1\n", 1),
    "digits of another script": ("a = ٣\n", 1),
    "a truth in capitals": ("a = True\n", 1),
    "no end of a text": ('x = 1\na = "b\n', 2),
    "an unknown escape": ('a = "\\r"\n', 1),
    "a backslash at the end": ('a = "\\"\n', 1),
    "no end of a list": ("a = [1, 2\n", 1),
    "a comma too many": ("a = [1,]\n", 1),
    "no comma": ("a = [1 2]\n", 1),
    "a section without an end": ("[a\n", 1),
    "a section without a name": ("[]\n", 1),
    "two dots": ("[a..b]\n", 1),
    "more after a section": ("[a] b\n", 1),
    "a section twice": ("[a]\n[b]\n[a]\n", 3),
    "a key twice": ("a = 1\nb = 2\na = 1\n", 3),
    "a key, then a section": ("a = 1\n[a.b]\n", 2),
    "a section, then a key": ("[a.b]\n[a]\nc = 1\nb = 2\n", 4),
    "the first of two": ("a = 1\n?\n!\n", 2),
}


def same(one, other):
    """Equal, and of the same kinds: true is not 1, and 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def parsed(text):
    """(exit code, stdout, stderr); no exit code where it does not end."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "/app/parse.py"], input=text.encode(), capture_output=True, timeout=10,
            start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, "", "it does not end"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def right(text, expected):
    code, out, err = parsed(text)
    if code != 0:
        return f"exit code {code}: {err[-200:]}"
    try:
        found = json.loads(out)
    except ValueError:
        return f"no JSON: {out[:200]}"
    return "" if same(found, expected) else f"{json.dumps(found)[:200]} is not {json.dumps(expected)[:200]}"


def wrong(text, line):
    code, out, err = parsed(text)
    if code != 1 or out:
        return f"exit code {code} and {len(out)} characters written, where line {line} is wrong"
    said = re.match(r"line (\d+):", err)
    if said is None:
        return f"says {err[:100]!r}, which does not begin with `line {line}:`"
    return "" if int(said[1]) == line and len(err.splitlines()) == 1 else f"says {err[:100]!r}, not one line on line {line}"


def main():
    tests = {f"right: {name}": right(*case) for name, case in RIGHT.items()}
    tests |= {f"wrong: {name}": wrong(*case) for name, case in WRONG.items()}
    report(tests)


def report(tests):
    """Write the reward, and which tests failed; `tests` is {name: what is wrong, or nothing}."""
    failed = [name for name, problem in tests.items() if problem]
    listed = [{"name": name, "status": "failed" if problem else "passed", "duration": 0, "message": problem}
              for name, problem in tests.items()]  # fmt: skip
    passed = len(tests) - len(failed)
    summary = {"tests": len(tests), "passed": passed, "failed": len(failed)}
    results = {"tool": {"name": "check.py"}, "summary": summary, "tests": listed}
    logs = Path("/logs/verifier")
    (logs / "ctrf.json").write_text(json.dumps({"results": results}))
    (logs / "reward.json").write_text(json.dumps({"reward": 0 if failed else 1, "passed": passed / len(tests)}))
    for name in failed:
        print(f"failed: {name}: {tests[name]}")


main()
