"""Content comes back from a store as it was given, and is smaller there wherever that is possible."""

from __future__ import annotations

import random
import string
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import onward.journal.blobs
from onward.errors import Damaged
from onward.journal.blobs import shrunk, whole, without_hex

DICTIONARY = Path(onward.journal.blobs.__file__).with_name("alike.zdict")
CODE = '''
def recorded(folder: Path, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """What the files of these names hold."""
    for name in names:
        with open(folder / name, encoding="utf-8") as file:
            yield {"name": name, "content": file.read()}
'''
digests = st.binary(min_size=6, max_size=16).map(bytes.hex).map(str.encode)
contents = st.one_of(
    st.binary(),
    st.lists(st.one_of(digests, st.binary(max_size=5), st.sampled_from([b"\x01", b"\x02", b'{"$text":"'])))
    .map(b"".join),
    st.binary(min_size=1, max_size=6).map(lambda piece: piece * 300),
)  # fmt: skip


@given(contents)
def test_any_content_comes_back(content: bytes) -> None:
    assert whole(shrunk(content)) == content


@pytest.mark.parametrize(
    ("digits", "size"), [(11, 11), (12, 7), (13, 8), (31, 21), (32, 17), (44, 24), (64, 34), (75, 45)]
)
def test_digests_lie_in_bytes_and_other_digits_stay(digits: int, size: int) -> None:
    run = (b"0123456789abcdef" * 5)[:digits]
    assert len(without_hex(run)) == size
    assert len(without_hex(b"-%b.%b" % (run, run))) == 2 + 2 * size
    assert whole(shrunk(b"-%b.%b" % (run, run))) == b"-%b.%b" % (run, run)
    assert without_hex(run + b"\x01") == run + b"\x01"  # it could not be told from a digest


@given(st.integers(0, 2**32), st.integers(512, 5000))
def test_content_that_is_chance_comes_back_and_costs_a_byte_at_most(seed: int, size: int) -> None:
    chance = random.Random(seed)
    for content in (chance.randbytes(size), "".join(chance.choices(string.ascii_lowercase, k=size)).encode()):
        stored = shrunk(content)
        assert whole(stored) == content
        assert len(stored) <= len(content) + 1


def test_letters_by_chance_take_little_more_than_there_is_in_them() -> None:
    content = "".join(random.Random(1).choices(string.ascii_lowercase, k=2048)).encode()
    assert len(shrunk(content)) < 1.045 * 2048 * 4.7 / 8  # log2(26) bits each


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (CODE.encode(), 0.5),
        (b'{"role":"user","content":{"$text":"da4f27c840781437328156adc65545f2"}}', 0.5),
        (b'{"status":200,"headers":{"content-type":"application/json"},"usage":{"input":12169,"output":513}}', 0.4),
    ],
)
def test_what_is_usual_becomes_small(content: bytes, most: float) -> None:
    assert len(shrunk(content)) < most * len(content)


def test_the_dictionary_is_never_edited_for_nothing_could_be_read_without_it() -> None:
    assert sha256(DICTIONARY.read_bytes()).hexdigest() == (
        "e018caed95ec02b891616536c17654f19b447c5eee1a0e60cf6a6d08decd4892"
    )


def test_every_thread_reads_what_another_wrote() -> None:
    stored: list[bytes] = []
    thread = threading.Thread(target=lambda: stored.append(shrunk(CODE.encode())))
    thread.start()
    thread.join()
    assert whole(stored[0]) == CODE.encode()


@pytest.mark.parametrize("cut", [1, 2, 10, -1])
def test_what_was_cut_is_damage(cut: int) -> None:
    with pytest.raises(Damaged, match="cannot be restored"):
        whole(shrunk(CODE.encode())[:cut])


def test_a_mark_that_is_not_known_is_damage() -> None:
    with pytest.raises(Damaged, match="begins with '09'"):
        whole(b"\x09" + shrunk(CODE.encode())[1:])
