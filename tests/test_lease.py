"""Who is still there: a pid is believed only where host, boot and namespace are ours (SEMANTICS §6)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine import Bench, run

from onward import lease
from onward.errors import Fenced, Held
from onward.journal import MemoryJournal, SqliteJournal
from onward.journal.contract import Holder
from onward.once import Recorder
from onward.testing import FakeClock

CLOCK = FakeClock()


def test_a_live_holder_on_this_machine_is_not_gone_however_silent() -> None:
    me = lease.myself(CLOCK)
    assert not lease.gone(me)(replace(me, heartbeat=0.0))


def test_a_dead_pid_on_this_machine_is_gone_at_once() -> None:
    me = lease.myself(CLOCK)
    assert lease.gone(me)(replace(me, pid=2**22 - 1, heartbeat=me.heartbeat))


def test_a_reused_pid_is_another_process() -> None:
    me = lease.myself(CLOCK)
    assert lease.gone(me)(replace(me, started="1"))


@pytest.mark.parametrize("field", ["host", "boot", "namespace"])
def test_elsewhere_a_pid_says_nothing_and_silence_decides(field: str) -> None:
    me = lease.myself(CLOCK)
    other = replace(me, **{field: "another"}, pid=2**22 - 1)
    assert not lease.gone(me)(replace(other, heartbeat=me.heartbeat - 60))
    assert lease.gone(me)(replace(other, heartbeat=me.heartbeat - 61))


def test_a_foreign_host_is_taken_over_after_sixty_seconds_without_a_heartbeat() -> None:
    clock, journal = FakeClock(), MemoryJournal()
    foreign = replace(lease.myself(clock), host="elsewhere", command="onward run nightly")
    journal.claim(foreign, gone=lambda _: False)
    clock.advance(59)
    with pytest.raises(Held, match=r"on elsewhere \(onward run nightly\), last heartbeat 59 s ago"):
        lease.claim(journal, clock)
    clock.advance(2)
    dead = lease.claim(journal, clock)
    assert isinstance(dead, Holder) and dead.host == "elsewhere"


def test_take_over_fences_the_first_which_stops_at_its_next_commit(tmp_path: Path) -> None:
    clock = FakeClock()
    first = SqliteJournal(tmp_path / "run", create=True)
    second = SqliteJournal(tmp_path / "run")
    lease.claim(first, clock)
    with pytest.raises(Held, match=f"process {os.getpid()}"):
        lease.claim(second, clock)
    lease.claim(second, clock, force=True)

    async def write(journal: SqliteJournal) -> None:
        await Recorder(journal, clock, Bench().gate).void(["a"], "test")

    with pytest.raises(Fenced) as caught:
        run(write(first))
    assert caught.value.exit_code == 4
    run(write(second))
    assert [stored.seq for stored in second.rows()] == [1]
    first.close()
    second.close()


def test_nobody_before_us_is_nobody() -> None:
    assert lease.claim(MemoryJournal(), CLOCK) is None
