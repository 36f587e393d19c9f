"""Events on disk: numbered once, bounded, and a broken file is a new log and no end of the agent."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gpuwarden.adapters.uplink_spool import WAITING_MAX, DiskSpool
from gpuwarden.errors import Unavailable


def spool(folder: Path, max_bytes: int = 10_000) -> DiskSpool:
    return DiskSpool(folder / "spool.sqlite", max_bytes)


def numbers(found: DiskSpool, after: int = 0) -> list[int]:
    return [number for number, _ in found.take(after, 1000, 10**9)]


def test_numbers_go_on_after_a_restart_and_after_everything_was_acknowledged(
    tmp_path: Path,
) -> None:
    first = spool(tmp_path)
    first.append(b"a")
    first.append(b"b")
    first.acknowledge(2)
    assert numbers(first) == []
    first.close()
    second = spool(tmp_path)
    assert second.log_id == first.log_id
    second.append(b"c")
    assert second.take(0, 10, 100) == [(3, b"c")]


def test_what_was_not_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    first = spool(tmp_path)
    for number in range(5):
        first.append(b"%d" % number)
    first.acknowledge(2)
    assert numbers(spool(tmp_path)) == [3, 4, 5]  # the first was never closed


def test_beyond_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    kept = spool(tmp_path, 1000)
    for _ in range(25):
        kept.append(b"x" * 100)
    assert numbers(kept) == list(range(16, 26))
    assert kept.dropped == 15
    kept.close()
    assert spool(tmp_path, 1000).dropped == 15


def test_a_take_is_bounded_by_number_and_bytes_and_is_never_empty(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    for _ in range(4):
        kept.append(b"x" * 100)
    assert [n for n, _ in kept.take(0, 2, 10**6)] == [1, 2]
    assert [n for n, _ in kept.take(0, 10, 250)] == [1, 2]
    assert [n for n, _ in kept.take(2, 10, 1)] == [3]


def test_a_file_that_cannot_be_read_is_set_aside_for_a_new_log(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.append(b"a")
    first.close()
    (tmp_path / "spool.sqlite").write_bytes(b"no database" * 1000)
    second = spool(tmp_path)
    assert second.log_id != first.log_id
    assert numbers(second) == []
    assert (tmp_path / "spool.sqlite.unreadable").exists()


def test_while_the_disk_takes_nothing_events_wait_and_are_not_lost(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    other = sqlite3.connect(tmp_path / "spool.sqlite", isolation_level=None)
    kept._db.execute("PRAGMA busy_timeout=1")
    other.execute("BEGIN EXCLUSIVE")
    for number in range(3):
        kept.append(b"%d" % number)
    assert kept.fault
    other.execute("ROLLBACK")
    kept.flush()
    assert (kept.fault, [p for _, p in kept.take(0, 9, 99)]) == ("", [b"0", b"1", b"2"])


def test_whether_the_disk_takes_anything_again_is_tried_without_an_event(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept._db.execute("PRAGMA query_only=1")
    assert not kept.is_new_order("o1")
    kept._db.execute("PRAGMA query_only=0")
    refuse = "BEFORE UPDATE ON meta BEGIN SELECT RAISE(FAIL, 'no room'); END"
    kept._db.execute(f"CREATE TEMP TRIGGER full {refuse}")
    kept.flush()
    assert kept.fault == "no room"
    kept._db.execute("DROP TRIGGER full")
    kept.flush()
    assert kept.fault == ""
    assert numbers(kept) == []


def test_what_waits_for_the_disk_is_bounded(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept._db.execute("PRAGMA query_only=1")
    for _ in range(WAITING_MAX + 7):
        kept.append(b"x")
    assert kept.dropped == 7


def test_an_order_is_new_once_even_after_a_restart(tmp_path: Path) -> None:
    first = spool(tmp_path)
    assert first.is_new_order("o1")
    assert not first.is_new_order("o1")
    first.close()
    assert not spool(tmp_path).is_new_order("o1")


def test_an_order_that_cannot_be_remembered_is_not_obeyed(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    kept._db.execute("PRAGMA query_only=1")
    assert not kept.is_new_order("o1")


def test_the_epoch_that_was_seen_is_kept(tmp_path: Path) -> None:
    first = spool(tmp_path)
    assert first.epoch() == 0
    first.see_epoch(7)
    first.close()
    assert spool(tmp_path).epoch() == 7


def test_where_no_file_can_be_made_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"spool\.sqlite"):
        spool(tmp_path / "file")


def test_what_is_kept_is_synced(tmp_path: Path) -> None:
    kept = spool(tmp_path)
    assert kept._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
