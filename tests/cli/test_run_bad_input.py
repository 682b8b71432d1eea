"""Bad input (issue 2, §5.7): each with a clear message, an exit code, no traceback, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.console import Shell

from onward.testing import Fault, ProviderServer

ROWS = '{"id": "a", "input": "x", "target": 1}\n'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nightly.yaml", b"tasks: [a\nsolver: {b\n", "not YAML"),
        (
            "nightly.yaml",
            b"tasks: nightly.jsonl\nsovler: openai/m\n",
            'nightly.yaml:2: sovler: unknown field. Did you mean "solver"?',
        ),
        ("nightly.yaml", b"tasks: nightly.jsonl\nsolver: openai/m\nscore: numerik\n", "nightly.yaml:3: "),
        ("nightly.yaml", b"tasks: gone.jsonl\nsolver: openai/m\n", "nightly.yaml:1: tasks: there is no file"),
        ("nightly.yaml", b"name: caf\xe9\n", "not UTF-8"),
        ("nightly.yaml", b"", "is empty"),
        ("nightly.jsonl", b"", "nightly.jsonl holds no task"),
        ("nightly.jsonl", 2 * ROWS.encode(), 'nightly.jsonl:2: the id "a" is also in line 1'),
        ("nightly.jsonl", b'{"id": "a"}\n', 'nightly.jsonl:1: the row has no "input"'),
        ("nightly.jsonl", b'{"id": "a"\n', "nightly.jsonl:1: not JSON"),
        ("nightly.jsonl", b'{"id": "a", "input": "\xff"}\n', "nightly.jsonl:1: not UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_named_with_its_line(
    shell: Shell, server: ProviderServer, name: str, content: bytes, said: str
) -> None:
    shell.experiment()
    shell.write(name, content)
    done = shell("run", "nightly.yaml")
    assert done.code == 2 and said in done.err and "Traceback" not in done.err
    assert not server.requests and not shell.store.exists()


def test_a_missing_key_is_named(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    del shell.environment["OPENAI_API_KEY"]
    done = shell("run", "nightly.yaml")
    assert done.code == 2 and "No key for openai: set OPENAI_API_KEY" in done.err and not server.requests


def _faulty(*faults: Fault) -> Callable[[Path], ProviderServer]:
    return lambda _: ProviderServer(lambda _: "42", faults=faults)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("401"), "401"), (Fault("404"), "404"), (Fault("500"), "500"), (Fault("quota"), "quota"),
        (Fault("429", retry_after="99999"), "429"), (Fault("truncated"), ""), (Fault("cut"), ""),
        (Fault("garbage"), ""), (Fault("not-text"), ""),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)  # fmt: skip
def test_a_provider_that_fails_leaves_everything_owed_and_a_resume_finishes(
    tmp_path: Path, fault: Fault, said: str
) -> None:
    with ProviderServer(lambda _: "42", faults=[fault]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment(tasks=3)
        done = shell("run", "nightly.yaml")
        assert done.code == 3 and "owed: 3 trials of 3" in done.out and said in done.out
        assert "Traceback" not in done.out + done.err
        server.faults.clear()
        assert shell("resume").code == 0
        assert len(server.calls) == 3


@pytest.mark.parametrize("kind", ["context", "content"])
def test_what_a_provider_will_never_answer_has_failed_and_is_not_owed(tmp_path: Path, kind: str) -> None:
    with ProviderServer(lambda _: "42", faults=[Fault(kind, times=1)]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment(tasks=3)
        done = shell("run", "nightly.yaml")
        assert done.code == 0 and "failed" in done.out
        assert shell("resume", "nightly").code == 0
        assert len(server.requests) == 3


def test_a_huge_answer_and_one_with_a_nul_are_kept(tmp_path: Path) -> None:
    faults = [Fault("huge", times=1, size=50 * 1024 * 1024), Fault("nul", times=1)]
    with ProviderServer(lambda _: "42", faults=faults) as server:
        shell = Shell(tmp_path, server)
        shell.experiment(tasks=3, limits={"concurrency": 1, "attempts": 1})
        done = shell("run", "nightly.yaml")
        assert done.code == 0 and "3 calls" in done.out
        assert shell("verify", "nightly").code == 0


def test_a_store_that_cannot_be_written_is_said(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    shell.write("taken", "a file, where the store should be")
    done = shell("run", "nightly.yaml", "--store", "taken/runs")
    assert done.code in (1, 2) and "taken" in done.err and "Traceback" not in done.err and not server.requests


@pytest.mark.parametrize("words", [(), ("tasks",), ("agents",)])
def test_no_word_at_all_shows_the_help_and_nothing_beside_it(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell(*words)
    assert done.code == 2 and f"Usage: {' '.join(('onward', *words))} " in done.out and not done.err
