"""Compares the two files with what they should be, byte by byte, and writes the reward."""

import json
from pathlib import Path


def compared(name):
    """What is wrong with a file; nothing where it is right."""
    own = Path("/app") / name
    if not own.is_file():
        return "it is not there"
    found, expected = own.read_bytes(), Path("/tests", name).read_bytes()
    if found == expected:
        return ""
    lines = zip(found.split(b"\n"), expected.split(b"\n"))
    for number, (one, other) in enumerate(lines, 1):
        if one != other:
            return f"line {number} is {one[:80]!r} and should be {other[:80]!r}"
    return f"it has {len(found)} bytes, not {len(expected)}"


def main():
    report({name: compared(name) for name in ("clean.csv", "unknown.csv")})


def report(tests):
    """Write the reward, and which tests failed; `tests` is {name: what is wrong, or nothing}."""
    failed = [name for name, wrong in tests.items() if wrong]
    listed = [{"name": name, "status": "failed" if wrong else "passed", "duration": 0, "message": wrong}
              for name, wrong in tests.items()]  # fmt: skip
    summary = {"tests": len(tests), "passed": len(tests) - len(failed), "failed": len(failed)}
    results = {"tool": {"name": "check.py"}, "summary": summary, "tests": listed}
    logs = Path("/logs/verifier")
    (logs / "ctrf.json").write_text(json.dumps({"results": results}))
    (logs / "reward.txt").write_text("0" if failed else "1")
    for name in failed:
        print(f"failed: {name}: {tests[name]}")


main()
