"""Whom an image means by its USER."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onward.sandbox.account import Account, account, make


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\nx:x:no:0:::\n"
    )
    (tmp_path / "group").write_text("users:x:100:\nwheel:x:10:bob,ann\nodd\nmore:x:11:ann\n")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "whom"),
    [
        ("ann", Account(1000, 100, (100, 10, 11), "/home/ann")),
        ("1000", Account(1000, 100, (100, 10, 11), "/home/ann")),
        ("ann:wheel", Account(1000, 10, (10,), "/home/ann")),
        ("ann:77", Account(1000, 77, (77,), "/home/ann")),
        ("4711", Account(4711, 0, (0,), "/")),
        ("root", Account(0, 0, (0,), "/root")),
    ],
)
def test_a_user_is_found_by_name_or_number(etc: Path, said: str, whom: Account) -> None:
    assert account(said, etc) == whom


@pytest.mark.parametrize(("said", "wrong"), [("bob", "no user 'bob'"), ("x", "no user 'x'"), ("ann:y", "no group 'y'")])
def test_nobody_is_said_to_be_nobody(etc: Path, said: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        account(said, etc)


def test_an_image_without_these_files_knows_numbers_alone(tmp_path: Path) -> None:
    assert account("12:13", tmp_path) == Account(12, 13, (13,), "/")
    with pytest.raises(ValueError, match="no user 'root'"):
        account("root", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders away, which takes root")
def test_only_what_was_not_there_is_given_away(tmp_path: Path) -> None:
    make(str(tmp_path / "a" / "b"), Account(1000, 100, (100,), "/"))
    assert [(tmp_path / name).stat().st_uid for name in ("", "a", "a/b")] == [os.geteuid(), 1000, 1000]
