"""What a derived run takes over is whole."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from tests.journal.contract import ME, alive

from onward.entry import Entry, pack, unpack
from onward.journal import MemoryJournal
from onward.keys import Key
from onward.takeover import Carried, Takeover

SAID = "said by a model " * 50


@pytest.mark.parametrize("pad", ["", "x" * 2000])
@pytest.mark.parametrize("name", ["body", "frames"])
def test_an_answer_as_it_was_sent_comes_along_with_all_its_texts(name: str, pad: str) -> None:
    pieces = [SAID] if name == "body" else [SAID[at : at + 8] for at in range(0, len(SAID), 8)]
    texts = [json.dumps({"id": pad, "content": piece}) for piece in pieces]
    sent: Any = texts[0] if name == "body" else [list(frame) for frame in enumerate(texts)]
    journal = MemoryJournal()
    journal.claim(ME, gone=alive)
    row, blobs = pack(Entry("result", Key.of("a"), "now", {"value": {name: sent}}, "ok"))
    journal.commit([row], blobs)
    parent: Any = SimpleNamespace(journal=journal, id="p-1", entries=lambda *_: ())
    takeover = Takeover(parent, seqs={1})
    carried = dict(Carried({}, [takeover]))
    (taken,) = takeover.rows()
    assert unpack(taken, carried.__getitem__).value[name] == sent
    assert carried == blobs
