"""Task folders, read and tried: our own five, and what is said of one that is not as it should be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tasks.laid import BENCHFLOW, HARBOR, TOML, laid

from onward.checking import Tried, found_in, tried
from onward.errors import NotThere, UsageError
from onward.sandbox.bubblewrap import reaches
from onward.tasks.folders import EXAMPLES

SLOW = "outlast-the-clock"
QUICK = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != SLOW)


@pytest.fixture
def place() -> Iterator[Path]:
    """Where sandboxes are kept: nothing but what they share is there in the end."""
    if why := reaches("--unshare-user", "--unshare-all", "--as-pid-1"):
        pytest.skip(f"sandbox bubblewrap: {why}")
    with tempfile.TemporaryDirectory(prefix="onward-tests-") as folder:
        yield Path(folder) / "checks"
        assert {path.name for path in (Path(folder) / "checks").iterdir()} <= {"shared"}


@pytest.fixture
def python3() -> None:
    if not Path("/usr/bin/python3").exists():
        pytest.skip("python3: /usr/bin/python3 is not there, and the verifiers of our task folders run by it")


def attempted(folder: Path, place: Path, solution: str) -> Tried:
    """One of our task folders with another solution."""
    script = folder / "solution" / "solve.sh"
    script.write_text(f"#!/bin/sh\ncd /app\n{solution}\n")
    return tried(folder, {}, place)


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of one of our task folders, to be spoilt."""
    source = EXAMPLES / request.param
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    return laid(tmp_path / request.param, files)


@pytest.mark.usefixtures("python3")
@pytest.mark.parametrize("name", [*QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_our_own_are_solved_by_their_solutions_and_by_nothing_else(name: str, place: Path) -> None:
    found = tried(EXAMPLES / name, {}, place)
    assert (found.wrong, found.solved, found.untouched, found.kind) == ((), 1.0, 0.0, "bubblewrap")


_NOT_QUITE = [
    ("fix-a-failing-test", "sed -i 's/start <=/start <= 1 +/' intervals.py"),
    ("fix-a-failing-test", "sed -i 's/, end)$/, max(end, result[-1][1]))/' intervals.py"),
    ("fix-a-failing-test", "echo 'def merged(_): return []' > intervals.py"),
    ("fix-a-failing-test", "sh /solution/whole.sh; echo >> test_intervals.py"),
    ("fix-a-failing-test", "printf 'import os\\nos._exit(0)\\n' > intervals.py"),
    ("write-a-parser", "echo 'print(\"{}\")' > parse.py"),
    ("write-a-parser", "printf 'import sys\\nsys.exit(\"line 1: wrong\")\\n' > parse.py"),
    ("write-a-parser", "sed 's/if found\\[1\\] in section:/if False:/' /solution/parse.py > parse.py"),
    ("write-a-parser", "sed 's/(float if found\\[1\\] else int)/float/' /solution/parse.py > parse.py"),
    ("repair-a-csv", "cp orders.csv clean.csv; cp orders.csv unknown.csv"),
    ("repair-a-csv", "python3 /solution/repair.py && sed -i 's/$/\\r/' clean.csv"),
    ("repair-a-csv", "python3 /solution/repair.py && rm unknown.csv"),
    ("answer-from-files", "echo '{\"noor\": 5}' > answers.json"),
    ("answer-from-files", 'python3 /solution/answer.py && sed -i \'s/"noor": 5/"noor": 5.0/\' answers.json'),
    ("answer-from-files", "echo '[]' > answers.json"),
]


@pytest.mark.usefixtures("python3")
@pytest.mark.parametrize(("own", "solution"), _NOT_QUITE, indirect=["own"])
def test_what_is_not_quite_right_is_not_let_through(own: Path, place: Path, solution: str) -> None:
    laid(own, {"solution/whole.sh": (EXAMPLES / own.name / "solution" / "solve.sh").read_bytes()})
    found = attempted(own, place, solution)
    assert found.solved == 0 and "its solution gets the reward 0, not 1" in found.wrong[0]


@pytest.mark.usefixtures("python3")
@pytest.mark.parametrize("own", [SLOW], indirect=True)
def test_a_diary_is_worth_its_lines_and_cannot_be_made_up(own: Path, place: Path) -> None:
    """Its times must lie between the sandbox's start and now, so a whole one takes as long as it says."""
    assert attempted(own, place, "date +%s > diary.txt").solved == pytest.approx(1 / 30, abs=1e-4)
    now = "$(date +%s)"
    for forged in (f"seq $(({now} - 29)) {now}", f"seq {now} $(({now} + 29))", f"yes {now} | head -30", "seq 30"):
        assert attempted(own, place, f"{forged} > diary.txt").solved == 0, forged


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({**HARBOR, "solution/solve.sh": "#!/bin/sh\necho no such file >&2; exit 3\n"},
         "its solution gets the reward 0, not 1. The solution ended with exit code 3: no such file"),
        ({**HARBOR, "tests/test.sh": "#!/bin/sh\necho 1 > /logs/verifier/reward.txt\n"},
         "an empty attempt gets the reward 1: its verifier lets everything pass"),
        ({**HARBOR, "tests/test.sh": "#!/bin/sh\nexit 2\n"}, "ended with exit code 2 and left neither"),
        ({**HARBOR, "solution/solve.sh": None}, "there is no solution to try it with"),
        ({**HARBOR, "task.toml": TOML.replace("= 120.0", "= 0.5"), "solution/solve.sh": "#!/bin/sh\nsleep 100\n"},
         "its solution did not end within 0.5 s: raise agent.timeout_sec"),
        ({**HARBOR, "task.toml": TOML.replace("[metadata]\n", "[metadata]\nmust_time_out = true\n")},
         "it must time out, and its solution ended after "),
        ({**BENCHFLOW, "environment/Dockerfile": "FROM x\nRUN y\n"}, "environment/Dockerfile, line 2: RUN y"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_task_is_found_by_doing_it(
    tmp_path: Path, place: Path, files: dict[str, str | None], said: str
) -> None:
    found = tried(laid(tmp_path / "t", files), {"kind": "bubblewrap"}, place)
    assert len(found.wrong) == 1 and said in found.wrong[0], found


def test_a_task_may_be_right_in_either_layout(tmp_path: Path, place: Path) -> None:
    for name, files in (("harbor", HARBOR), ("benchflow", BENCHFLOW)):
        found = tried(laid(tmp_path / name, files), {}, place)
        assert (found.wrong, found.solved, found.untouched) == ((), 1, 0)


def test_what_cannot_be_read_is_not_tried(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be run: instruction.md: there is none"):
        tried(laid(tmp_path / "t", {**HARBOR, "instruction.md": None}), {}, tmp_path / "place")


def test_the_folders_that_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in found_in(Path("examples"))] == sorted([*QUICK, SLOW])
    laid(tmp_path, {"examples/README.md": "no task"})
    assert [path.name for path in found_in(Path("examples"))] == sorted([*QUICK, SLOW])
    with pytest.raises(NotThere, match="there is no folder nothing"):
        found_in(Path("nothing"))
    with pytest.raises(NotThere, match="holds no task folder"):
        found_in(tmp_path)
    assert found_in(laid(tmp_path / "examples" / "t", HARBOR).parent) == [tmp_path / "examples" / "t"]
