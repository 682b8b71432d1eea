"""Agents are installed once per version, whole or not at all. npm is played by a program; the venv is a real one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agents.rig import NPM

from onward.agents import Installed
from onward.agents.contract import Go, Launch
from onward.agents.installing import Npm, Venv, found, interpreter, node, provided
from onward.agents.packaged import Packaged
from onward.errors import UsageError

TOOL = Npm("@some/tool", ("node_modules/@some/native-*/tool", "node_modules/@some/tool/tool"))
Programs = Callable[[str], Path]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts an npm on the PATH that does this before it installs; returns the log of what was asked of it."""
    log = tmp_path / "asked"

    def put(more: str = "") -> Path:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(NPM.format(python=sys.executable, log=str(log), more=more))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        return log

    return put


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_version_is_installed_once_and_found_again(npm: Programs, tmp_path: Path) -> None:
    asked, said = npm(""), list[str]()
    assert found(tmp_path / "cache", "tool", "1.2.3") is None
    folder, note = provided(tmp_path / "cache", "tool", "1.2.3", TOOL, said.append)
    assert found(tmp_path / "cache", "tool", "1.2.3") == (folder, note)
    assert provided(tmp_path / "cache", "tool", "1.2.3", TOOL, said.append) == (folder, note)
    assert lines(asked) == ["@some/tool@1.2.3"] and len(said) == 1
    assert subprocess.run([folder / note["program"]], capture_output=True, text=True, check=True).stdout == "1.2.3\n"


def test_versions_stand_side_by_side(npm: Programs, tmp_path: Path) -> None:
    npm("")
    places = {provided(tmp_path, "tool", version, TOOL, print)[0] for version in ("1.0.0", "1.0.1")}
    assert len(places) == 2 and all(place.is_dir() for place in places)


def test_a_container_s_user_may_read_it_and_nothing_tells_where_it_came_from(npm: Programs, tmp_path: Path) -> None:
    npm("")
    folder, _ = provided(tmp_path, "tool", "1.0.0", TOOL, print)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert not [path for path in folder.rglob("*") if path.is_file() and "://" in path.read_text()]


def test_two_at_once_install_it_once(npm: Programs, tmp_path: Path) -> None:
    asked = npm(f"while not Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)")
    got: list[Any] = []
    waits = threading.Event()

    def say(text: str) -> None:
        if text.startswith("waiting"):
            waits.set()

    def install() -> None:
        got.append(provided(tmp_path / "cache", "tool", "1.0.0", TOOL, say))

    threads = [threading.Thread(target=install) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waits.wait(30)  # one installs, the other says that it waits
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(30)
    assert len(got) == 2 and got[0] == got[1] and len(lines(asked)) == 1


def test_an_installation_that_fails_is_not_found_and_says_why(npm: Programs, tmp_path: Path) -> None:
    npm("(folder / 'half').touch(); sys.exit('E404 no such version')")
    with pytest.raises(UsageError, match="E404 no such version"):
        provided(tmp_path / "cache", "tool", "1.0.0", TOOL, print)
    assert found(tmp_path / "cache", "tool", "1.0.0") is None
    assert [path.name for path in (tmp_path / "cache" / "agents" / "tool").iterdir()] == [".1.0.0.lock"]


def test_what_a_killed_installer_left_is_removed_and_not_taken_for_whole(npm: Programs, tmp_path: Path) -> None:
    npm("os.kill(os.getppid(), 9); time.sleep(60)")
    code = (
        "import sys; from pathlib import Path; from onward.agents.installing import Npm, provided\n"
        f"provided(Path({str(tmp_path / 'cache')!r}), 'tool', '1.0.0', "
        "Npm('@some/tool', ('node_modules/@some/tool/tool',)), print)"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as killed:
        assert killed.wait(60) == -9
        os.killpg(killed.pid, 9)  # its npm, asleep
    place = tmp_path / "cache" / "agents" / "tool"
    assert any("making" in path.name for path in place.iterdir())
    assert found(tmp_path / "cache", "tool", "1.0.0") is None
    npm("")
    provided(tmp_path / "cache", "tool", "1.0.0", TOOL, print)
    assert sorted(path.name for path in place.iterdir()) == [".1.0.0.lock", "1.0.0"]


def test_a_damaged_installation_is_made_anew(npm: Programs, tmp_path: Path) -> None:
    asked = npm("")
    folder, note = provided(tmp_path, "tool", "1.0.0", TOOL, print)
    (folder / note["program"]).unlink()
    assert found(tmp_path, "tool", "1.0.0") is None
    assert provided(tmp_path, "tool", "1.0.0", TOOL, print)[0] == folder
    assert (folder / note["program"]).exists() and len(lines(asked)) == 2


def test_another_version_than_the_one_that_is_asked_for_is_refused(
    npm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm("")
    monkeypatch.setenv("GIVEN", "9.9.9")
    with pytest.raises(UsageError, match=r"9\.9\.9 where 1\.0\.0"):
        provided(tmp_path, "tool", "1.0.0", TOOL, print)


@pytest.mark.parametrize("version", ["latest", "", "../../etc", "^1.2"])
def test_a_version_that_would_not_stay_the_same_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no version"):
        found(tmp_path, "tool", version)


def test_a_machine_without_npm_or_node_is_told_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="apt-get install npm"):
        provided(tmp_path, "tool", "1.0.0", TOOL, print)
    with pytest.raises(UsageError, match="apt-get install nodejs"):
        node()


def test_an_agent_whose_node_has_gone_is_not_found_and_says_what_is_missing(
    npm: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tool(Packaged):
        name, summary, protocols, version = "tool", "", ("chat",), "1.0.0"
        package = Npm("@some/tool", ("node_modules/@some/tool/tool",), node=20)

        def started(self, installed: Installed, go: Go) -> Launch:
            raise NotImplementedError

    npm("")
    real, program = tmp_path / "elsewhere" / "node", tmp_path / "bin" / "node"
    real.parent.mkdir()
    real.write_text(f"#!/bin/sh\nprintf '{real}\\n20.1.0\\n'\n")
    real.chmod(0o755)
    program.write_text(f'#!/bin/sh\nexec {real} "$@"\n')  # a version manager's stand-in
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin")
    installed = Tool().install(tmp_path / "cache", {}, print)
    assert installed.command[0] == str(real) and real in [bind.source for bind in installed.binds]
    monkeypatch.setenv("PATH", "/nowhere")
    assert Tool().find(tmp_path / "cache", {}) is None
    with pytest.raises(UsageError, match="Node 20 or later is needed, and there is none here"):
        Tool().install(tmp_path / "cache", {}, print)
    real.write_text(f"#!/bin/sh\nprintf '{real}\\n16.0.0\\n'\n")
    monkeypatch.setenv("PATH", f"{program.parent}:/bin")
    assert "this one is 16.0.0" in Tool().lacking()


def test_a_machine_without_the_right_python_is_told_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r"tool needs Python 3\.99.*apt-get install python3\.99-venv"):
        interpreter(("3.99",), "tool")


def test_our_own_python_is_found_first() -> None:
    version = "{}.{}".format(*sys.version_info[:2])
    assert interpreter((version,), "tool") == Path(sys.base_prefix) / "bin" / f"python{version}"


def test_a_cache_that_cannot_be_written_is_an_error_in_words(npm: Programs, tmp_path: Path) -> None:
    npm("")
    (tmp_path / "agents").write_text("a file")
    with pytest.raises(UsageError, match="cannot be installed into"):
        provided(tmp_path, "tool", "1.0.0", TOOL, print)


def wheel(folder: Path) -> str:
    """A requirement that needs no network: a package with one program."""
    path = folder / "tiny-1.0.0-py3-none-any.whl"
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": "[console_scripts]\ntiny = tiny:main\n", "RECORD": "",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny.py", "import sys\ndef main():\n    print('tiny', sys.argv[1:], sys.prefix)\n")
        for name, text in about.items():
            file.writestr(f"tiny-1.0.0.dist-info/{name}", text)
    return f"tiny @ {path.parent.as_uri()}/tiny-{{version}}-py3-none-any.whl"


@pytest.mark.slow
def test_a_python_agent_runs_from_where_it_was_moved_to(tmp_path: Path) -> None:
    class Tiny(Packaged):
        name, summary, protocols, version = "tiny", "", ("chat",), "1.0.0"
        package = Venv((wheel(tmp_path),), "tiny", ("{}.{}".format(*sys.version_info[:2]),))

        def started(self, installed: Installed, go: Go) -> Launch:
            raise NotImplementedError

    installed = Tiny().install(tmp_path / "cache", {}, print)
    assert Tiny().find(tmp_path / "cache", {}) == installed
    said = subprocess.run([*installed.command, "word"], capture_output=True, text=True, check=True).stdout
    assert said == f"tiny ['word'] {tmp_path}/cache/agents/tiny/1.0.0/venv\n"
    sources = [bind.source for bind in installed.binds]
    assert sources[0] == tmp_path / "cache" / "agents" / "tiny" / "1.0.0"
    assert sources[1:] == ([] if sys.base_prefix.startswith("/usr") else [Path(sys.base_prefix)])
    assert json.loads((sources[0] / "onward.json").read_text())["version"] == "1.0.0"
