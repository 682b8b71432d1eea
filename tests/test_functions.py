"""Built-ins and user code by name."""

import functools
import sys
from pathlib import Path

import pytest

from onward.errors import SpecError, UsageError
from onward.functions import Registry, did_you_mean, load, resolve
from onward.parsers import parser
from onward.scorers import scorer
from onward.tasks import Task

MINE = """
def shout(text, times=1):
    return text.upper() * times
"""

NEAR = """
from onward.scorers import scorer

@scorer(version="2")
def near(answer, task):
    return answer == task.target
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_a_built_in_is_found_by_name_and_identified_by_version_and_options() -> None:
    found = parser.resolve({"regex": {"pattern": "x+"}})
    assert found.identity == {"name": "regex", "version": "1", "options": {"pattern": "x+"}}
    assert found.source is None
    assert found.call("axxb") == "xx"


def test_a_value_in_place_of_options_is_the_first_option() -> None:
    assert parser.resolve({"regex": "x+"}).identity == parser.resolve({"regex": {"pattern": "x+"}}).identity


def test_an_option_that_equals_its_default_does_not_change_the_identity() -> None:
    assert scorer.resolve({"numeric": {"relative": 0, "absolute": 0.0}}).identity == scorer.resolve("numeric").identity


def test_an_unknown_name_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(SpecError, match=r'score: there is no scorer "numerc"\. Did you mean "numeric"\?'):
        scorer.resolve("numerc", field="score")
    assert issubclass(SpecError, UsageError)


def test_an_unknown_option_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(SpecError, match='numeric has no option "relativ"\\. Did you mean "relative"'):
        scorer.resolve({"numeric": {"relativ": 0.1}})


def test_an_option_that_cannot_work_is_refused_before_a_run_starts() -> None:
    with pytest.raises(SpecError, match="is not a regular expression"):
        parser.resolve({"regex": "("})
    with pytest.raises(SpecError, match='regex needs the option "pattern"'):
        parser.resolve("regex")
    with pytest.raises(SpecError, match="text takes no options"):
        parser.resolve({"text": 3})
    with pytest.raises(SpecError, match="must be JSON"):
        parser.resolve({"regex": {"pattern": float("nan")}})


@pytest.mark.parametrize("reference", [5, None, ["text"], {"text": {}, "code": {}}])
def test_what_names_no_function_is_refused(reference: object) -> None:
    with pytest.raises(SpecError):
        parser.resolve(reference)


def test_a_function_in_a_file_is_found_relative_to_the_folder(folder: Path) -> None:
    found = parser.resolve({"mine.py:shout": {"times": 2}}, folder)
    assert found.call("a") == "AA"
    assert found.source == MINE
    assert found.identity["options"] == {"times": 2}
    assert "version" not in found.identity and len(found.identity["source"]) == 64


def test_the_identity_of_a_file_follows_its_content_and_not_its_place(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "renamed.py").write_text(MINE)
    before = resolve("mine.py:shout", folder).identity
    assert before == resolve("renamed.py:shout", other).identity
    (folder / "mine.py").write_text(MINE + "# changed\n")
    assert resolve("mine.py:shout", folder).identity != before


def test_a_declared_version_stands_for_the_source(folder: Path) -> None:
    text = NEAR
    (folder / "near.py").write_text(text)
    found = scorer.resolve("near.py:near", folder)
    assert found.identity == {"name": "near", "version": "2", "options": {}}
    assert found.call("x", Task("1", "", "x")) is True
    (folder / "near.py").write_text(text + "# a comment\n")
    assert scorer.resolve("near.py:near", folder).identity == found.identity
    (folder / "plain.py").write_text("def f(text):\n    return text\nf.version = 3\n")
    assert parser.resolve("plain.py:f", folder).identity == {"name": "f", "version": "3", "options": {}}


def test_loading_a_file_enters_no_name_for_all() -> None:
    load("from onward.parsers import parser\n@parser\ndef exactly(text):\n    return text\n", "exactly")
    assert "exactly" not in parser.names()


def test_a_function_is_built_again_from_its_stored_text(folder: Path) -> None:
    found = parser.resolve({"mine.py:shout": {"times": 3}}, folder)
    assert found.source is not None
    (folder / "mine.py").unlink()
    again = parser.load(found.source, found.name, found.identity["options"])
    assert again.identity == found.identity
    assert again.call("a") == "AAA"


def test_a_file_may_import_its_neighbour_and_leaves_the_path_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = list(sys.path)
    for name, word in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbour_of_mine.py").write_text(f"WORD = {word!r}\n")
        (tmp_path / name / "mine.py").write_text("from neighbour_of_mine import WORD\ndef say(_):\n    return WORD\n")
    assert resolve("mine.py:say", tmp_path / "one").call("") == "first"
    assert resolve("mine.py:say", tmp_path / "two").call("") == "second"
    assert sys.path == before


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gone.py:f", "there is no file"),
        ("mine.py", 'say which function of it: "mine.py:NAME"'),
        ("mine.py:", "say which function"),
        ("mine.py:shot", '"shot" is not there in .*mine.py. Did you mean "shout"'),
        ("mine.py:__doc__", "is not a function"),
        ("broken.py:f", r"broken.py:1 does not load: SyntaxError"),
        ("raises.py:f", "does not load: ZeroDivisionError"),
        ("latin.py:f", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_serve_is_refused_with_the_reason(folder: Path, reference: str, message: str) -> None:
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "raises.py").write_text("1/0\n")
    (folder / "latin.py").write_bytes(b"# \xe9\n")
    with pytest.raises(SpecError, match=message):
        parser.resolve(reference, folder)


def test_a_callable_is_taken_with_the_source_of_its_file() -> None:
    def half(text: str, of: int = 2) -> str:
        return text[: len(text) // of]

    found = parser.resolve(functools.partial(half, of=4))
    assert found.call("abcdefgh") == "ab"
    assert found.source is not None and "test_a_callable_is_taken" in found.source
    assert found.identity["options"] == {"of": 4}
    assert parser.resolve(found) is found


def test_a_callable_without_source_is_refused() -> None:
    with pytest.raises(SpecError, match="has no source file"):
        parser.resolve(eval("lambda text: text"))  # noqa: S307


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(SpecError, match='"text" is a built-in parser'):

        @parser(name="text")
        def mine(answer: str) -> str:
            return answer


def test_a_registered_function_is_found_by_name() -> None:
    own = Registry("taster", positional=1)

    @own(version="4")
    def sweet(text: str) -> str:
        return text

    assert own.names() == ["sweet"]
    assert own.resolve("sweet").identity == {"name": "sweet", "version": "4", "options": {}}


def test_a_hint_names_what_is_known_when_nothing_is_near() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == " Known: a, b."
    assert did_you_mean("zzz", []) == ""
