"""`onward run` and `onward resume` as processes: what they find, do, say, and end with (SEMANTICS §3, §8)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tests.cli.console import Shell, ended, until

from onward.cli import main
from onward.runs import open_run
from onward.testing import Fault, ProviderServer

NO_MODEL = "No model chosen. Try: onward demo · --model local/smollm2 · --model openai/NAME (needs OPENAI_API_KEY)"


# ---------------------------------------------------------------- going on


def test_a_complete_run_does_nothing_and_says_so(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    first = shell("run", "nightly.yaml")
    assert (first.code, len(server.calls)) == (0, 6)
    assert "6 to do" in first.lines[0] and "50.0 ± " in first.out and "6 calls" in first.out
    again = shell("run", "nightly.yaml")
    assert (again.code, len(server.calls)) == (0, 6)
    assert "already complete (" in again.lines[0] and "0 calls). New measurement: --new" in again.lines[0]


def test_new_is_the_next_replicate(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    assert shell("run", "nightly.yaml").code == 0
    assert shell("run", "nightly.yaml", "--new").code == 0
    assert len(server.calls) == 12
    assert len(list(shell.store.iterdir())) == 2


def test_if_exists_error_refuses_and_rerun_does_it_all_again(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    refused = shell("run", "nightly.yaml", "--if-exists", "error")
    assert refused.code == 2 and "exists" in refused.err and len(server.calls) == 6
    assert shell("run", "nightly.yaml", "--if-exists", "rerun").code == 0
    assert len(server.calls) == 12 and len(list(shell.store.iterdir())) == 1


def test_without_a_limit_the_run_extends_and_tells_what_is_new(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    assert shell("run", "nightly.yaml", "--limit", "2").code == 0
    more = shell("run", "nightly.yaml")
    assert more.code == 0 and "2 → 6: 4 new, about $" in more.out
    assert len(server.calls) == 6


def test_resume_without_a_limit_only_finishes_the_recorded_list(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml", "--limit", "2")
    assert shell("run", "nightly.yaml", "--resume").code == 0
    assert shell("resume", "nightly").code == 0
    assert len(server.calls) == 2
    assert shell("run", "nightly.yaml", "--resume", "--limit", "4").code == 0
    assert len(server.calls) == 4


def test_run_resume_with_nothing_recorded_says_so_and_starts(shell: Shell) -> None:
    shell.experiment()
    done = shell("run", "nightly.yaml", "--resume")
    assert done.code == 0 and "nothing recorded yet: starting from the beginning" in done.out


def test_narrowing_leaves_the_rest_owed_and_a_resume_finishes_it(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    part = shell("run", "nightly.yaml", "--max-new", "2")
    assert part.code == 3 and "owed: 4 trials of 6" in part.out and "resume: onward resume nightly-" in part.out
    rest = shell("resume")
    assert rest.code == 0 and "2 of 6 done ($" in rest.out and "4 to do." in rest.out
    assert len(server.calls) == 6


def test_a_changed_parser_takes_over_every_answer(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    shell.experiment(parse={"regex": r"(\d+)"})
    derived = shell("run", "nightly.yaml")
    assert derived.code == 0 and "takes over 6 answers from nightly-" in derived.out and len(server.calls) == 6


def test_rerun_failed_asks_only_what_was_wrong(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    again = shell("resume", "nightly", "--rerun-failed")
    assert again.code == 0 and len(server.calls) == 9
    assert "first go" in again.out and "after 3 reruns" in again.out


def test_tasks_from_runs_what_was_wrong(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    wrong = shell("run", "nightly.yaml", "--tasks-from", "wrong:nightly", "--name", "again", "--json")
    assert wrong.code == 0 and json.loads(wrong.out)["total"] == 3 and len(server.calls) == 9


def test_a_random_draw_is_recorded_and_resumed(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    assert shell("run", "nightly.yaml", "--random", "--limit", "2").code == 0
    assert shell("run", "nightly.yaml", "--random", "--limit", "2", "--resume").code == 0
    assert len(server.calls) == 2


def test_replay_shows_old_against_new_and_asks_nothing(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    same = shell("replay", "nightly", "--stage", "score")
    assert same.code == 0 and "6 re-scored, 0 calls, 50.0 → 50.0 %, 0 changed" in same.out
    shell.experiment(score={"numeric": {"absolute": 1}})
    changed = shell("replay", "nightly", "--stage", "score", "--spec", "nightly.yaml")
    assert changed.code == 0 and "6 re-scored, 0 calls, 50.0 → 100.0 %, 3 changed" in changed.out
    assert len(server.calls) == 6


def test_redo_does_one_task_again(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell("run", "nightly.yaml")
    assert shell("redo", "nightly/t3").code == 0
    assert len(server.calls) == 7
    assert shell("redo", "nightly/no-such-task").code == 1


def test_retry_errors_is_a_derived_run_of_what_went_wrong(tmp_path: Path) -> None:
    with ProviderServer(lambda _: "42", faults=[Fault("500", times=2)]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment()
        assert shell("run", "nightly.yaml").code == 3
        assert len(server.calls) == 4
        assert shell("run", "--retry-errors", "nightly").code == 0
        assert len(server.calls) == 6


# ---------------------------------------------------------------- plans


def test_a_plan_spends_and_writes_nothing(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    fresh = shell("run", "nightly.yaml", "--plan")
    assert fresh.code == 0 and "6 to do now" in fresh.out and "at most $" in fresh.out
    assert not shell.store.exists() and not server.requests
    shell("run", "nightly.yaml", "--limit", "2")
    before = _content(shell.run)
    extended = json.loads(shell("run", "nightly.yaml", "--plan", "--json").out)
    assert (extended["done"], extended["new"], extended["calls"], extended["basis"]) == (2, 4, 4, "averages")
    shell.experiment(parse="final_answer")
    changed = shell("run", "nightly.yaml", "--plan")
    assert "takes over 2 answers" in changed.out and "2 parses: parser changed" in changed.out
    assert shell("resume", "nightly", "--plan").code == 0
    assert _content(shell.run) == before and len(server.requests) == 2


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".db"}


# ---------------------------------------------------------------- exit codes


def test_no_model_says_what_to_try(shell: Shell) -> None:
    done = shell("run", "arithmetic")
    assert done.code == 2 and done.err.strip() == f"error: {NO_MODEL}" and not shell.store.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run",), ("run", "no-such.yaml"), ("run", "arithmatic"), ("run", "nightly.yaml", "--limit", "0"),
        ("run", "nightly.yaml", "--resume", "--new"), ("run", "nightly.yaml", "--new", "--parent", "x"),
        ("run", "nightly.yaml", "--until-stage", "scoring"), ("run", "nightly.yaml", "--no-such-flag"),
        ("run", "nightly.yaml", "--where", "level"), ("run", "nightly.yaml", "--price", "cheap"),
        ("run", "nightly.yaml", "--log-level", "loud"), ("run", "nightly.yaml", "--retry-errors", "x"),
        ("run", "nightly.yaml", "--if-exists", "maybe"), ("resume", "--plan", "--auto-resume"), ("no-such-verb",),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(shell: Shell, words: tuple[str, ...], server: ProviderServer) -> None:
    shell.experiment()
    done = shell(*words)
    assert done.code == 2 and done.err.startswith("error: ") and "Traceback" not in done.err
    assert not server.requests and not shell.store.exists()


def test_below_the_threshold_is_1_however_the_run_got_there(shell: Shell) -> None:
    shell.experiment()
    assert shell("run", "nightly.yaml", "--threshold", "0.5").code == 0
    complete = shell("run", "nightly.yaml", "--threshold", "0.6")
    assert complete.code == 1 and "50.0 % numeric is below the threshold of 60.0 %" in complete.out
    assert shell("resume", "nightly", "--threshold", "0.6").code == 1
    assert shell("resume", "nightly", "--threshold", "0.4").code == 0


def test_a_threshold_in_the_file_holds_for_resume_too(shell: Shell) -> None:
    shell.experiment(threshold=0.9)
    assert shell("run", "nightly.yaml", "--max-new", "2").code == 3
    assert shell("resume").code == 1
    assert shell("run", "nightly.yaml", "--until-stage", "generate", "--new").code == 0


def test_nothing_to_resume_is_1(shell: Shell) -> None:
    none = shell("resume")
    assert none.code == 1 and "nothing to resume" in none.err
    assert shell("resume", "no-such-run").code == 1


def test_errors_stay_owed_and_are_3(tmp_path: Path) -> None:
    with ProviderServer(lambda _: "42", faults=[Fault("500", times=1)]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment()
        done = shell("run", "nightly.yaml")
        assert done.code == 3 and "owed: 1 trial of 6: 1 × " in done.out and "onward resume nightly-" in done.out
        assert shell("resume").code == 0
        assert len(server.calls) == 6


def test_a_budget_that_is_reached_is_3_and_a_larger_one_finishes(shell: Shell) -> None:
    shell.experiment(prices={"gpt-4o-mini": "1000/1000"})
    poor = shell("run", "nightly.yaml", "--budget-usd", "0.15")
    assert poor.code == 3 and "budget" in poor.out
    assert shell("resume", "--budget-usd", "50").code == 0


def test_a_price_that_is_told_later_is_known_to_every_later_invocation(shell: Shell) -> None:
    file = shell.experiment(solver={"model": "openai/unheard-of", "prompt": "{input}", "max_tokens": 16})
    unpriced = shell("run", file, "--max-new", "2")
    assert "not in it: 2 calls at a price that nobody knows" in unpriced.out
    assert shell("resume", "--max-new", "1", "--price", "openai/unheard-of=1000/1000").code == 3
    one = json.loads(shell("show", "latest", "--json").out)["usd"]
    assert one > 0
    planned = json.loads(shell("resume", "--plan", "--json").out)
    assert (planned["calls"], planned["basis"]) == (3, "averages")
    done = shell("resume", "--max-new", "1", "--budget-usd", "100")  # which is refused where no price is known
    assert done.code == 3 and "a price that nobody knows" not in done.out, done
    more = shell("run", file, "--max-new", "1")  # whose file says nothing of it
    assert more.code == 3 and "a price that nobody knows" not in more.out, more
    found = json.loads(shell("show", "latest", "--json").out)["usd"]
    assert found == pytest.approx(3 * one, rel=0.2)
    assert shell("resume", "--price", "openai/unheard-of=0/0").code == 0  # the newest word counts
    assert json.loads(shell("show", "latest", "--json").out)["usd"] == found, "what was recorded stays as it is"
    run = open_run(shell.run)
    assert [dict(one) for one in run.extensions] == [
        {"prices": {"openai/unheard-of": "1000/1000"}}, {"prices": {"openai/unheard-of": "0/0"}}
    ]  # fmt: skip
    run.close()


def test_an_unanswerable_key_ends_3_at_once(tmp_path: Path) -> None:
    with ProviderServer(lambda _: "42", faults=[Fault("401")]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment()
        done = shell("run", "nightly.yaml")
        assert done.code == 3 and "owed: 6 trials of 6" in done.out and len(server.requests) <= 2


def test_a_second_driver_is_4_and_told_who_holds_it(tmp_path: Path) -> None:
    with ProviderServer(lambda _: Fault("hang")) as server:
        shell = Shell(tmp_path, server)
        shell.experiment()
        driver = shell.start("run", "nightly.yaml")
        try:
            until(lambda: server.requests, "the first request")
            second = shell("run", "nightly.yaml")
            assert second.code == 4 and f"process {driver.pid}" in second.err
        finally:
            driver.kill()
            ended(driver)


SOLVER = "def solve(ctx, task):\n    return '{}'\n"


def test_changed_code_is_5_with_strict_and_a_derived_run_without(shell: Shell) -> None:
    shell.write("solver.py", SOLVER.format(42))
    shell.experiment(solver="solver.py:solve")
    assert shell("run", "nightly.yaml", "--max-new", "2").code == 3
    shell.write("solver.py", SOLVER.format(41))
    refused = shell("resume", "nightly", "--strict")
    assert refused.code == 5 and "changed" in refused.err
    derived = shell("resume", "nightly")
    assert derived.code == 0 and "going on in a derived run" in derived.out and len(list(shell.store.iterdir())) == 2


@pytest.mark.parametrize("harm", ["foreign", "empty"])
def test_a_damaged_run_is_6(shell: Shell, harm: str) -> None:
    shell.experiment()
    shell("run", "nightly.yaml", "--max-new", "2")
    for path in shell.run.glob("journal.db*"):
        path.write_bytes(b"")
    if harm == "foreign":
        connection = sqlite3.connect(next(shell.store.iterdir()) / "journal.db")
        connection.execute("CREATE TABLE mine (x)")
        connection.commit()
        connection.close()
    done = shell("resume", next(shell.store.iterdir()).name)
    assert done.code == 6 and "Traceback" not in done.err


# ---------------------------------------------------------------- voices


def test_voices_come_before_or_after_the_verb(shell: Shell) -> None:
    shell.experiment()
    assert "t1/1 ok" in shell("-v", "run", "nightly.yaml", "--name", "one").out
    assert "t1/1 ok" in shell("run", "nightly.yaml", "--name", "two", "--verbose").out
    quiet = shell("run", "nightly.yaml", "-q", "--name", "three").out
    assert "to do" not in quiet and "numeric" in quiet
    assert "Traceback" in shell("run", "no-such.yaml", "--log-level=debug").err


def test_help_is_grouped_and_has_examples(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--help",), ("-h",)):
        said = shell(*words).out
        assert [said.index(name) for name in ("─ Run ─", "─ Look ─", "─ Share ─", "─ Set up ─")] == sorted(
            said.index(name) for name in ("─ Run ─", "─ Look ─", "─ Share ─", "─ Set up ─")
        )
    monkeypatch.setenv("COLUMNS", "160")
    for verb in ("run", "resume", "stop", "replay", "redo", "init", "demo", "runs", "show", "compare", "doctor"):
        assert main([verb, "-h"]) == 0
        assert f"onward {verb}" in capsys.readouterr().out.partition("Examples")[2]


def test_the_version_imports_nothing_heavy(shell: Shell) -> None:
    import subprocess
    import sys

    code = "import sys; from onward.cli import main; main(['--version']); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("onward ")
    assert not {"typer", "rich", "pydantic", "aiohttp", "yaml", "sqlite3"} & set(out.split())


def test_stream_shows_text_and_calls_as_they_arrive(shell: Shell) -> None:
    shell.experiment()
    said = shell("run", "nightly.yaml", "--stream").out
    assert said.count("The answer is 42.\n") >= 6 and said.count("── gpt-4o-mini/t") == 6 and "tokens" in said


def test_json_is_one_document(shell: Shell) -> None:
    shell.experiment()
    done = shell("run", "nightly.yaml", "--json")
    told = json.loads(done.out)
    assert told["exit_code"] == 0 and told["done"] == told["total"] == 6 and told["calls"] == 6
    assert told["solvers"]["gpt-4o-mini"]["scores"]["numeric"]["mean"] == 0.5


def test_the_environment_and_dotenv_hold_keys_and_no_output_does(shell: Shell) -> None:
    key = shell.environment.pop("OPENAI_API_KEY")
    shell.experiment()
    missing = shell("run", "nightly.yaml")
    assert missing.code == 2 and "set OPENAI_API_KEY" in missing.err
    shell.write(".env", f"OPENAI_API_KEY={key}\n")
    done = shell("run", "nightly.yaml", "-v")
    assert done.code == 0 and key not in done.out + done.err
    doctor = shell("doctor")
    assert doctor.code == 0 and "OPENAI_API_KEY" in doctor.out and key not in doctor.out


def test_init_makes_an_experiment_that_runs(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell("init", "first").code == 0
    assert {"first.yaml", "first.jsonl"} <= {path.name for path in tmp_path.iterdir()}
    assert shell("run", "first.yaml", "--plan").code == 0
    again = shell("init", "first")
    assert again.code == 2 and "is there already" in again.err
