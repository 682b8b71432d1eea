"""From what a model said to a value."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import StepFailed
from onward.parsers import ParseFailed, number_in, parse, parser
from onward.scorers import score, scorer
from onward.tasks import Task

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"


def read(reference: Any, text: Any) -> Any:
    return parse(parser.resolve(reference), text)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("18", 18),
        ("A: 18", 18),
        ("#### 1,000", 1000),
        ("It costs $5.", 5),
        ("That is 3.5.", 3.5),
        ("-2", -2),
        ("x = \u22122", -2),
        ("-$5 or $-7", -7),
        ("-$5", -5),
        ("so 25%", 25),
        ("16 - 3 - 4 = 9", 9),
        ("16-3", 3),
        ("on 2020-12-25", 25),
        ("pages 10\u201312", 12),
        (".5", 0.5),
        ("wait...18", 18),
        ("1e3", 1000.0),
        ("1,234,567.89 in all", 1234567.89),
        ("1\u202f000 m", 1000),
        ("1{,}000", 1000),
        (r"12\,500", 12500),
        (r"\boxed{18}. It took 3 steps", 18),
        (r"\boxed{\frac{3}{4}}", 0.75),
        (r"\boxed{-\dfrac{1}{2}}", -0.5),
        (r"\boxed{3/4}", 0.75),
        (r"\boxed{\text{about } 7} and \boxed{no number} 9", 7),
        ("version 1.2.3", 1.2),
        ("5 H2O", 5),
        ("**18**", 18),
        ("18 dollars.", 18),
        ("12,34", 34),
        ("no number", None),
        ("", None),
        ("1e999", None),
        ("9" * 1000, None),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**70), 2.0**70),
    ],
)
def test_the_last_number_is_read_as_a_person_would(words: str, number: float | None) -> None:
    found = number_in(words)
    assert found == number
    assert type(found) is type(number)


@given(st.integers(-(10**15), 10**15))
def test_an_integer_is_read_back_however_it_is_grouped(number: int) -> None:
    assert number_in(f"The answer is {number}.") == number
    assert number_in(f"The answer is {number:,}") == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_back(number: float) -> None:
    assert number_in(f"It is {number!r}") == number


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("FINAL ANSWER: 42", "42"),
        ("thinking…\nFinal Answer: Paris, France", "Paris, France"),
        ("**Final answer:** `x`", "x"),
        ("**Final Answer**: x", "x"),
        ("## Final Answer:\n\n42\nDone.", "42"),
        ("The answer is 7. Then: the final answer is 8", "8"),
        ("Answer: a\nFINAL ANSWER: b", "b"),
        ("work\nA: 18", "18"),
        ("work\n#### 18", "18"),
        ("<answer>yes</answer>", "yes"),
        (r"so \boxed{x^{2}}.", "x^{2}"),
        (r"FINAL ANSWER: $\boxed{5}$", "5"),
        ("FINAL ANSWER: U.S.", "U.S."),
        ("FINAL ANSWER: a\r\nbye", "a"),
    ],
)
def test_the_last_marked_answer_wins(words: str, answer: str) -> None:
    assert read("final_answer", words) == answer


@pytest.mark.parametrize("words", ["", "42", "I cannot answer this", "FINAL ANSWER:", "The dancer is 5"])
def test_without_a_mark_there_is_no_final_answer(words: str) -> None:
    with pytest.raises(ParseFailed, match="marks no final answer"):
        read("final_answer", words)


@pytest.mark.parametrize(
    ("words", "letter"),
    [
        ("C", "C"),
        ("(C)", "C"),
        ("C. Because", "C"),
        ("A or B? Answer: (B)", "B"),
        ("The answer is C.", "C"),
        ("The correct answer is **D**", "D"),
        ("answer: b", "B"),
        ("Answer: Option D", "D"),
        (r"$\boxed{\text{D}}$", "D"),
        ("A dog and I agree: it must be D", "D"),
        ("Not (A) but (B)", "B"),
    ],
)
def test_a_choice_is_read_from_the_ways_in_which_it_is_made(words: str, letter: str) -> None:
    assert read("choice_letter", words) == letter


@pytest.mark.parametrize(
    ("words", "message"), [("either A or B", "several"), ("none", "names no choice of A-J"), ("A dog", "no choice")]
)
def test_no_choice_is_guessed(words: str, message: str) -> None:
    with pytest.raises(ParseFailed, match=message):
        read("choice_letter", words)


def test_only_the_given_letters_are_choices() -> None:
    assert read({"choice_letter": "AB"}, "(B) rather than (C)") == "B"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ("42", 42),
        ('Sure!\n```json\n{"a": 1}\n```\nand {"b": 2}', {"a": 1}),
        ('Sure: {"a": 1} and {"b": 2}', {"a": 1}),
        ("{curly} then [1, 2]", [1, 2]),
        ("```\n[1]\n```", [1]),
        ('{"a": "x\x00y"}', {"a": "x\x00y"}),
    ],
)
def test_the_first_json_value_is_found(words: str, value: Any) -> None:
    assert read("json", words) == value


@pytest.mark.parametrize("words", ["", "none", "{", "NaN", "[" * 100_000, '{"a": NaN}', '{"a": "\\ud800"}'])
def test_what_is_not_json_fails_to_parse(words: str) -> None:
    with pytest.raises(ParseFailed):
        read("json", words)


def test_code_is_taken_from_a_block_of_its_language() -> None:
    words = "```sh\nls\n```\n```python\nx = 1\n```\n```python\ny = 2\n```"
    assert read("code", words) == "ls\n"
    assert read({"code": "python"}, words) == "x = 1\n"
    assert read({"code": {"language": "python", "pick": "last"}}, words) == "y = 2\n"
    assert read({"code": "python"}, "```\nz\n```") == "z\n"
    assert read("code", "cut off:\n```python\nx = 1") == "x = 1"
    with pytest.raises(ParseFailed, match="no block of rust"):
        read({"code": "rust"}, words)


def test_a_regular_expression_gives_its_group() -> None:
    assert read({"regex": r"x=(\d)"}, "x=1 x=2") == "1"
    assert read({"regex": {"pattern": r"x=(\d)", "pick": "last"}}, "x=1 x=2") == "2"
    assert read({"regex": {"pattern": r"(?P<k>\w)=(\d)", "group": "k"}}, "x=1") == "x"
    assert read({"regex": {"pattern": r"(a)?b", "group": 0}}, "b") == "b"
    with pytest.raises(ParseFailed, match='does not match "z"'):
        read({"regex": "z"}, "x")
    with pytest.raises(ParseFailed, match="not in group 1"):
        read({"regex": "(a)?b"}, "b")


def test_a_parser_of_ones_own_may_raise_value_error() -> None:
    def whole(text: str) -> int:
        return int(text)

    assert read(whole, "5") == 5
    with pytest.raises(ParseFailed, match="whole: invalid literal") as caught:
        read(whole, "five")
    assert isinstance(caught.value, StepFailed) and caught.value.outcome == "failed"


@pytest.mark.parametrize("answer", [None, 5, ["a"], {"text": "a"}, b"a"])
def test_an_answer_that_is_not_text_fails_to_parse(answer: Any) -> None:
    with pytest.raises(ParseFailed, match="the answer is not text but"):
        read("text", answer)


def test_a_lone_surrogate_cannot_be_recorded_and_fails() -> None:
    with pytest.raises(ParseFailed, match="cannot be recorded"):
        read("text", "\ud800")


ALL = ["text", "final_answer", "last_number", "choice_letter", "json", "code", {"regex": "(a)|b"}]
PIECES = ["FINAL ANSWER:", "```", "\n", r"\boxed{", "}", "{", "[", '"', "A", "answer is", "1,0", "-", "."]
pieces = st.sampled_from(PIECES)


@given(st.sampled_from(ALL), st.one_of(st.text(), st.lists(st.one_of(pieces, st.text(max_size=3))).map("".join)))
def test_no_text_makes_a_parser_raise_anything_but_parse_failed(reference: Any, words: str) -> None:
    with contextlib.suppress(ParseFailed):
        json.dumps(read(reference, words), allow_nan=False)


@pytest.mark.parametrize("reference", ALL)
@pytest.mark.parametrize("unit", ["a 1 ", "FINAL ANSWER:\n", "\\boxed{", "```\n", '{"', "[", "#### ", "answer is "])
def test_a_large_answer_is_parsed_in_linear_time(reference: Any, unit: str) -> None:
    begun = time.process_time()
    with contextlib.suppress(ParseFailed):
        read(reference, unit * (1_000_000 // len(unit)))
    assert time.process_time() - begun < 10, "in quadratic time it would be minutes"


@pytest.mark.skipif(not GSM8K.exists(), reason="../shared/data/gsm8k is not here")
@pytest.mark.parametrize(
    ("model", "correct"),
    [("6b_finetuning", 286), ("6b_verification", 515), ("175b_finetuning", 458), ("175b_verification", 742)],
)
def test_gsm8k_recorded_answers_score_what_was_published(model: str, correct: int) -> None:
    take, judge = parser.resolve("last_number"), scorer.resolve("numeric")
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    found = []
    for number, row in enumerate(rows):
        answer = parse(take, row[model]["solution"])
        found.append(score(judge, answer, Task(str(number), row["question"], row["ground_truth"])).value)
        assert bool(found[-1]) == row[model]["is_correct"]
    assert (sum(found), len(found)) == (correct, 1319)
