"""Task folders in both layouts: what is read, what is refused, what is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.laid import BENCHFLOW, DOCKERFILE, HARBOR, TASK_MD, TOML, laid

from onward.episode import Environment, Folder, Verifier
from onward.errors import SpecError, UsageError
from onward.tasks import Selection, Task, open_source
from onward.tasks.folders import FolderSource, look


def task_of(folder: Path) -> Task:
    found = look(folder)
    assert found.task is not None, found.wrong
    return found.task


def folder_of(folder: Path) -> Folder:
    return Folder.from_json(task_of(folder).metadata["folder"])


def toml(table: str, line: str) -> dict[str, str]:
    """HARBOR's files with another line in this table of its task.toml."""
    head = f"[{table}]\n"
    return {**HARBOR, "task.toml": TOML.replace(head, f"{head}{line}\n") if head in TOML else f"{TOML}{head}{line}\n"}


def front(line: str, **more: Any) -> dict[str, Any]:
    """BENCHFLOW's files with another line in the front matter."""
    return {**BENCHFLOW, "task.md": TASK_MD.replace("---\n\n## prompt", f"{line}\n---\n\n## prompt"), **more}


# ---------------------------------------------------------------- what is read


def test_a_folder_in_harbors_layout(tmp_path: Path) -> None:
    found = look(laid(tmp_path / "capitals", HARBOR))
    assert (found.wrong, found.told) == ((), ())
    task = found.task
    assert task is not None
    assert (task.id, task.input, task.target) == ("capitals", "Write /app/data.txt in capitals to /app/result.txt.", 1)
    assert [file.name for file in task.files] == sorted(HARBOR)
    assert {name: task.metadata[name] for name in ("difficulty", "category", "tags", "author_name")} == {
        "difficulty": "easy", "category": "programming", "tags": ["files", "shell"], "author_name": "Ada",
    }  # fmt: skip
    assert Folder.from_json(task.metadata["folder"]) == Folder(
        layout="harbor",
        environment=Environment(
            prefix="environment/", dockerfile="environment/Dockerfile", workdir="/app", cpus=1.0, memory=512,
            files={"/app/data.txt": "environment/data.txt"},
        ),
        verifier=Verifier(seconds=60.0),
        solution="/solution/solve.sh", solution_prefix="solution/",
        agent_seconds=120.0,
        modes={"tests/test.sh": 0o755, "solution/solve.sh": 0o755},
    )  # fmt: skip


def test_a_folder_in_benchflows_layout(tmp_path: Path) -> None:
    found = look(laid(tmp_path / "capitals", BENCHFLOW))
    assert (found.wrong, found.told) == ((), ())
    task = found.task
    assert task is not None
    assert task.input == "Write /app/data.txt in capitals to /app/result.txt."
    assert {name: value for name, value in task.metadata.items() if name != "folder"} == {
        "name": "tests/capitals", "description": "words in capitals", "difficulty": "easy", "category": "programming",
        "tags": ["files", "shell"],
    }  # fmt: skip
    folder = Folder.from_json(task.metadata["folder"])
    assert folder.layout == "benchflow"
    assert folder.verifier == Verifier("verifier/", "/verifier", "/verifier/test.sh", 60.0)
    assert (folder.solution, folder.solution_prefix, folder.solution_target) == (
        "/oracle/solve.sh", "oracle/", "/oracle",
    )  # fmt: skip
    assert folder.environment == folder_of(laid(tmp_path / "other", HARBOR)).environment


def test_task_md_wins_over_task_toml(tmp_path: Path) -> None:
    found = look(laid(tmp_path / "t", {**HARBOR, **BENCHFLOW, "task.toml": "this is no TOML"}))
    assert found.task is not None and found.task.metadata["folder"]["layout"] == "benchflow"
    assert found.told == ("task.toml: not read, for there is a task.md",)


def test_each_layout_may_use_the_others_folders(tmp_path: Path) -> None:
    usual = {name: text for name, text in HARBOR.items() if name.startswith(("tests/", "solution/"))}
    folder = folder_of(laid(tmp_path / "a", {"task.md": TASK_MD, **usual}))
    assert folder.verifier is not None
    assert (folder.verifier.command, folder.solution) == ("/tests/test.sh", "/solution/solve.sh")
    native = {name: text for name, text in BENCHFLOW.items() if name.startswith(("verifier/", "oracle/"))}
    folder = folder_of(laid(tmp_path / "b", {"task.toml": TOML, "instruction.md": "do", **native}))
    assert folder.verifier is not None
    assert (folder.verifier.command, folder.solution) == ("/verifier/test.sh", "/oracle/solve.sh")


def test_where_a_task_lies_and_who_may_write_it_is_no_part_of_it(tmp_path: Path) -> None:
    one, other = laid(tmp_path / "a" / "t", HARBOR), laid(tmp_path / "b" / "t", HARBOR)
    (other / "instruction.md").chmod(0o664)
    (other / "environment" / "data.txt").chmod(0o600)
    for name in ("tests/__pycache__/x.pyc", ".git/HEAD", "environment/.DS_Store"):
        laid(other, {name: "litter"})
    assert task_of(one).digest == task_of(other).digest
    (other / "environment" / "data.txt").chmod(0o755)
    assert task_of(one).digest != task_of(other).digest
    assert folder_of(other).modes["environment/data.txt"] == 0o755


def test_without_a_dockerfile_the_environments_files_are_the_workspace(tmp_path: Path) -> None:
    files = {**HARBOR, "environment/Dockerfile": None, "environment/deep/x": "x"}
    environment = folder_of(laid(tmp_path / "a", files)).environment
    assert (environment.workdir, environment.plain) == ("/work", True)
    assert sorted(environment.files) == ["/work/data.txt", "/work/deep/x"]
    files = {**toml("environment", 'workdir = "/srv/app/"'), "environment/Dockerfile": None}
    assert sorted(folder_of(laid(tmp_path / "b", files)).environment.files) == ["/srv/app/data.txt"]


@pytest.mark.parametrize(
    ("files", "obstacle"),
    [
        ({**HARBOR, "environment/Dockerfile": DOCKERFILE + "RUN make\n"}, "environment/Dockerfile, line 4: RUN make"),
        ({**toml("environment", 'docker_image = "ubuntu:24.04"'), "environment/Dockerfile": None},
         "task.toml: the image ubuntu:24.04"),
        (toml("environment", 'workdir = "/usr/src"'), "task.toml: the working folder /usr/src is among the system's"),
    ],
)  # fmt: skip
def test_what_needs_a_container_is_known_with_its_reason(
    tmp_path: Path, files: dict[str, str | None], obstacle: str
) -> None:
    environment = folder_of(laid(tmp_path / "t", files)).environment
    assert not environment.plain and obstacle in environment.obstacle and environment.files == {}


def test_settings_reach_the_folder(tmp_path: Path) -> None:
    more = """
[environment.env]
MODE = "test"
PORT = "${PORT:-8080}"

[verifier.env]
STRICT = "1"

[solution.env]
HINT = "yes"

[[environment.setup_commands]]
command = "make ready"
cwd = "/srv/x y"
env = { A = "it's" }
"""
    stated = TOML.replace(
        'network_mode = "no-network"', 'allow_internet = true\nbuild_timeout_sec = 30\nstorage = "2G"'
    )
    made = {**HARBOR, "task.toml": stated + more, "environment/Dockerfile": DOCKERFILE + "ENV MODE=image DIR=/x\n"}
    folder = folder_of(laid(tmp_path / "t", made))
    environment = folder.environment
    assert environment.env == {"MODE": "test", "DIR": "/x", "PORT": "8080"}
    assert (environment.network, environment.build_seconds, environment.storage) == (True, 30.0, 2048)
    assert environment.setup == ("export A='it'\"'\"'s'; cd '/srv/x y' && make ready",)
    assert folder.verifier is not None and folder.verifier.env == {"STRICT": "1"}
    assert folder.solution_env == {"HINT": "yes"}


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ("Just do it.\n", "Just do it."),
        ("# Title\n\nText.\n\n## Details\n\nMore.\n", "# Title\n\nText.\n\n## Details\n\nMore."),
        ("## prompt\n\nDo it.\n\n## Notes\n\nMore.\n", "Do it.\n\n## Notes\n\nMore."),
        ("## Prompt  \nDo it.", "Do it."),
        ("Write\n\\## prompt\nin a file.", "Write\n## prompt\nin a file."),
    ],
)
def test_the_prompt_of_a_task_md(tmp_path: Path, body: str, prompt: str) -> None:
    text = TASK_MD.partition("## prompt")[0] + body
    assert task_of(laid(tmp_path / "t", {**BENCHFLOW, "task.md": text})).input == prompt
    crlf = text.replace("\n", "\r\n")
    assert task_of(laid(tmp_path / "crlf", {**BENCHFLOW, "task.md": crlf})).input == prompt


def test_a_prefix_of_the_prompt_and_what_stands_above_it(tmp_path: Path) -> None:
    text = TASK_MD.replace("agent:\n", "agent:\n  prompt_prefix: Play fair.\n").replace("## prompt", "# T\n\n## prompt")
    found = look(laid(tmp_path / "t", {**BENCHFLOW, "task.md": text}))
    assert found.task is not None and found.task.input.startswith("Play fair.\n\nWrite /app/data.txt")
    assert found.told == ("task.md: what stands above ## prompt is not given to the agent",)


# ---------------------------------------------------------------- what is refused, what is told

_REFUSED: list[tuple[dict[str, Any], str]] = [
    (toml("environment", "gpus = 1"), "task.toml: environment.gpus: there are no accelerators"),
    (toml("environment", 'gpu_types = ["H100"]'), "environment.gpu_types: there are no accelerators"),
    (toml("environment.tpu", 'type = "v4"'), "environment.tpu: there are no accelerators"),
    (toml("environment", 'mcp_servers = [{name = "x", url = "u"}]'), "environment.mcp_servers: an agent is started"),
    (toml("environment", 'skills_dir = "/skills"'), "environment.skills_dir: an agent is started with its own tools"),
    (toml("environment", 'os = "windows"'), "environment.os: sandboxes are Linux"),
    (toml("environment.healthcheck", 'command = "true"'), "environment.healthcheck: nothing waits"),
    (toml("agent", 'network_mode = "public"'), "agent.network_mode: is public where environment has no-network"),
    (toml("verifier", 'network_mode = "allowlist"'), "verifier.network_mode: a network is all or nothing"),
    (toml("agent", 'allowed_hosts = ["x.example"]'), "agent.allowed_hosts: a network is all or nothing"),
    (toml("environment.env", 'KEY = "${OPENAI_API_KEY}"'), "environment.env.KEY: asks for the host's OPENAI_API_KEY"),
    (toml("verifier", 'type = "llm-judge"'), "verifier.type: only a program can be the verifier"),
    (toml("verifier", 'environment_mode = "separate"'), "verifier.environment_mode: the verifier runs where"),
    (toml("verifier.environment", "cpus = 1"), "verifier.environment: the verifier runs where the agent ran"),
    (toml("verifier", 'service = "db"'), "verifier.service: there is one container"),
    (toml("verifier", 'collect = [{command = "x"}]'), "verifier.collect: nothing is run between"),
    ({**HARBOR, "task.toml": 'steps = [{name = "one"}]\n' + TOML}, "steps: a task of several steps cannot be run"),
    ({**HARBOR, "task.toml": TOML.replace('"1.0"', '"2.0"')}, "version: this schema is not known: '2.0'"),
    ({**HARBOR, "environment/docker-compose.yaml": "services: {}"}, "docker-compose.yaml: a task has one container"),
    ({**HARBOR, "trajectory.json": "{}"}, "trajectory.json: an agent begins without a past"),
    ({**HARBOR, "task.toml": TOML.replace("[metadata]\n", '[metadata]\nfolder = "x"\n')}, "metadata.folder: Onward"),
    (front("agents: {roles: {a: {agent: x}}}"), "task.md: agents: one agent works, with one prompt"),
    (front("scenes: [{name: a}]"), "task.md: scenes: one agent works"),
    (front("user: {model: x}"), "task.md: user: one agent works"),
    (front("profile: code-change"), "task.md: profile: presets are not known"),
    (front("benchflow: {environment: {services: [gmail]}}"), "benchflow.environment.services: services beside"),
    (front("environment: {cpus: 1}"), "task.md: environment: is sandbox by another name"),
    ({**BENCHFLOW, "task.md": f"{TASK_MD}\n## role:critic\n\nBe strict.\n"}, "## role:critic: one agent works"),
    (front("", **{"prompts/role.critic.md": "x"}), "prompts/role.critic.md: one agent works"),
    (front("", **{"verifier/verifier.md": "---\nverifier: {strategies: {j: {type: llm-judge}}}\n---\n"}),
     "verifier/verifier.md: verifier.strategies.j.type: only a script can be the verifier"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "said"), _REFUSED, ids=[said for _, said in _REFUSED])
def test_what_would_be_another_task_without_is_refused(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    found = look(laid(tmp_path / "t", files))
    assert found.task is None
    assert [one for one in found.wrong if said in one], found.wrong
    with pytest.raises(UsageError, match="cannot be run") as caught:
        list(FolderSource(tmp_path / "t").tasks())
    assert said in str(caught.value)


_TOLD: list[tuple[dict[str, Any], str]] = [
    (toml("environment", "storage_mb = 10240"), "environment.storage_mb: kept, and limits nothing"),
    (toml("agent", 'user = "root"'), "agent.user: everything in a sandbox is done by one user"),
    (toml("verifier", 'user = "root"'), "verifier.user: everything in a sandbox"),
    (toml("verifier", "hardening = {cleanup_conftests = false}"), "verifier.hardening: the places of tests"),
    (toml("verifier", 'pytest_plugins = ["ctrf"]'), "verifier.pytest_plugins: pytest loads"),
    ({**HARBOR, "task.toml": 'artifacts = ["/app/out"]\n' + TOML}, "artifacts: nothing is collected"),
    ({**HARBOR, "task.toml": 'multi_step_reward_strategy = "mean"\n' + TOML}, "multi_step_reward_strategy: there is"),
    (toml("solution", "timeout_sec = 3"), "solution.timeout_sec: the solution has the agent's time"),
    ({**HARBOR, "task.toml": TOML.replace('network_mode = "no-network"', "")}, "environment.network_mode: not said"),
    ({**HARBOR, "solution/solve.sh": None}, "solution/solve.sh: there is none"),
    ({**HARBOR, "tests/.harborignore": "x"}, "tests/.harborignore: not applied"),
    ({**toml("environment", 'docker_image = "x:1"')}, "docker_image: a container is of this image, not of"),
    (front("reward: {formula: x}"), "reward: the verifier's own reward is the reward"),
]


@pytest.mark.parametrize(("files", "said"), _TOLD, ids=[said for _, said in _TOLD])
def test_what_is_not_done_is_told(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    found = look(laid(tmp_path / "t", files))
    assert found.task is not None, found.wrong
    assert len(found.told) == 1 and said in found.told[0], found.told
    source = FolderSource(tmp_path / "t")
    assert [task.id for task in source.tasks()] == ["t"]
    assert source.told == {"t": found.told}


def test_an_unknown_field_is_told_with_the_nearest(tmp_path: Path) -> None:
    found = look(laid(tmp_path / "t", toml("agent", "timeout = 5")))
    assert found.told == ('task.toml: agent.timeout: unknown field. Did you mean "timeout_sec"?',)
    assert "unknown field" in look(laid(tmp_path / "u", front("colour: red"))).told[0]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({**HARBOR, "task.toml": "[metadata\n"}, "task.toml: not TOML: Expected ']'"),
        ({**HARBOR, "task.toml": b"a = '\xff'"}, "task.toml: not UTF-8 (byte 5)"),
        ({**HARBOR, "instruction.md": None}, "instruction.md: there is none"),
        ({**HARBOR, "instruction.md": " \n"}, "instruction.md: there is no instruction"),
        ({**HARBOR, "tests/test.sh": None}, "tests/test.sh: there is none, so nothing would judge the work"),
        ({**HARBOR, "environment/Dockerfile": "COPY x .\n"}, "environment/Dockerfile: line 1: COPY stands before FROM"),
        ({**HARBOR, "task.toml": TOML.replace("= 120.0", '= "2 min"')}, "timeout_sec: expected a number, not '2 min'"),
        ({**HARBOR, "task.toml": TOML.replace("= 120.0", "= 0")}, "agent.timeout_sec: expected a number above 0"),
        ({**HARBOR, "task.toml": TOML.replace("= 120.0", "= nan")}, "agent.timeout_sec: expected a number, not nan"),
        ({**HARBOR, "task.toml": TOML.replace('"no-network"', '"some"')}, "expected public or no-network, not 'some'"),
        ({**HARBOR, "task.toml": TOML.replace("memory_mb = 512", 'memory = "lots"')}, "memory: expected a size"),
        (toml("environment", 'workdir = "app"'), "environment.workdir: expected an absolute path"),
        (toml("environment.env", "A = 1"), "environment.env.A: expected text, not 1"),
        ({**HARBOR, "task.toml": TOML.replace('"easy"', "nan")}, "task.toml: metadata: the value is not JSON: nan"),
        ({**BENCHFLOW, "task.md": "no settings"}, "task.md: expected settings between two lines of ---"),
        ({**BENCHFLOW, "task.md": "---\na: [\n---\nx"}, "task.md:3: not YAML"),
        ({**BENCHFLOW, "task.md": "---\n- a\n---\nx"}, "task.md: expected fields between the lines of ---"),
        ({**BENCHFLOW, "task.md": "---\nverifier: other/\n---\nx"}, "task.md: verifier: expected the folder verifier/"),
        (front("", **{"verifier/verifier.md": "---\n{}\n---\n"}), "verifier.strategies: there is none"),
        (front("", **{"verifier/verifier.md": "---\nverifier: {strategies: {s: {type: script, command: /x}}}\n---\n"}),
         "verifier.strategies.s.command: expected a command that starts in the verifier's folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_file_and_field(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    found = look(laid(tmp_path / "t", files))
    assert found.task is None
    assert [one for one in found.wrong if said in one], found.wrong


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = TOML.replace("= 120.0", "= -1").replace("cpus = 1", "cpus = 'two'\ngpus = 8")
    found = look(laid(tmp_path / "t", {**HARBOR, "task.toml": text, "tests/test.sh": None, "instruction.md": None}))
    assert len(found.wrong) == 6


# ---------------------------------------------------------------- files


def test_links_are_followed_to_files_in_the_folder_and_no_further(tmp_path: Path) -> None:
    folder = laid(tmp_path / "t", HARBOR)
    (tmp_path / "secret").write_text("of the host")
    (folder / "environment" / "same.txt").symlink_to("data.txt")
    task = task_of(folder)
    assert {file.name: file.read() for file in task.files}["environment/same.txt"] == b"some words\n"
    for target, said in [
        ("../../secret", "a link that leads out of the folder"),
        (str(tmp_path / "secret"), "a link that leads out of the folder"),
        ("../environment", "links to folders are not followed"),
        ("nowhere", "a link to no file"),
        ("link", "a link to no file"),
    ]:
        (folder / "environment" / "link").symlink_to(target)
        found = look(folder)
        assert len(found.wrong) == 1 and found.wrong[0].startswith("environment/link: ") and said in found.wrong[0]
        (folder / "environment" / "link").unlink()


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    folder = laid(tmp_path / "t", HARBOR)
    os.mkfifo(folder / "tests" / "pipe")
    (folder / os.fsdecode(b"\xff")).write_text("x")
    assert sorted(look(folder).wrong) == ["?: its name is not UTF-8", "tests/pipe: neither a file nor a folder"]


def test_what_is_too_large_is_refused_before_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = laid(tmp_path / "t", HARBOR)
    with (folder / "environment" / "hole").open("wb") as hole:
        hole.truncate(2 << 20)
    assert look(folder).task is not None
    monkeypatch.setattr("onward.tasks.folders.MOST_BYTES", 1 << 20)
    assert "holds more than 1 MB or 10000 files (at environment/hole)" in look(folder).wrong[0]
    monkeypatch.undo()
    monkeypatch.setattr("onward.tasks.folders.MOST_FILES", 3)
    assert "or 3 files" in look(folder).wrong[0]


# ---------------------------------------------------------------- the source


def test_a_folder_of_folders_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        laid(tmp_path / "tasks" / name, BENCHFLOW if name == "b" else HARBOR)
    laid(tmp_path / "tasks", {"README.md": "x", "shared/lib.py": "x", ".hidden/task.toml": TOML})
    source = open_source("tasks", tmp_path)
    assert [task.id for task in source.tasks()] == ["a", "b", "c"] == [task.id for task in source.tasks()]
    assert (source.name, source.identity) == ("tasks", {"source": "folders", "path": "tasks"})
    assert [task.id for task in open_source({"path": "tasks/b"}, tmp_path).tasks()] == ["b"]
    assert [task.id for task in open_source("tasks/b/", tmp_path).tasks()] == ["b"]
    chosen = Selection.of({"category": "programming", "where": "tags=shell", "task_id": "[ab]"})
    assert [task.id for task in chosen.choose(source.tasks())] == ["a", "b"]


def test_one_that_only_looks_like_a_task_folder_is_not_left_out_silently(tmp_path: Path) -> None:
    laid(tmp_path / "tasks" / "a", HARBOR)
    laid(tmp_path / "tasks" / "b", {**HARBOR, "task.toml": None})
    with pytest.raises(UsageError, match=r"b cannot be run:\n  task.toml: there is none"):
        list(open_source("tasks", tmp_path).tasks())


def test_a_folder_without_any_is_no_source_of_task_folders(tmp_path: Path) -> None:
    laid(tmp_path / "tasks", {"a/README.md": "x"})
    with pytest.raises(UsageError, match="holds no task folder: one has a "):
        list(FolderSource(tmp_path / "tasks").tasks())
    with pytest.raises(SpecError, match='unknown field "input"'):
        open_source({"path": str(laid(tmp_path / "t", HARBOR)), "input": "x"})


def test_our_own_are_found_by_name_and_somebody_elses_of_that_name_go_first(tmp_path: Path) -> None:
    own = [task.id for task in open_source("examples", tmp_path).tasks()]
    assert own == ["answer-from-files", "fix-a-failing-test", "outlast-the-clock", "repair-a-csv", "write-a-parser"]
    source = open_source("examples", tmp_path)
    assert isinstance(source, FolderSource)
    list(source.tasks())
    assert not any(source.told.values())
    laid(tmp_path / "examples" / "mine", HARBOR)
    assert [task.id for task in open_source("examples", tmp_path).tasks()] == ["mine"]


# ---------------------------------------------------------------- any of them

_TEXTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
_FOLDERS = st.builds(
    Folder,
    layout=st.sampled_from(["harbor", "benchflow"]),
    environment=st.builds(
        Environment, env=_TEXTS, files=_TEXTS, cpus=st.none() | st.floats(0.1, 64), network=st.booleans(),
        setup=st.lists(st.text(max_size=8), max_size=2).map(tuple), obstacle=st.text(max_size=8),
    ),
    verifier=st.none() | st.builds(Verifier, env=_TEXTS, least=st.none() | st.floats(-2, 0)),
    solution_env=_TEXTS,
    modes=st.dictionaries(st.text(max_size=8), st.integers(0, 0o777), max_size=3),
)  # fmt: skip


@given(_FOLDERS)
def test_a_folder_comes_back_from_its_json(folder: Folder) -> None:
    assert Folder.from_json(folder.to_json()) == folder
    assert Folder().to_json() == {}


_BROKEN = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(["[agent]", "[environment]", "timeout_sec", "=", "1", '"x"', "\n", "gpus", "[[steps]]"]))
    .map(" ".join),
    st.lists(st.sampled_from(["---\n", "agent:", "sandbox: ", " {", "}", "x: 1\n", "## prompt\n", "- ", "&a ", "*a"]))
    .map("".join),
)  # fmt: skip


@given(toml=_BROKEN, document=st.none() | _BROKEN, dockerfile=_BROKEN)
@settings(max_examples=60, deadline=None)
def test_whatever_the_files_say_is_read_or_wrong(
    tmp_path_factory: pytest.TempPathFactory, toml: str, document: str | None, dockerfile: str
) -> None:
    files = {**HARBOR, "task.toml": toml, "task.md": document, "environment/Dockerfile": dockerfile}
    written = {name: text.encode("utf-8", "replace") for name, text in files.items() if text is not None}
    found = look(laid(tmp_path_factory.mktemp("any"), written))
    assert (found.task is None) == bool(found.wrong)
    if found.task is not None:
        assert Task.from_json(found.task.to_json()).digest == found.task.digest


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assert look(tmp_path / "none").wrong[0].endswith("cannot be read: No such file or directory")
