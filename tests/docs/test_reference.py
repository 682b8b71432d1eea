"""The reference cannot go stale: what is made is made anew, what is written is checked against the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.docs import pages

import onward
from onward import errors
from onward.experiment import JudgeSpec, LimitsSpec, ProviderSpec, SolverSpec, Spec
from onward.tasks.source import Columns

REFERENCE = pages.DOCS / "reference"


@pytest.mark.parametrize("page", pages.MADE)
def test_a_made_page_is_as_the_code_makes_it(page):
    text = (pages.DOCS / page).read_text()
    assert text == pages.with_made(text, pages.MADE[page]()), "run: python -m tests.docs.pages"


def _section(page: Path, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no section {heading}"
    return found[1]


def _rows(section: str) -> dict[str, list[str]]:
    lines = re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)
    cells = [re.split(r"(?<!\\) \|(?: |$)", line) for line in lines]
    return {own[0].strip("` "): [cell.strip() for cell in own[1:]] for own in cells}


@pytest.mark.parametrize(
    ("heading", "model"),
    [("Fields", Spec), ("`solver`", SolverSpec), ("`judge`", JudgeSpec), ("`limits`", LimitsSpec),
     ("`providers`", ProviderSpec)],
)  # fmt: skip
def test_every_field_of_an_experiment_is_described(heading, model):
    rows = _rows(_section(REFERENCE / "experiment-file.md", heading))
    assert sorted(rows) == sorted(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.default, int | float) and rows[name][0].startswith("`"):
            stated = {"true": True, "false": False}.get(rows[name][0].strip("`"), rows[name][0].strip("`"))
            assert float(stated) == float(field.default), f"{heading}: {name}"


def test_every_option_of_tasks_and_select_is_described():
    from onward.tasks.selection import _FIELDS

    page = REFERENCE / "experiment-file.md"
    assert sorted(_rows(_section(page, "`select`"))) == sorted(_FIELDS)
    assert set(Columns.__dataclass_fields__) <= set(_rows(_section(page, "`tasks`")))


def test_every_built_in_is_described():
    from onward.parsers import parser
    from onward.reducers import reducer
    from onward.scorers import scorer

    rows = _rows(_section(REFERENCE / "experiment-file.md", "Parsers, reducers, scorers"))
    built_in = {
        name for registry in (parser, reducer, scorer) for name in registry.names()
        if registry._found[name].__module__.startswith("onward")
    }  # fmt: skip
    assert set(rows) == built_in


def test_every_agent_has_a_section_and_every_option_is_described():
    from onward.agents import AGENTS, agent

    page = REFERENCE / "agents.md"
    assert re.findall(r"^### (.*)$", page.read_text(), re.MULTILINE) == list(AGENTS)
    described = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page.read_text(), re.MULTILINE))))
    assert {option for name in AGENTS for option in agent(name).takes} <= described


def test_every_variable_that_a_program_is_told_is_described():
    from onward.agents import Go, Installed, agent

    told = Go("do it", "m", "http://127.0.0.1:1", "t", "/home/agent", "/work", "s", {"command": ["true"]})
    page = (pages.DOCS / "how-to" / "add-an-agent.md").read_text()
    assert not [name for name in agent("command").launch(Installed("", ()), told).env if f"`{name}`" not in page]


def test_every_error_is_described():
    text = (REFERENCE / "errors.md").read_text()
    rows = _rows(text)
    assert sorted(rows) == sorted(errors.__all__)
    for name, (where, _) in rows.items():
        assert (where == "yes") == (name in onward.__all__), name
    for name in errors.__all__:
        code = getattr(errors, name).exit_code
        assert f"| {code} |" in (REFERENCE / "exit-codes.md").read_text()


def test_every_name_of_the_public_face_is_described():
    text = (REFERENCE / "python-api.md").read_text()
    missing = [name for name in onward.__all__ if not re.search(rf"(`|### |## ){name}\b", text)]
    assert not missing


def test_every_event_is_described():
    from onward.cli import events

    source = Path(events.__file__).read_text() + Path(onward.__path__[0], "once.py").read_text()
    types = set(re.findall(r'"((?:run|step|trial)\.\w+)"', source)) | {"note", "text"}
    assert types == set(_rows((REFERENCE / "events.md").read_text()))


def test_the_journals_format_is_described():
    from onward.journal.schema import MIGRATIONS

    text = (REFERENCE / "journal-format.md").read_text()
    assert f"Schema: {MIGRATIONS[-1].number}." in text
    statements = " ".join(statement for step in MIGRATIONS for statement in step.statements)
    tables = set(re.findall(r"CREATE TABLE (\w+)", statements)) | {"migrations"}
    entries = re.search(r"CREATE TABLE entries \((.*?)\)", statements, re.DOTALL)
    assert entries
    columns = {part.split()[0] for part in entries[1].split(",")}
    named = {
        name
        for row in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    }
    assert tables | columns | {"plan", "intent", "result", "served", "void"} <= named


def _modules() -> set[str]:
    """Names of all rooms; where this is a checkout, of those that are committed."""
    done = subprocess.run(
        ["git", "ls-files", "src/onward"], cwd=pages.ROOT, text=True, capture_output=True, check=False
    )
    paths = [Path(line) for line in done.stdout.split()] or list((pages.ROOT / "src" / "onward").rglob("*.py"))
    paths = [path for path in paths if "examples" not in path.parts]  # task folders, not modules
    found = {path.stem for path in paths if path.suffix == ".py" and not path.stem.startswith("__")}
    return found | {path.parent.name for path in paths if path.stem == "__init__"} - {"onward"}


def test_every_module_is_on_the_map():
    text = (pages.ROOT / "ARCHITECTURE.md").read_text()
    missing = [name for name in sorted(_modules()) if not re.search(rf"\b{name}\b", text)]
    assert not missing, "give each a word in the code map of ARCHITECTURE.md"
