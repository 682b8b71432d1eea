"""`onward continue` as its users have it: timed-out trials go on, nothing is paid for twice, nothing done twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.rig import bubblewrap
from tests.cli.console import Shell, ended, interrupt, unread, until, waits_to_write
from tests.cli.continued import KEY, Episodes, Meanwhile

from onward.runs import open_run, stored_runs
from onward.testing import EPISODE, EQUAL_EPISODE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def timed_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two trials have come to their limit after two calls each."""
    bubblewrap()
    folder = tmp_path_factory.mktemp("timed-out")
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        done = Episodes(folder, provider, ("notes", "memo")).run()
        assert done.code == 0 and provider.paid == 4, done
    return folder


@pytest.fixture
def provider() -> Iterator[Meanwhile]:
    with Meanwhile(EQUAL_EPISODE) as running:
        yield running


@pytest.fixture
def episodes(timed_out: Path, tmp_path: Path, provider: Meanwhile) -> Episodes:
    """The same again, each test its own copy: a run is a folder."""
    shutil.copytree(timed_out, tmp_path, dirs_exist_ok=True)
    return Episodes(tmp_path, provider)


@pytest.fixture
def original(episodes: Episodes) -> str:
    """The run that is continued."""
    return episodes.shell.run.name


def report(shell: Shell, run: Path | None = None, task: str = "notes") -> dict[str, object]:
    """What the gateway said of a trial."""
    name = (run or shell.run).name
    [trial] = json.loads(shell("show", f"{name}/{task}/generate", "--json").out)
    found: dict[str, object] = trial["value"]["exchanges"]
    return found


def test_timed_out_trials_are_served_their_record_and_go_on_live(episodes: Episodes, original: str) -> None:
    done = episodes.shell("continue", original)
    assert done.code == 0, done
    assert episodes.provider.paid == 6
    assert "at the limit 0.0 %, continued 100.0 %" in done.out
    assert "reused $0.00075" in done.out and "spent $0.000015 (6 calls, 6 tokens)" in done.out
    assert report(episodes.shell)["served"] == {"exact": 2}
    shown = episodes.shell("show", "latest").out
    assert "at the limit 0.0 %, continued 100.0 %" in shown and f"continues 2 trials of {original}" in shown
    told = json.loads(episodes.shell("show", "latest", "--json").out)["continues"]
    assert told["scores"] == [{"solver": "command", "score": "reward", "at_limit": 0.0, "continued": 1.0}]
    for request in episodes.provider.asked:  # the agent's own next requests, and no word of ours
        roles = [message["role"] for message in request["messages"]]
        assert roles == ["user", *["assistant", "tool"] * (len(roles) // 2)]
        assert request["messages"][0]["content"].strip() == "Write the notes, then out.json."


def test_the_same_command_again_does_nothing_and_says_since_when(episodes: Episodes, original: str) -> None:
    first = episodes.shell("continue", original)
    assert first.code == 0, first
    for again in (episodes.shell("continue", original), episodes.shell("continue", f"{original}/notes")):
        assert again.code == 0, again
        assert re.search(r"already continued in coder-\w{6} \(20\d\d-\d\d-\d\d \d\d:\d\d, 0 calls\)", again.out)
        assert "at the limit 0.0 %, continued 100.0 %" in again.out
    assert episodes.provider.paid == 6
    assert len(stored_runs(episodes.shell.store)) == 2
    planned = episodes.shell("continue", original, "--plan")
    assert "no timeout to continue" in planned.out and "already continued in" in planned.out


def test_a_name_that_its_continuations_share_means_what_it_meant(episodes: Episodes, original: str) -> None:
    words = ["continue", "coder/notes", "--timeout", "90"]
    assert episodes.shell(*words).code == 0 and episodes.provider.paid == 3
    again = episodes.shell(*words)
    assert again.code == 0 and "already continued in" in again.out and episodes.provider.paid == 3, again
    rest = episodes.shell("continue", "coder")
    assert rest.code == 0 and f"from {original}" in rest.out and episodes.provider.paid == 6, rest
    assert episodes.shell("run", "coder.yaml", "--new", "--time", "0.1").code == 0
    two = episodes.shell("continue", "coder")
    assert two.code == 2 and "'coder' could be any of 4 runs" in two.err, two


def test_an_answer_that_cannot_be_parsed_because_it_is_not_there_yet_is_a_timeout_still(tmp_path: Path) -> None:
    bubblewrap()
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        parsed = Episodes(tmp_path, provider, ["notes"], parse="last_number")
        assert "1 failed" in parsed.run().out or "failed" in parsed.shell("show", "latest").out
        provider.dear = False
        done = parsed.shell("continue", "latest")
        assert provider.paid == 5, done


def test_all_after_one_continues_the_other_and_keeps_the_first(episodes: Episodes, original: str) -> None:
    assert episodes.shell("continue", f"{original}/notes").code == 0
    assert episodes.provider.paid == 3
    done = episodes.shell("continue", original)
    assert done.code == 0 and episodes.provider.paid == 6, done
    assert "at the limit 0.0 %, continued 100.0 %" in done.out


def test_a_continuation_that_timed_out_again_goes_on_from_there_by_either_name(
    episodes: Episodes, original: str
) -> None:
    episodes.provider.dear = True
    done = episodes.shell("continue", original)
    assert done.code == 0 and episodes.provider.paid == 4, done
    further = episodes.shell.run.name
    assert f"2 trials at the limit again: onward continue {further} gives more time" in done.out
    again = episodes.shell("continue", original)  # the same words mean the same continuation
    assert again.code == 0 and episodes.provider.paid == 4, again
    episodes.provider.dear = False
    assert episodes.shell("continue", f"{further}/notes").code == 0
    assert episodes.provider.paid == 5
    done = episodes.shell("continue", original, "--timeout", "90")  # more time goes on from the furthest
    assert done.code == 0 and episodes.provider.paid == 6, done
    assert "at the limit 0.0 %, continued 100.0 %" in done.out
    assert len({call.digest for call in episodes.provider.server.calls}) == 6, "nothing is asked twice"


def test_plan_needs_no_agent_no_key_and_no_environment(episodes: Episodes, original: str) -> None:
    episodes.shell.environment = {}
    planned = episodes.shell("continue", original, "--plan")
    assert planned.code == 0, planned
    assert re.match(r"2 timeouts: served again ≈ \d+ s, live ≤ 3 min, ≈ \$0\.\d\d\n", planned.out), planned.out
    rows = json.loads(episodes.shell("continue", original, "--plan", "--timeout", "60", "--json").out)
    assert [(row["exchanges"], row["live"], row["left_out"]) for row in rows] == [(2, 60.0, "")] * 2
    assert len(stored_runs(episodes.shell.store)) == 1


def test_who_is_left_out_is_named_with_the_reason(episodes: Episodes, original: str) -> None:
    assert episodes.shell("continue", f"{original}/notes").code == 0
    done = episodes.shell("continue", "latest")  # the derived run: one trial is done there, one timed out
    assert done.code == 0, done
    assert "left out: command/notes/1: it did not time out: it is done" in done.out
    assert "at the limit 0.0 %, continued 100.0 %" in done.out
    nothing = episodes.shell("continue", "latest")
    assert nothing.code == 1 and "has no timed-out trial to continue" in nothing.err


def test_a_named_trial_that_did_not_time_out_goes_on_unless_that_is_required(episodes: Episodes, original: str) -> None:
    assert episodes.shell("continue", original).code == 0
    refused = episodes.shell("continue", "latest/notes", "--require-timeout")
    assert refused.code == 1 and "it did not time out: it is done" in refused.out
    paid = episodes.provider.paid
    done = episodes.shell("continue", "latest/notes")
    assert done.code == 0 and episodes.provider.paid == paid, done
    assert report(episodes.shell)["served"] == {"exact": 5}


def test_another_model_answers_the_live_part_and_the_result_says_so(episodes: Episodes, original: str) -> None:
    done = episodes.shell("continue", f"{original}/notes", "--model", "openai/gpt-4o-mini")
    assert done.code == 0, done
    assert {request["model"] for request in episodes.provider.asked} == {"gpt-4o-mini"}
    said = "openai/gpt-4o (recorded), openai/gpt-4o-mini (live)"
    assert said in episodes.shell("show", "latest").out
    shown = episodes.shell("show", "latest/notes", "--trajectory").out
    assert "openai/gpt-4o (recorded), openai/gpt-4o-mini (live)" in shown
    assert episodes.shell("export", "latest/notes", "--format", "benchflow", "-o", "out").code == 0
    config = json.loads((episodes.shell.folder / "out" / "config.json").read_text())
    assert config["model"] == "gpt-4o (recorded), gpt-4o-mini (live)"


def test_replay_only_needs_no_key_and_no_provider_and_verifies_at_the_cut_point(
    episodes: Episodes, original: str
) -> None:
    episodes.shell.environment = {"PATH": episodes.shell.environment["PATH"]}
    done = episodes.shell("continue", original, "--replay-only")
    assert done.code == 0, done
    assert "at the limit 0.0 %, at the end of the record 0.0 %" in done.out and episodes.provider.paid == 0
    run = open_run(episodes.shell.run)
    kept = [entry.value["workspace"] for entry in run.entries("", ("result",)) if entry.key.endswith("generate/0")]
    run.close()
    assert len(kept) == 2
    said = report(episodes.shell)
    assert (said["served"], said["paid"], said["divergences"]) == ({"exact": 2}, 0, 0)
    assert "the record ends here" in episodes.shell("show", "latest/notes").out


def test_a_divergence_of_a_replay_names_the_nearest_exchange_and_where_it_differs(tmp_path: Path) -> None:
    bubblewrap()
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        restless = Episodes(tmp_path, provider, ["notes"], env={"RESTLESS": "1"})
        assert restless.run().code == 0
        done = restless.shell("continue", "latest", "--replay-only")
        assert done.code == 3, done
        assert re.search(r"a divergence; the nearest left is \S+llm:\w+#1, and differs at messages\[\d\]", done.out)
        assert provider.paid == 2


@pytest.mark.parametrize("policy", ["warn", "strict", "fork"])
def test_a_tool_that_says_something_else_is_treated_as_it_was_told(tmp_path: Path, policy: str) -> None:
    bubblewrap()
    with Meanwhile(EPISODE, dear=True, many=3) as provider:  # the second command says the time
        differing = Episodes(tmp_path, provider, ["notes"])
        assert differing.run().code == 0 and provider.paid == 3
        original, provider.dear = differing.shell.run.name, False
        words = ["--strict-divergence"] if policy == "strict" else ["--on-divergence", policy]
        done = differing.shell("continue", original, *words)
        if policy == "strict":
            assert done.code == 3 and provider.paid == 3, done
            assert "differs at messages[4].content" in done.out
            assert "at the limit 0.0 %, continued" not in done.out  # it is not scored
            return
        assert done.code == 0, done
        said = report(differing.shell)
        assert (said["policy"], said["divergences"]) == (policy, 1)
        assert "messages[4].content" in str(said["first_divergence"])
        assert said["served"] == ({"exact": 2, "prefix": 1} if policy == "warn" else {"exact": 2})
        assert provider.paid == 3 + (2 if policy == "warn" else 3)


def test_what_a_replay_takes_is_not_charged_to_the_live_budget(tmp_path: Path) -> None:
    """The agent sleeps longer than its limit before its third call, and does so again in the replay."""
    bubblewrap()
    with Meanwhile(EQUAL_EPISODE) as provider:
        slow = Episodes(tmp_path, provider, ["notes"], env={"SLEEP": "3"}, limits={"attempts": 1, "time": 2})
        assert slow.run().code == 0
        assert provider.paid == 2
        done = slow.shell("continue", "latest")
        assert done.code == 0 and provider.paid == 5, done
        assert "at the limit 0.0 %, continued 100.0 %" in done.out


@pytest.mark.parametrize("finish", ["continue", "resume"])
def test_a_killed_continuation_is_gone_on_with_by_the_same_command_and_by_resume(
    episodes: Episodes, original: str, finish: str
) -> None:
    words = ["continue", f"{original}/notes", "--model", "openai/gpt-4o-mini"]
    episodes.provider.hold_after(2)
    process = episodes.shell.start(*words)
    until(lambda: episodes.provider.held, "a call that is held")
    process.send_signal(signal.SIGKILL)
    ended(process)
    episodes.provider.release()
    done = episodes.shell(*words) if finish == "continue" else episodes.shell("resume")
    assert done.code == 0, done
    # What the provider had in hand at the kill may have been billed; nothing that was answered is asked again.
    said = report(episodes.shell)
    assert (said["served"], said["paid"]) == ({"exact": 4}, 1), said
    assert len(stored_runs(episodes.shell.store)) == 2
    assert episodes.shell(*words).code == 0 and len(episodes.provider.asked) == 4
    assert "at the limit 0.0 %, continued 50.0 %" in episodes.shell("show", "latest").out


def test_a_ctrl_c_in_the_last_lines_of_a_continuation_changes_neither_them_nor_the_exit_code(
    episodes: Episodes, original: str
) -> None:
    episodes.provider.hold_after(1)
    process = episodes.shell.start("continue", f"{original}/notes", "--quiet")
    until(lambda: episodes.provider.held, "a call that is held")
    assert process.stdout is not None
    interrupt(process)
    assert "resume: onward resume" in process.stdout.readline()
    pipe = unread(process)
    episodes.provider.release()
    until(lambda: waits_to_write(process), "it waits for who reads standard output")
    interrupt(process)
    os.close(pipe)
    done = ended(process)
    assert done.code == 3 and not done.err, done
    assert "spent $" in done.out and "owed: 1 trial of 2: Ctrl-C" in done.out


def test_a_killed_continuation_that_is_named_itself_goes_on(episodes: Episodes, original: str) -> None:
    episodes.provider.hold_after(1)
    process = episodes.shell.start("continue", f"{original}/notes")
    until(lambda: episodes.provider.held, "a call that is held")
    process.send_signal(signal.SIGKILL)
    ended(process)
    episodes.provider.release()
    done = episodes.shell("continue", "latest")
    assert done.code == 0 and "is a continuation that was cut off: it goes on" in done.out, done
    assert report(episodes.shell)["served"] == {"exact": 3}


def test_what_is_no_longer_what_was_recorded_is_refused_or_marked(tmp_path: Path) -> None:
    bubblewrap()
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        own = Episodes(tmp_path, provider, ["notes"], score="mine.py:half")
        own.shell.write("mine.py", "def half(answer, target, **_):\n    return 0.5\n")
        assert own.run().code == 0
        own.shell.write("mine.py", "def half(answer, target, **_):\n    return 0.25\n")
        original = own.shell.run.name
        done = own.shell("continue", original)
        assert done.code == 5 and "score/half changed" in done.err and "--accept-mismatch" in done.err, done
        assert provider.paid == 2 and len(stored_runs(own.shell.store)) == 1
        provider.dear = False
        done = own.shell("continue", original, "--accept-mismatch")
        assert done.code == 0 and "not what was recorded: score/half changed" in done.out, done
        assert "not what was recorded: score/half changed" in own.shell("show", "latest").out


def test_the_budget_is_the_continuations_own(episodes: Episodes, original: str) -> None:
    episodes.provider.dear = True
    done = episodes.shell("continue", f"{original}/notes", "--budget-usd", "0.000001", "--price", "gpt-4o=1/1")
    assert done.code == 3 and episodes.provider.paid == 0, done
    assert "budget" in done.out
    done = episodes.shell("continue", f"{original}/notes", "--budget-usd", "1")
    assert done.code == 0 and episodes.provider.paid > 0, done


def test_the_key_and_the_tokens_of_trials_are_nowhere(episodes: Episodes, original: str) -> None:
    logged = episodes.shell("--log-format", "json", "continue", original)
    assert logged.code == 0, logged
    assert episodes.shell("export", "latest", "--format", "benchflow", "-o", "out").code == 0
    assert episodes.provider.keys == {f"Bearer {KEY}"}
    told = [logged.out, logged.err, *map(_everything, stored_runs(episodes.shell.store))]
    files = (path for path in episodes.shell.folder.rglob("*") if path.is_file())
    for content in (*(text.encode() for text in told), *(path.read_bytes() for path in files)):
        assert KEY.encode() not in content
        assert not re.search(rb"onward-[A-Za-z0-9_-]{32}", content)


def _everything(folder: Path) -> str:
    """All that a run's entries say, unpacked."""
    run = open_run(folder)
    try:
        kinds = ("plan", "intent", "result", "served", "void")
        return json.dumps([dict(entry.data) for entry in run.entries("", kinds)], default=str)
    finally:
        run.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{run}/nosuch"], 1, "has no task 'nosuch'"),
        (["tasks"], 1, "tasks is a folder, but no run, and neither it nor a folder in it is a run folder of"),
        (["{run}", "--strict-divergence", "--on-divergence", "fork"], 2, "exclude each other"),
        (["{run}", "--model", "gpt-4o"], 2, "provider/name"),
        (["{run}", "--tasks-dir", "tasks"], 2, "--tasks-dir is about a run folder of BenchFlow's"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    episodes: Episodes, original: str, words: list[str], code: int, said: str
) -> None:
    done = episodes.shell("continue", *(word.format(run=original) for word in words))
    assert (done.code, said in done.err) == (code, True), done
    assert episodes.provider.paid == 0
