"""The tutorial and the how-to pages, typed in from top to bottom, as a reader would.

- A block after `<!-- file: NAME -->` is written to that file.
- In a `sh` block each line that begins with `$ ` is run; the lines after it must come, in this order, in what it says.
  `…` stands for anything; times, run ids and folders are not compared.
- `<!-- exit: N -->` above a block: its last command ends with N. Otherwise each ends with 0.
- `<!-- not run: why -->` above a block: it is not run. So are blocks of other kinds.
- `127.0.0.1:8765` is a scripted provider that always says "The answer is 42."
- The seconds of `timeout -s KILL` begin when the program has said what there is to do: a busy machine takes some to
  start it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs import pages

from onward.testing import ProviderServer

RUNNABLE = sorted([*(pages.DOCS / "tutorial").glob("*.md"), *(pages.DOCS / "how-to").glob("*.md")])
_KEPT_OUT = ("_KEY", "_TOKEN", "_BASE_URL")
TIMEOUT = f"""\
#!{sys.executable}
import subprocess, sys
seconds, *command = sys.argv[3:]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
    for line in program.stdout:
        print(line, end="", flush=True)
        if "to do." in line:
            break
    try:
        program.wait(float(seconds))
    except subprocess.TimeoutExpired:
        program.kill()
    print(program.stdout.read(), end="")
sys.exit(137 if program.returncode < 0 else program.returncode)
"""


def _commands(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0][:-1]}{line.strip()}", found[-1][1])
        elif line.strip():
            found[-1][1].append(line)
    return found


def _plain(line: str) -> str:
    line = re.sub(r"-[0-9a-f]{6}\b", "-ID", line)
    line = re.sub(r"\b\d\d:\d\d\b|\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line)
    return " ".join(line.split())


def _fits(expected: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part.strip()) for part in _plain(expected).split("…"))
    return re.fullmatch(pattern, _plain(line)) is not None


def _compare(command: str, expected: list[str], said: str) -> None:
    waiting = iter(said.splitlines())
    for line in expected:
        if line.strip() != "…" and not any(_fits(line, own) for own in waiting):
            pytest.fail(f"$ {command}\ndoes not say, at its place:\n{line}\nbut:\n{said}", pytrace=False)


@pytest.fixture
def provider():
    with ProviderServer(lambda request: "The answer is 42.", latency=0.02) as server:
        yield server.url.removeprefix("http://")


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith(_KEPT_OUT)}
    here = Path(sys.executable).parent
    return {**kept, "PATH": f"{folder}/.bin:{here}:{kept.get('PATH', '')}", "COLUMNS": "200", "HOME": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda path: path.stem)
def test_a_page_does_what_it_says(page, tmp_path, provider):
    (tmp_path / ".bin").mkdir()
    (tmp_path / ".bin" / "timeout").write_text(TIMEOUT)
    (tmp_path / ".bin" / "timeout").chmod(0o755)
    for block in pages.blocks(page):
        text = block.text.replace("127.0.0.1:8765", provider)
        notes = dict(note.partition(": ")[::2] for note in block.notes)
        if "file" in notes:
            (tmp_path / notes["file"]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / notes["file"]).write_text(text)
        if block.kind != "sh" or "not run" in notes:
            continue
        commands = _commands(text)
        for place, (command, expected) in enumerate(commands, 1):
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=_environment(tmp_path), text=True, timeout=110,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            wanted = int(notes.get("exit", 0)) if place == len(commands) else 0
            code = done.returncode if done.returncode >= 0 else 128 - done.returncode
            assert code == wanted, f"{page.name}:{block.line}\n$ {command}\n{done.stdout}"
            _compare(command, expected, done.stdout)


def test_examples_in_the_reference_and_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (pages.DOCS / "reference" / "python-api.md", pages.ROOT / "README.md"):
        for number, block in enumerate(pages.blocks(path)):
            if block.kind == "python" and not any(note.startswith("not run") for note in block.notes):
                file = tmp_path / f"{path.stem}_{number}.py"
                file.write_text(block.text)
                done = subprocess.run(
                    [sys.executable, str(file)], cwd=tmp_path, env=_environment(tmp_path), text=True,
                    capture_output=True, check=False, timeout=110,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                for said in re.findall(r"print\(.*\)\s+# (.*)$", block.text, re.MULTILINE):
                    assert said in done.stdout


def test_experiments_in_the_reference_and_the_readme_load(tmp_path):
    from onward import written

    seen = 0
    for path in (pages.DOCS / "reference" / "experiment-file.md", pages.ROOT / "README.md"):
        for block in pages.blocks(path):
            if block.kind == "yaml":
                file = tmp_path / "experiment.yaml"
                file.write_text(block.text)
                written.load(file)
                seen += 1
    assert seen >= 2
