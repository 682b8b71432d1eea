"""Tries `merged` with many intervals, in a process of its own, and writes the reward."""

import json
import random
import subprocess
import sys
from pathlib import Path

CALL = """
import json, sys
cases = json.load(sys.stdin)
sys.path.insert(0, "/app")
from intervals import merged
found = []
for case in cases:
    given = [tuple(pair) for pair in case]
    kept = list(given)
    result = merged(given)
    found.append([[list(pair) for pair in result], given == kept])
sys.stdout.write(json.dumps(found))
"""


def expected(case):
    """The same by counting: runs of numbers that follow each other."""
    numbers = sorted({number for start, end in case for number in range(start, end + 1)})
    runs = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs


def drawn():
    """Intervals of all sizes, many of which meet."""
    random.seed(20250307)
    cases = [[], [[0, 0]], [[1, 9], [3, 4]], [[1, 2], [3, 4]], [[-3, -1], [0, 0]], [[4, 4], [4, 4]]]
    for _ in range(400):
        spread = random.choice([5, 20, 100])
        starts = [random.randint(-spread, spread) for _ in range(random.randint(1, 12))]
        cases.append([[start, start + random.randint(0, random.choice([0, 3, 30]))] for start in starts])
    return cases


def called(cases):
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", CALL], input=json.dumps(cases), capture_output=True, text=True,
            timeout=30, start_new_session=True,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr
    except (subprocess.TimeoutExpired, ValueError) as error:
        return str(error)


def main():
    tests, cases = {}, drawn()
    found = called(cases)
    if isinstance(found, list) and len(found) == len(cases):
        wrong = [case for case, (result, _) in zip(cases, found) if result != expected(case)]
        tests["merged is right"] = f"merged({wrong[0]}) is not {expected(wrong[0])}" if wrong else ""
        changed = not all(same for _, same in found)
        tests["its argument is not changed"] = "it is" if changed else ""
    else:
        tests["merged is right"] = f"it could not be called: {found}"[-500:]
    own = Path("/app/test_intervals.py")
    is_same = own.is_file() and own.read_bytes() == Path("/tests/test_intervals.py").read_bytes()
    tests["the tests are as they were"] = "" if is_same else "test_intervals.py was changed"
    report(tests)


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
