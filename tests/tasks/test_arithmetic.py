"""The first-run benchmark."""

import ast
import re
from collections import Counter

import pytest

from onward.fingerprint import digest_of
from onward.parsers import number_in
from onward.tasks.arithmetic import CATEGORIES, ArithmeticSource

GOLDEN = "cf6ea2739bced9a93d553606e819a64b"


def test_the_tasks_are_the_same_on_every_machine_and_in_every_version() -> None:
    found = list(ArithmeticSource().tasks())
    assert digest_of([task.to_json() for task in found]) == GOLDEN
    assert found[0].id == "percent-0001"
    assert found[0].input == "A coat costs $500. Its price falls by 25 percent. What is the new price, in $?"
    assert found[0].target == 375


def test_a_larger_size_extends_a_smaller_and_another_seed_gives_others() -> None:
    small, large = (list(ArithmeticSource(size).tasks()) for size in (50, 100))
    assert large[:50] == small
    assert [task.input for task in ArithmeticSource(50, seed=1).tasks()] != [task.input for task in small]
    assert ArithmeticSource(50).identity == ArithmeticSource(100).identity
    assert ArithmeticSource(seed=1).identity != ArithmeticSource().identity


def test_every_level_and_category_occurs_and_ids_are_unique() -> None:
    found = list(ArithmeticSource().tasks())
    kinds = Counter((task.metadata["level"], task.metadata["category"][0]) for task in found)
    assert set(kinds) == {(level, category) for level in (1, 2, 3) for category in CATEGORIES}
    assert len({task.id for task in found}) == 200


def test_targets_are_whole_or_have_at_most_two_decimals_and_are_positive() -> None:
    for task in ArithmeticSource(2000).tasks():
        assert task.target >= 0
        assert round(task.target * 100, 6) == round(task.target * 100)
        assert number_in(f"The answer is {task.target}.") == task.target


def test_the_files_category_carries_its_table() -> None:
    seen = 0
    for task in ArithmeticSource(500).tasks():
        if task.metadata["category"] != ["files"]:
            assert not task.files
            continue
        seen += 1
        [file] = task.files
        table = file.read().decode()
        assert (file.name, file.media_type, file.size) == ("stock.csv", "text/csv", len(table))
        rows = [line.split(",") for line in table.splitlines()[1:]]
        if task.metadata["level"] == 3:
            assert task.target == sum(int(count) * int(price) for _, count, price in rows)
    assert seen > 20


def test_answers_follow_from_the_texts() -> None:
    patterns = {
        r"has (\d+) \w+ and finds (\d+) more\.": "{0}+{1}",
        r"had (\d+) \w+ and gave (\d+) of them": "{0}-{1}",
        r"There are (\d+) boxes with (\d+) \w+ in each\. How": "{0}*{1}",
        r"What is (\d+) percent of (\d+)\?": "{0}*{1}/100",
        r"runs for (\d+) hours and (\d+) minutes\. How": "{0}*60+{1}",
        r"A pen costs \$([\d.]+)\. \w+ buys (\d+) pens\. How": "{0}*{1}",
        r"costs \$([\d.]+)\. \w+ buys (\d+) pens and a bag for \$([\d.]+),.*trip\. (\d) friends": "({0}*{1}+{2})/{3}",
        r"Each of (\d+) shelves, \d+ cm wide, carries (\d+) boxes with (\d+) .*Another (\d+)": "{0}*{1}*{2}+{3}",
        r"had (\d+) \w+ in \d boxes, gave (\d+) to \w+, lost (\d+) and sold (\d+)": "{0}-{1}-{2}-{3}",
    }
    checked = Counter[str]()
    for task in ArithmeticSource(500).tasks():
        for pattern, sum_of in patterns.items():
            match = re.search(pattern, task.input)
            if match:
                checked[pattern] += 1
                assert task.target == pytest.approx(_value(ast.parse(sum_of.format(*match.groups()), mode="eval").body))
    assert set(checked) == set(patterns)


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        return {"Add": left + right, "Sub": left - right, "Mult": left * right, "Div": left / (right or 1)}[
            type(node.op).__name__
        ]
    assert isinstance(node, ast.Constant)
    return float(node.value)  # type: ignore[arg-type]
