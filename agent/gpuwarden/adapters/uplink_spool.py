"""Events for the aggregator on disk until they are acknowledged, in one SQLite file beside the identity.

A bound in bytes: beyond it the oldest are dropped and counted. A file that cannot be read is set aside and a
new log begun, under another name, so that numbers that start again are not taken for old ones.
"""

import contextlib
import secrets
import sqlite3
import threading
from collections import deque
from pathlib import Path

from gpuwarden.errors import Unavailable
from gpuwarden.log import get_log

WAITING_MAX = 256
"""Events held in memory while the disk does not take them."""
ORDERS_KEPT = 10_000
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS event (sequence INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL);
"""


class DiskSpool:
    """Implements ``ports_fleet.Spool``. ``dropped`` counts what was not kept, since the log began."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """``Unavailable`` when not even a new file can be made."""
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque(maxlen=WAITING_MAX)
        self.fault = ""
        """Why the disk does not take anything; empty: it does."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._opened()
            except sqlite3.DatabaseError as error:
                get_log().error("spool_set_aside", path=str(path), reason=str(error))
                self._set_aside()
                self._db = self._opened()
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"{path}: {error}") from error
        self.log_id = self._meta("log_id")
        self.dropped = int(self._meta("dropped"))
        row = self._db.execute("SELECT coalesce(sum(length(payload)), 0) FROM event").fetchone()
        self._bytes: int = row[0]

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=2.0)
        self._path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA cache_size=-512")
        db.executescript(_SCHEMA)
        first = (("log_id", secrets.token_hex(8)), ("dropped", "0"), ("epoch", "0"))
        db.executemany("INSERT OR IGNORE INTO meta VALUES (?,?)", first)
        db.execute("SELECT count(*) FROM event").fetchone()
        return db

    def _set_aside(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                old = Path(f"{self._path}{suffix}")
                old.rename(f"{old}.unreadable")

    def _meta(self, name: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return str(row[0])

    def append(self, event: bytes) -> None:
        with self._lock:
            if len(self._waiting) == WAITING_MAX:
                self.dropped += 1
            self._waiting.append(event)
            self._flush()

    def flush(self) -> None:
        """Try again what the disk did not take, and whether it takes anything."""
        with self._lock:
            if self._waiting or self.fault:
                self._flush()

    def _flush(self) -> None:
        waiting = list(self._waiting)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO event (payload) VALUES (?)", [(e,) for e in waiting])
            freed = self._make_room(self._bytes + sum(map(len, waiting)))
            if not waiting:  # something has to be written to know
                self._put_dropped(self.dropped)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            if not self.fault:
                get_log().error("spool_failed", path=str(self._path), reason=str(error))
            self.fault = str(error)
            return
        self._bytes += sum(map(len, waiting)) - freed
        self._waiting.clear()
        self.fault = ""

    def _make_room(self, size: int) -> int:
        """Drop the oldest beyond the bound, inside the transaction; how many bytes that freed."""
        if size <= self._max_bytes:
            return 0
        freed = count = last = 0
        for sequence, length in self._db.execute(
            "SELECT sequence, length(payload) FROM event ORDER BY sequence"
        ):
            if size - freed <= self._max_bytes:
                break
            freed, count, last = freed + length, count + 1, sequence
        self._db.execute("DELETE FROM event WHERE sequence <= ?", (last,))
        self._put_dropped(self.dropped + count)
        self.dropped += count
        return freed

    def _put_dropped(self, count: int) -> None:
        self._db.execute("UPDATE meta SET value=? WHERE name='dropped'", (str(count),))

    def take(self, after: int, count: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """The next in order, at least one where there is one."""
        with self._lock:
            try:
                rows = self._db.execute(
                    "SELECT sequence, payload FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?",
                    (after, count),
                ).fetchall()
            except sqlite3.Error as error:
                self.fault = str(error)
                return []
        found: list[tuple[int, bytes]] = []
        size = 0
        for sequence, payload in rows:
            size += len(payload)
            if found and size > max_bytes:
                break
            found.append((sequence, payload))
        return found

    def acknowledge(self, upto: int) -> None:
        with self._lock:
            try:
                freed = self._db.execute(
                    "SELECT coalesce(sum(length(payload)), 0) FROM event WHERE sequence <= ?",
                    (upto,),
                ).fetchone()[0]
                if freed:
                    self._db.execute("DELETE FROM event WHERE sequence <= ?", (upto,))
                    self._bytes -= freed
            except sqlite3.Error as error:
                self.fault = str(error)  # they are sent again, and known there

    def drop(self, sequence: int) -> bool:
        """One event that is never taken; whether it was still here."""
        with self._lock:
            try:
                row = self._db.execute(
                    "DELETE FROM event WHERE sequence=? RETURNING length(payload)", (sequence,)
                ).fetchone()
            except sqlite3.Error as error:
                self.fault = str(error)
                return False  # it is sent, and refused, once more
        self._bytes -= 0 if row is None else row[0]
        return row is not None

    @property
    def waiting(self) -> int:
        """How many are not acknowledged."""
        with self._lock:
            try:
                return int(self._db.execute("SELECT count(*) FROM event").fetchone()[0])
            except sqlite3.Error:
                return len(self._waiting)

    def is_new_order(self, order: str) -> bool:
        with self._lock:
            try:
                self._db.execute("INSERT INTO orders (id) VALUES (?)", (order,))
                self._db.execute(
                    "DELETE FROM orders WHERE number <= (SELECT max(number) FROM orders) - ?",
                    (ORDERS_KEPT,),
                )
            except sqlite3.IntegrityError:
                return False
            except sqlite3.Error as error:
                self.fault = str(error)
                return False  # what cannot be remembered is not done
            return True

    def epoch(self) -> int:
        with self._lock:
            return int(self._meta("epoch"))

    def see_epoch(self, epoch: int) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("UPDATE meta SET value=? WHERE name='epoch'", (str(epoch),))

    def close(self) -> None:
        with self._lock:
            self._db.close()
