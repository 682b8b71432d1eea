"""An experiment as assembled and as frozen: what is in its identity, and what is stored in the run (SEMANTICS §2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onward.errors import SpecError
from onward.experiment import Assembled, Spec, assemble, frozen
from onward.fingerprint import digest_of


def made(folder: Path, **fields: Any) -> Assembled:
    return assemble(Spec.model_validate({"solver": {"model": "openai/x"}, "tasks": "t.jsonl", **fields}), folder)


def identity(folder: Path, **fields: Any) -> str:
    return digest_of(made(folder, **fields).identity)


OUT: list[dict[str, Any]] = [
    {"limits": {"concurrency": 3, "time": 9, "tokens": 9, "budget_usd": 1, "max_errors": 1, "attempts": 1}},
    {"providers": {"openai": {"base_url": "http://127.0.0.1:1/v1", "concurrency": 1}}},
    {"prices": {"openai/x": "1/2"}}, {"threshold": 0.5}, {"name": "other"}, {"select": {"level": 1}},
]  # fmt: skip
IN: list[dict[str, Any]] = [
    {"solver": {"model": "openai/y", "name": "x"}}, {"solver": {"model": "openai/x", "prompt": "Hi {input}"}},
    {"solver": {"model": "openai/x", "temperature": 0}}, {"solver": {"model": "openai/x", "max_tokens": 5}},
    {"solver": {"model": "openai/x", "seeded": False}}, {"samples": 2}, {"trials": 2}, {"seed": 1}, {"pass_mark": 0.5},
    {"parse": "last_number"}, {"score": "exact"}, {"score": "numeric"}, {"judge": {"model": "openai/j", "rubric": "r"}},
    {"judge": {"model": "openai/j", "rubric": "other"}}, {"samples": 2, "reduce": "first"},
]  # fmt: skip


@pytest.mark.parametrize("change", OUT, ids=lambda change: next(iter(change)))
def test_where_and_how_fast_is_no_part_of_what_an_experiment_is(tmp_path: Path, change: dict[str, Any]) -> None:
    assert identity(tmp_path, **change) == identity(tmp_path)


def test_everything_that_can_change_a_result_is_part_of_it(tmp_path: Path) -> None:
    assert len({identity(tmp_path), *(identity(tmp_path, **change) for change in IN)}) == len(IN) + 1


def test_user_code_counts_by_its_source_or_by_its_declared_version(tmp_path: Path) -> None:
    file = tmp_path / "s.py"

    def of(text: str) -> str:
        file.write_text(text)
        return identity(tmp_path, score="s.py:mine")

    plain = "def mine(answer, task):\n    return {}\n"
    assert of(plain.format(1)) == of(plain.format(1)) != of(plain.format(0))
    versioned = "from onward import scorer\n@scorer(version='2')\ndef mine(answer, task):\n    return {}\n"
    assert of(versioned.format(1)) == of(versioned.format(0)) != of(versioned.replace("'2'", "'3'").format(0))


def test_a_moved_folder_changes_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.md").write_text("Say {input}")
        (tmp_path / name / "s.py").write_text("def mine(answer, task):\n    return 1\n")
    fields: dict[str, Any] = {"solver": {"model": "openai/x", "prompt": "p.md"}, "score": "s.py:mine"}
    assert identity(tmp_path / "a", **fields) == identity(tmp_path / "b", **fields)


def test_what_is_frozen_is_json_and_makes_the_same_experiment_without_any_file(tmp_path: Path) -> None:
    (tmp_path / "p.md").write_text("Say {input}")
    (tmp_path / "r.txt").write_text("Is it right?")
    (tmp_path / "s.py").write_text("def mine(answer, task, weight=1):\n    return weight\n")
    whole = made(
        tmp_path, solver=[{"model": "openai/x", "prompt": "p.md"}, "s.py:mine"], samples=2, parse={"regex": "(x)"},
        score=["exact", {"s.py:mine": {"weight": 0.5}}], judge={"model": "openai/j", "rubric": "r.txt"},
    )  # fmt: skip
    stored = json.loads(json.dumps(frozen(whole)))
    again = assemble(Spec.model_validate(stored["spec"]), tmp_path / "gone", stored)
    assert again.identity == whole.identity
    assert again.texts == whole.texts and "Is it right?" in again.texts.values()


def test_keys_are_never_frozen(tmp_path: Path) -> None:
    stored = frozen(made(tmp_path, providers={"openai": {"key_name": "MY_KEY"}}))
    assert "MY_KEY" in json.dumps(stored)
    with pytest.raises(ValueError, match="key"):
        made(tmp_path, providers={"openai": {"key": "sk-secret"}})


@pytest.mark.parametrize(
    "fields", [{"solver": ["openai/x", "azure/x"]}, {"score": ["exact", "exact"]},
               {"score": "exact", "judge": {"name": "exact", "model": "openai/j", "rubric": "r"}}]
)  # fmt: skip
def test_two_of_one_name_are_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        made(tmp_path, **fields)


def test_a_prompt_that_is_not_there_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"solver\.x: there is no file .*p\.md"):
        made(tmp_path, solver={"model": "openai/x", "prompt": "p.md"})
