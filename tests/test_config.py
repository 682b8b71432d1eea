"""What a person wrote, and how it is told where it is wrong: field, file, line, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from onward.config import Flags, settings
from onward.errors import SpecError, UsageError
from onward.experiment import assemble, frozen
from onward.written import BENCHMARKS, benchmark, load, placed

WHOLE = """\
tasks: data.jsonl
solver: {model: openai/gpt-4o-mini, prompt: "{input}"}
parse: last_number
score: numeric
limits: {concurrency: 20, budget_usd: 5}
"""


def written(tmp_path: Path, text: str | bytes, name: str = "nightly.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_a_whole_experiment_with_its_name_from_the_file(tmp_path: Path) -> None:
    spec, folder = load(written(tmp_path, WHOLE))
    assert (spec.name, folder, spec.limits.concurrency) == ("nightly", tmp_path, 20)
    assert [solver.name for solver in spec.solvers] == ["gpt-4o-mini"]


def test_toml_says_the_same(tmp_path: Path) -> None:
    text = (
        'name = "weekly"\ntasks = "data.jsonl"\nparse = "last_number"\n[solver]\nmodel = "openai/m"\n'
        "[limits]\nconcurrency = 3\n"
    )
    spec, _ = load(written(tmp_path, text, "x.toml"))
    assert (spec.name, spec.limits.concurrency) == ("weekly", 3)


def test_overrides_go_over_what_is_written(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    spec, _ = load(path, {"samples": 3, "name": "other", "select": {"level": ["2"]}, "limits": {"concurrency": 2}})
    assert (spec.samples, spec.name, spec.select) == (3, "other", {"level": ["2"]})
    assert (spec.limits.concurrency, spec.limits.budget_usd) == (2, 5)


def test_models_take_the_place_of_the_solvers_and_keep_the_prompt(tmp_path: Path) -> None:
    spec, _ = load(written(tmp_path, WHOLE), {"models": ["openai/a", "local/b"]})
    assert [(solver.name, solver.model, solver.prompt) for solver in spec.solvers] == [
        ("a", "openai/a", "{input}"), ("b", "local/b", "{input}"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_is_a_whole_experiment_but_for_the_model(name: str) -> None:
    assert benchmark(name)[0].solvers == []
    spec, folder = benchmark(name, {"models": ["local/smollm2"], "tasks": {"split": "test"}})
    assert spec.tasks == {"path": name, "split": "test"}
    assert bool(spec.solvers[0].prompt) == (name != "examples"), "a task folder's instruction needs no words around it"
    assert assemble(spec, folder).stages.scorers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: a\nlimits:\n  concurency: 2\n", '3: limits.concurency: unknown field. Did you mean "concurrency"?'),
        ("tasks: a\nsovler: openai/m\n", '2: sovler: unknown field. Did you mean "solver"?'),
        (
            "tasks: a\nsolver:\n- model: openai/m\n- modle: openai/m\n",
            "4: solver.1.modle: unknown field. Did you mean \"model\"?",
        ),
        (
            "judge:\n  model: openai/m\n  rubrik: x\n",
            '3: judge.rubrik: unknown field. Did you mean "rubric"? (and 1 more)',
        ),
        ("judge: {model: openai/m}\n", "1: judge.rubric: is missing"),
        (
            "providers:\n  mine:\n    base_ulr: http://x\n",
            "3: providers.mine.base_ulr: unknown field. Did you mean \"base_url\"?",
        ),
        ("samples: many\n", "1: samples: input should be a valid integer, not 'many'"),
        ("limits:\n  budget_usd: -1\n", "2: limits.budget_usd: input should be greater than or equal to 0, not -1"),
        ("name: a b\n", "1: name: 'a b' is not a name: use letters, digits and . _ - : @ +"),
        ("solver:\n  - openai/m\n  - openai/m\n", "1: solver: two solvers are called 'm': give each a `name`"),
        ("tasks: a\nparse: x\ntasks: b\n", "3: tasks: is there twice (first on line 1)"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert refused(written(tmp_path, text)) == f"nightly.yaml:{said}"


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("tasks: [a\nsolver: {b\n", "nightly.yaml:", "not YAML: "), ("- a\n- b\n", "nightly.yaml:1", "holds a list"),
        ("", "nightly.yaml", "is empty"), ("# nothing\n", "nightly.yaml", "is empty"),
        (b"name: caf\xe9\n", "nightly.yaml:1", "not UTF-8 (byte 0xe9)"),
        ("tasks: a\nname: \0\n", "nightly.yaml:2", "#x0000"),
        ("tasks: !!python/object:os.system x\n", "nightly.yaml:1", "not YAML"),
    ],
)  # fmt: skip
def test_what_is_no_experiment_says_why(tmp_path: Path, text: str | bytes, where: str, said: str) -> None:
    message = refused(written(tmp_path, text))
    assert message.startswith(where) and said in message


def test_toml_errors_have_lines_too(tmp_path: Path) -> None:
    assert refused(written(tmp_path, 'tasks = "a"\n[limits]\nconcurency = 2\n', "x.toml")) == (
        'x.toml:3: limits.concurency: unknown field. Did you mean "concurrency"?'
    )
    assert refused(written(tmp_path, 'tasks = "a"\nname = \n', "y.toml")).startswith("y.toml:2: not TOML: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.yaml") == "gone.yaml: there is no such file"
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read" in refused(tmp_path / "folder.yaml")


def test_an_error_found_later_gets_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE.replace("numeric", "numerik"))
    spec, folder = load(path)
    with pytest.raises(SpecError) as caught:
        assemble(spec, folder)
    assert placed(caught.value, path).where == f"{path}:4"


def test_the_frozen_config_remembers_the_folder(tmp_path: Path) -> None:
    spec, folder = load(written(tmp_path, WHOLE))
    assert frozen(assemble(spec, folder))["folder"] == str(tmp_path)


def test_settings_read_environment_over_dotenv_and_keep_keys_out_of_their_repr(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=from-file\nHF_TOKEN=token\nONWARD_STORE=elsewhere\nOTHER=x\n")
    found = settings(environment={"OPENAI_API_KEY": "from-env", "OPENAI_BASE_URL": "http://x/v1"}, folder=tmp_path)
    assert found.keys == {"OPENAI_API_KEY": "from-env", "HF_TOKEN": "token"}
    assert (found.store, found.base_urls) == (Path("elsewhere"), {"openai": "http://x/v1"})
    assert "from-env" not in repr(found)
    assert settings(store=Path("mine"), environment={"ONWARD_STORE": "x"}, folder=tmp_path / "no").store == Path("mine")


def test_a_dotenv_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"KEY=\xff\xfe\n")
    with pytest.raises(UsageError, match="UTF-8"):
        settings(environment={}, folder=tmp_path)


def test_flags_are_one_frozen_value() -> None:
    found = settings(environment={}, flags=Flags(limit=3)).having(resume=True)
    assert (found.flags.limit, found.flags.resume) == (3, True)


@pytest.mark.parametrize(
    ("environment", "place"),
    [({"ONWARD_CACHE": "/c"}, "/c"), ({"XDG_CACHE_HOME": "/x"}, "/x/onward"),
     ({"ONWARD_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c"), ({}, str(Path.home() / ".cache" / "onward"))],
)  # fmt: skip
def test_agents_are_installed_where_the_environment_says(
    environment: dict[str, str], place: str, tmp_path: Path
) -> None:
    assert settings(environment=environment, folder=tmp_path).cache == Path(place)
