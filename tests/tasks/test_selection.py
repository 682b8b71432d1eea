"""Which tasks of a source."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import NotThere, UsageError
from onward.tasks import Selection, Task

TASKS = [
    Task("a-1", "?", 1, {"level": 1, "category": ["code", "files"], "source": {"year": 2023, "open": True}}),
    Task("a-2", "?", 1, {"level": 2, "category": ["search"], "source": {"year": 2024}}),
    Task("b-1", "?", 1, {"level": "2", "category": "code", "tags": ["x", "y"]}),
    Task("b-[2]", "?", 1, {"level": 3, "category": ["reasoning"], "a.b": "flat"}),
]


def ids(tasks: Any = None, **stated: Any) -> list[str]:
    return [task.id for task in Selection.of(stated).choose(TASKS if tasks is None else tasks)]


def test_without_filters_all_pass_in_order() -> None:
    assert ids() == [task.id for task in TASKS]
    assert Selection.of({}).to_json() == {}


@pytest.mark.parametrize(
    ("stated", "chosen"),
    [
        ({"level": 2}, ["a-2", "b-1"]),
        ({"level": ["1", 3]}, ["a-1", "b-[2]"]),
        ({"category": "code"}, ["a-1", "b-1"]),
        ({"category": ["search", "files"]}, ["a-1", "a-2"]),
        ({"level": 2, "category": "code"}, ["b-1"]),
        ({"task_id": "a-2"}, ["a-2"]),
        ({"task_id": ["b-*", "a-1"]}, ["a-1", "b-1", "b-[2]"]),
        ({"task_id": "b-[2]"}, ["b-[2]"]),
        ({"where": ["source.year=2024"]}, ["a-2"]),
        ({"where": {"source.open": True}}, ["a-1"]),
        ({"where": "tags=y"}, ["b-1"]),
        ({"where": ["a.b=flat"]}, ["b-[2]"]),
    ],
)
def test_a_task_must_pass_every_filter(stated: dict[str, Any], chosen: list[str]) -> None:
    assert ids(**stated) == chosen
    selection = Selection.of(stated)
    assert Selection.of(selection.to_json()) == selection


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"level": "abc"}, "--level abc: a level is a whole number"),
        ({"level": True}, "level is text or a list"),
        ({"where": ["year"]}, "--where year: give it as KEY=VALUE"),
        ({"where": ["=3"]}, "give it as KEY=VALUE"),
        ({"random": True, "draw": 0}, "--limit 0 draws nothing"),
        ({"random": True, "draw": "x"}, "--limit x: expected a whole number"),
        ({"random": True, "seed": "x"}, "--seed x: expected a whole number"),
        ({"categry": "code"}, 'unknown field "categry". Did you mean "category"'),
        ({"task_id": [3.5]}, "task_id is text"),
        ({"task_id": ""}, "task_id is text"),
    ],
)
def test_what_cannot_be_meant_is_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        Selection.of(stated)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"category": ["code", "serch"]}, "no task has the category serch: there is code, files, reasoning, search"),
        ({"level": 7}, "no task has the level 7: there is 1, 2, 3"),
        ({"task_id": ["a-1", "a-3"]}, "no task has the id a-3. Did you mean"),
        ({"where": ["sorce.year=2024"]}, "--where sorce.year=…: no task has that"),
        ({"level": 1, "category": "search"}, "no task passes --level 1 --category search"),
        ({"where": ["source.year=1999"]}, "no task passes --where source.year=1999"),
    ],
)
def test_what_no_task_has_is_refused_and_said(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(NotThere, match=message):
        ids(**stated)


def test_a_source_without_categories_says_so() -> None:
    with pytest.raises(NotThere, match="its tasks have no category"):
        ids([Task("1", "?")], category="code")
    with pytest.raises(NotThere, match="there is no task"):
        ids([])


def test_tasks_stream_through() -> None:
    read = []

    def source() -> Iterator[Task]:
        for task in TASKS:
            read.append(task.id)
            yield task

    chosen = Selection.of({"level": [1, 2]}).choose(source())
    assert next(chosen).id == "a-1"
    assert read == ["a-1"]


MANY = [Task(str(number), "?", metadata={"level": 1 + number % 3}) for number in range(300)]


def test_a_draw_is_the_same_on_every_machine() -> None:
    ranked = sorted(MANY, key=lambda task: hashlib.sha256(f"7\n{task.id}".encode()).hexdigest())
    expected = sorted(int(task.id) for task in ranked[:5])
    assert ids(MANY, random=True, seed=7, draw=5) == list(map(str, expected))
    assert expected[0] == 106


def test_a_seed_that_nobody_named_is_drawn_and_recorded() -> None:
    selection = Selection.of({"random": True})
    assert not selection.seed_stated and Selection.of({"random": True, "seed": 1}).seed_stated
    again = Selection.of(selection.to_json())
    assert again == selection
    assert list(again.choose(MANY)) == list(selection.choose(MANY))
    assert len({Selection.of({"random": True}).seed for _ in range(10)}) > 1


@given(st.integers(0, 2**31), st.integers(1, 50), st.integers(0, 50))
def test_a_larger_draw_contains_the_smaller_and_keeps_the_sources_order(seed: int, draw: int, more: int) -> None:
    small, large = (ids(MANY, random=True, seed=seed, draw=size) for size in (draw, draw + more))
    assert len(small) == draw and set(small) <= set(large)
    assert large == sorted(large, key=int)


@given(st.sets(st.integers(1, 3), min_size=1))
def test_the_levels_chosen_are_those_asked_for(levels: set[int]) -> None:
    chosen = list(Selection.of({"level": sorted(levels)}).choose(MANY))
    assert {task.metadata["level"] for task in chosen} == levels
    assert len(chosen) == 100 * len(levels)


def test_it_reads_as_the_flags_that_ask_for_it() -> None:
    stated = {"level": 2, "category": "code", "where": "a=b", "task_id": "x*", "random": True, "seed": 3, "draw": 4}
    assert str(Selection.of(stated)) == "--level 2 --category code --where a=b --task-id x* --random --seed 3 --limit 4"
