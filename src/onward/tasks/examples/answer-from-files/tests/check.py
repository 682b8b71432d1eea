"""Compares five answers with the right ones, and writes the reward."""

import json
from pathlib import Path


def answers():
    """(what was answered, what is wrong with the file)."""
    try:
        found = json.loads(Path("/app/answers.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, f"answers.json cannot be read: {error}"
    return (found, "") if isinstance(found, dict) else ({}, "answers.json is no JSON object")


def main():
    found, problem = answers()
    tests = {}
    for name, right in json.loads(Path("/tests/answers.json").read_text()).items():
        given = found.get(name)
        same = type(given) is type(right) and given == right
        tests[name] = "" if same else problem or f"{json.dumps(given)[:100]} is not the answer"
    report(tests)


def report(tests):
    """Write the reward, and which tests failed; `tests` is {name: what is wrong, or nothing}."""
    failed = [name for name, wrong in tests.items() if wrong]
    listed = [{"name": name, "status": "failed" if wrong else "passed", "duration": 0, "message": wrong}
              for name, wrong in tests.items()]  # fmt: skip
    passed = len(tests) - len(failed)
    summary = {"tests": len(tests), "passed": passed, "failed": len(failed)}
    results = {"tool": {"name": "check.py"}, "summary": summary, "tests": listed}
    logs = Path("/logs/verifier")
    (logs / "ctrf.json").write_text(json.dumps({"results": results}))
    (logs / "reward.json").write_text(json.dumps({"reward": 0 if failed else 1, "answered": passed / len(tests)}))
    for name in failed:
        print(f"failed: {name}: {tests[name]}")


main()
