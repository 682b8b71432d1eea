"""`onward wrap` as its users have it: real programs under it, killed for real, and a provider that counts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.cli.console import LIMIT, Done, Shell, ended, until
from tests.cli.test_run_dies import Gate

from onward.runs import stored_runs
from onward.testing import ProviderServer

CALLS = 5
LOOP = """
while read number; do
  curl -sS -H "Authorization: Bearer $OPENAI_API_KEY" "$OPENAI_BASE_URL/chat/completions" \\
    -d '{"model": "gpt-4o-mini", "max_tokens": 16, "messages": [{"role": "user", "content": "question '$number'"}]}'
  echo
done
"""
"""A line of input is a question, a line of output its answer."""
ASKING = """
import json, os, signal, sys, time, urllib.request

def ask(text):
    body = {"model": "gpt-4o-mini", "max_tokens": 16, "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]
"""
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")


class Wrap:
    """A shell that wraps programs, each in a process group of its own, as a terminal does."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "onward", "wrap", *words], cwd=self.shell.folder, env=self.shell.environment,
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def __call__(self, *words: str) -> Done:
        return ended(self.start(*words))

    def program(self, text: str) -> str:
        self.shell.write("program.py", f"{ASKING}\n{text}\n")
        return "program.py"


@pytest.fixture
def wrap(tmp_path: Path) -> object:
    with ProviderServer() as server:
        yield Wrap(Shell(tmp_path, server))


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to all of its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=LIMIT)


def asked(process: subprocess.Popen[str], questions: int) -> list[str]:
    """Ask so many questions, one after the other; the answers."""
    assert process.stdin is not None
    assert process.stdout is not None
    answers = []
    for number in range(1, questions + 1):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        answers.append(process.stdout.readline())
    return answers


@needs_curl
def test_a_shell_loop_of_curl_killed_after_each_of_its_calls_pays_each_once(wrap: Wrap) -> None:
    server, answers = wrap.shell.server, []
    wrap.shell.write("loop.sh", LOOP)
    for calls in range(1, CALLS + 1):
        process = wrap.start("--", "sh", "loop.sh")
        answers.append(asked(process, calls))
        kill(process)
        assert server is not None
        assert len(server.calls) == calls
    process = wrap.start("--", "sh", "loop.sh")
    answers.append(asked(process, CALLS))
    done = ended(process)
    assert (done.code, len(server.calls)) == (0, CALLS)
    assert all(early == answers[-1][: len(early)] for early in answers) and len(set(answers[-1])) == CALLS
    first, last = done.err.splitlines()
    assert "goes on" in first and f"Recorded: {CALLS} answers" in first
    assert last.endswith(f"served {CALLS}, paid 0 ($0.00)")
    assert wrap.shell("verify", "latest").code == 0


def test_a_call_in_flight_at_a_kill_is_in_doubt_and_is_asked_again(tmp_path: Path) -> None:
    gate = Gate(free=2)
    with gate.server:
        wrap = Wrap(Shell(tmp_path, gate.server))
        program = wrap.program('for number in range(4): ask(f"question {number}")')
        process = wrap.start("--", sys.executable, program)
        until(lambda: len(gate.server.requests) == 3, "the third call")
        kill(process)
        gate.open()
        done = wrap("--", sys.executable, program)
    first, last = done.err.splitlines()
    assert "Recorded: 2 answers" in first and "1 call in doubt, to be asked again (at most $" in first
    assert done.code == 0 and "served 2, paid 2 (" in last
    assert max(Counter(call.digest for call in gate.server.calls).values()) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_program_ends_with_us_and_the_same_command_goes_on(tmp_path: Path) -> None:
    gate = Gate(free=2)
    with gate.server:
        wrap = Wrap(Shell(tmp_path, gate.server))
        program = wrap.program('print(os.getpid(), flush=True); [ask(f"question {number}") for number in range(4)]')
        process = wrap.start("--", sys.executable, program)
        assert process.stdout is not None
        child = int(process.stdout.readline())
        until(lambda: len(gate.server.requests) == 3, "the third call")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LIMIT)
        until(lambda: not Path(f"/proc/{child}").exists(), "the end of the program")
        gate.open()
        assert "served 2, paid 2 (" in wrap("--", sys.executable, program).err


def test_killing_the_program_alone_ends_as_a_shell_would_say_and_goes_on(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); os.path.exists("go") or os.kill(os.getpid(), signal.SIGKILL); ask("two")')
    died = wrap("--", sys.executable, program)
    assert died.code == 137
    assert died.err.splitlines()[-1].endswith("Not finished: killed by SIGKILL. The same command goes on")
    wrap.shell.write("go", "")
    assert "served 1, paid 1 (" in wrap("--", sys.executable, program).err


def test_ctrl_c_reaches_the_program_which_may_take_its_time(wrap: Wrap) -> None:
    program = wrap.program("""
def end(*_):
    print("putting things in order", ask("a last word"), flush=True)
    sys.exit(5)
signal.signal(signal.SIGINT, end)
ask("one")
print("ready", flush=True)
while True: signal.pause()
""")
    process = wrap.start("--", sys.executable, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert done.code == 5 and "putting things in order answer" in done.out
    assert "served 0, paid 2" in done.err and "stopped by Ctrl-C, exit code 5. The same command goes on" in done.err


def test_ctrl_c_at_a_terminal_reaches_the_program_once(wrap: Wrap) -> None:
    program = wrap.program("""
count = []
signal.signal(signal.SIGINT, lambda *_: count.append(1))
ask("one")
print("ready", sys.stdin.isatty(), sys.stdout.isatty(), flush=True)
while not count: signal.pause()
ask("two")
print("interrupts:", len(count))
""")
    terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    with subprocess.Popen(
        [sys.executable, "-c", terminal, sys.executable, "-m", "onward", "wrap", "--", sys.executable, program],
        cwd=wrap.shell.folder, env=wrap.shell.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        while "ready" not in (line := process.stdout.readline()):
            assert line, "it ended before it was ready"
        assert line.split() == ["ready", "True", "True"]
        process.stdin.write("\x03")
        process.stdin.flush()
        out = process.stdout.read()
    assert "interrupts: 1\n" in out and "Not finished: stopped by Ctrl-C" in out
    assert process.returncode == 3


def test_onward_stop_tells_the_program_to_end(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); print("ready", flush=True); signal.pause()')
    process = wrap.start("--name", "sweep", "--", sys.executable, program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert wrap.shell("stop", "sweep").code == 0
    done = ended(process)
    assert done.code == 128 + signal.SIGTERM and "The same command goes on" in done.err


def test_input_and_output_are_the_programs_own(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); sys.stdout.write(sys.stdin.read().upper()); print("aside", file=sys.stderr)')
    process = wrap.start("--", sys.executable, program)
    out, err = process.communicate("what is typed\n", timeout=LIMIT)
    assert out == "WHAT IS TYPED\n"
    assert [line for line in err.splitlines() if not line.startswith("wrap-")] == ["aside"]
    assert wrap("-q", "--resume", "--", sys.executable, program).err == "aside\n"


def test_a_second_of_one_name_is_refused_and_told_who_runs(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); print("ready", flush=True); sys.stdin.read()')
    process = wrap.start("--name", "sweep", "--", sys.executable, program)
    assert process.stdout is not None
    process.stdout.readline()
    second = wrap("--name", "sweep", "--", sys.executable, program)
    assert second.code == 4 and f"is being driven by process {process.pid}" in second.err
    assert ended(process).code == 0


def test_the_first_line_says_which_go_it_is_and_the_last_what_came_of_it(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); sys.exit(3)')
    new, anew, again = (wrap(*more, "--", sys.executable, program).err.splitlines() for more in ((), (), ("--resume",)))
    assert new[0].endswith(": new. Every answer is recorded before it is passed on")
    assert "with exit code 3, and begins anew. Left aside: 1 answer (" in anew[0]
    assert "is served its record. Recorded: 1 answer (" in again[0]
    assert "served 0, paid 1 ($0.0000" in new[1] and "with --resume it goes on" in new[1]
    assert "served 1, paid 0 ($0.00)" in again[1]


def test_that_answers_are_left_aside_is_never_kept_quiet_and_how_to_have_them_back(wrap: Wrap) -> None:
    early = 'os.path.exists("early") and os.kill(os.getpid(), 9)'
    program = wrap.program(f'{early}; ask("one")')
    assert wrap("-q", "--", sys.executable, program).err == ""
    wrap.shell.write("early", "")
    anew, once_more = (wrap("-q", "--", sys.executable, program).err, wrap("--", sys.executable, program).err)
    assert "begins anew. Left aside: 1 answer (" in anew and "To have them back stop it before its first" in anew
    assert "Left aside before: 1 answer (" in once_more and "give --resume" in once_more
    (wrap.shell.folder / "early").unlink()
    back = wrap("--resume", "--", sys.executable, program).err
    assert "begun anew" in back and "nothing recorded since. Had back: 1 answer (" in back
    assert "served 1, paid 0 ($0.00)" in back


def test_a_program_that_goes_past_us_fails_loudly(wrap: Wrap) -> None:
    done = wrap("--", sys.executable, "-c", "print('done')")
    assert done.code == 1 and done.out == "done\n"
    assert "made no model call through the gateway" in done.err and "OPENAI_BASE_URL=http://127.0.0.1:" in done.err
    again = wrap("--", sys.executable, "-c", "print('done')").err.splitlines()[0]
    assert "without a call, and begins anew" in again


def test_it_is_listed_and_shown_like_any_run_and_no_other_verb_drives_it(wrap: Wrap) -> None:
    program = wrap.program('ask("one")')
    assert wrap("--name", "sweep", "--", sys.executable, program).code == 0
    assert "sweep-" in wrap.shell("runs").out and "1 call" in wrap.shell("show", "sweep").out
    assert "onward wrap --name sweep" in wrap.shell("show", "sweep/command").out
    assert wrap.shell("export", "sweep", "--format", "folder", "-o", "copy").code == 0
    for words in (["resume"], ["redo"], ["resume", "--plan"], ["run", "--retry-errors"]):
        refused = wrap.shell(*words, "sweep")
        assert refused.code == 2 and "goes on by its own command" in refused.err and "wrap --name sweep" in refused.err
    assert "served 1, paid 0" in wrap("--name", "sweep", "--resume", "--", sys.executable, program).err


def test_a_resume_without_a_name_leaves_it_to_its_own_command_and_says_which(wrap: Wrap) -> None:
    program = wrap.program('ask("one"); os.kill(os.getpid(), 9)')
    assert wrap("--name", "sweep", "--", sys.executable, program).code == 137
    command = f"In {wrap.shell.folder}: onward wrap --name sweep -- {sys.executable} {program}"
    for words in (["resume"], ["resume", "--plan"]):
        alone = wrap.shell(*words)
        assert alone.code == 1 and "nothing that `onward resume` can go on with" in alone.err and command in alone.err
    wrap.shell.environment["OPENAI_BASE_URL"] = f"{wrap.shell.server.url}/v1" if wrap.shell.server else ""
    assert wrap.shell("run", wrap.shell.experiment(), "--max-new", "1").code == 3
    assert wrap("--name", "sweep", "--", sys.executable, program).code == 137  # the newest of the two
    beside = wrap.shell("resume")
    assert beside.code == 0 and command in beside.out and "resuming nightly-" in beside.out


def test_the_command_that_goes_on_says_where_its_calls_and_its_record_are(wrap: Wrap) -> None:
    assert wrap.shell.server is not None
    words = ["--upstream", f"chat={wrap.shell.server.url}", "--key-name", "OTHER_KEY", "--agent", "codex"]
    wrap.shell.environment["OTHER_KEY"] = "sk-onward-testing-other"
    program = wrap.program('ask("one"); os.kill(os.getpid(), 9)')
    assert wrap("--store", "elsewhere", *words, "--", sys.executable, program).code == 137
    told = f"--store {wrap.shell.folder}/elsewhere -- {sys.executable} {program}"
    assert f"onward wrap {' '.join(words)} {told}" in wrap.shell("resume", "--store", "elsewhere").err
    assert wrap("--store", "elsewhere", "--", sys.executable, program).code == 137  # as it was told last
    assert f"onward wrap {told}" in wrap.shell("resume", "--store", "elsewhere").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("true",), "put -- before the command"),
        (("--", "no-such-program-anywhere"), "there is no program 'no-such-program-anywhere'"),
        (("--",), "Missing argument"),
        (("--upstream", "localhost:8000", "--", "true"), "--upstream localhost:8000: give it as a URL"),
        (("--upstream", "chatt=http://h", "--", "true"), 'Did you mean "chat"?'),
        (("--resume", "--new", "--", "true"), "--resume and --new exclude each other"),
        (("--agent", "codx", "--", "true"), 'Did you mean "codex"?'),
        (("--on-divergence", "stop", "--", "true"), "--on-divergence is one of warn, strict, fork"),
        (("--name", "a b", "--", "true"), "'a b' is not a name"),
        (("--log-format", "json", "--", "true"), "standard output is the program's"),
        (("--", "true", "sk-onward-testing"), "holds the value of OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_said_and_nothing_is_written(wrap: Wrap, words: tuple[str, ...], said: str) -> None:
    done = wrap(*words)
    assert done.code == 2 and said in done.err
    assert not stored_runs(wrap.shell.store)
