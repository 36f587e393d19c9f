"""The store in one SQLite file: WAL, synchronous=FULL, one connection that writes and checkpoints.

FULL loses no acknowledged row on power loss, NORMAL did in 182 of 200 trials (reliability research 3.6); the
WAL-reset race of SQLite before 3.51.3 needs two connections that write.
"""

import fcntl
import hmac
import itertools
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from gpuwarden.aggregator import rows, store_oncall, store_policies
from gpuwarden.aggregator.copy_sqlite import copy_of
from gpuwarden.aggregator.store import (
    AuditLine,
    Entry,
    KeptIncident,
    KeptOrder,
    KeptPermit,
    KeptPolicy,
    Spent,
    Welcome,
    chained,
    free,
)
from gpuwarden.aggregator.store_denials import DenialRows
from gpuwarden.aggregator.store_nodes import NodeRows
from gpuwarden.aggregator.store_services import ServiceRows
from gpuwarden.aggregator.store_sqlite_schema import SCRIPTS
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Greeting, Permit, Told

BUSY_S = 5.0
CACHED_MAX = 100_000


class SqliteStore(store_oncall.OncallRows, DenialRows, NodeRows, ServiceRows):
    """Implements ``Store``."""

    _mark = "?"
    _now = "(julianday('now') - 2440587.5) * 86400.0"

    def __init__(self, path: Path) -> None:
        """Open the file, made or brought up to date; ``Unavailable`` says why it cannot be used."""
        self._path = path
        self._lock = threading.Lock()
        with ExitStack() as held:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._own = held.enter_context(claimed(path))
                self._db = sqlite3.connect(
                    path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
                )
                held.callback(self._db.close)
                path.chmod(0o600)
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "locking_mode=NORMAL"):
                    self._db.execute(f"PRAGMA {pragma}")
                self._migrate()
                self._reader = sqlite3.connect(
                    f"file:{path}?mode=ro", uri=True, timeout=BUSY_S, check_same_thread=False
                )
            except (OSError, sqlite3.Error) as error:
                raise Unavailable(f"{path}: {error}") from error
            held.pop_all()
        self._upto: dict[tuple[str, str], int] = {}
        self._pending: dict[tuple[str, str], int] = {}
        self._streams = itertools.count(1)

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCRIPTS):
            raise Unavailable(
                f"{self._path} was written by a newer gpuwarden (schema {version}, this one knows "
                f"{len(SCRIPTS)}): upgrade this one, or restore the copy from before"
            )
        if 0 < version < len(SCRIPTS):
            self.backup(free(self._path.with_name(f"{self._path.name}.schema-{version}")))
        for number, script in enumerate(SCRIPTS[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._pending.clear()
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up()
            raise Unavailable(f"{self._path}: {error}") from error
        except BaseException:
            self._give_up()
            raise
        if len(self._upto) > CACHED_MAX:
            self._upto.clear()
        self._upto.update(self._pending)

    def _give_up(self) -> None:
        self._pending.clear()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _epoch(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE name='epoch'").fetchone()
        return int(row[0]) if row else 0

    def next_epoch(self) -> int:
        epoch = self._epoch() + 1
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (str(epoch),))
        return epoch

    def restored(self, epochs: int) -> None:
        """What a restored copy must not go on with: its epoch, and invitations that may have been used since."""
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (str(self._epoch() + epochs),)
        )
        self._db.execute("DELETE FROM token WHERE used_wall IS NULL")

    def vouch(self, fingerprint: str, others: Sequence[str] = ()) -> None:
        return  # the authority lies beside the file

    def fence(self, epoch: int) -> None:
        newest = self._epoch()
        if newest != epoch:
            raise Refused(f"epoch {epoch} is over: {newest} has begun, on the same file")

    def greet(self, greeting: Greeting, wall: float) -> Welcome:
        text = rows.greeting_text(greeting)
        self._db.execute(
            "INSERT INTO node VALUES (?,?,?) ON CONFLICT (node) DO UPDATE SET "
            "greeting=excluded.greeting, greeted_wall=excluded.greeted_wall",
            (greeting.node, text, wall),
        )
        upto = self._committed(greeting.node, greeting.log_id)
        return Welcome(upto=upto, stream=next(self._streams))

    def _committed(self, node: str, log_id: str) -> int:
        key = (node, log_id)
        known = self._pending.get(key, self._upto.get(key))
        if known is None:
            row = self._db.execute("SELECT upto FROM log WHERE node=? AND log_id=?", key).fetchone()
            known = self._pending[key] = row[0] if row else 0
        return known

    def put(self, entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
        states: dict[str, tuple[Any, ...]] = {}
        events: list[tuple[Any, ...]] = []
        told: list[tuple[str, Told]] = []
        reached: dict[tuple[str, str], int] = {}
        for entry in entries:
            if entry.report is not None:
                states[entry.node] = rows.state_row(entry)
            if not entry.events:
                continue
            upto = self._committed(entry.node, entry.log_id)
            fresh = [event for event in entry.events if event.sequence > upto]
            for event in fresh:
                events.append(rows.event_row(entry, event))
                told.append((entry.node, event))
            upto = max([upto, *(event.sequence for event in fresh)])
            reached[entry.node, entry.log_id] = self._pending[entry.node, entry.log_id] = upto
        if states:
            self._db.executemany(_PUT_STATE, list(states.values()))
        if events:
            self._db.executemany("INSERT INTO event VALUES (?,?,?,?,?,?,?,?)", events)
            self._db.executemany(
                "INSERT INTO log VALUES (?,?,?) ON CONFLICT (node, log_id) DO UPDATE SET upto=excluded.upto",
                [(*key, upto) for key, upto in reached.items()],
            )
            self._db.executemany(_PUT_INCIDENT, rows.incident_rows(told))
            self._db.executemany(
                "UPDATE orders SET is_done=?, text=? WHERE id=? AND node=? AND is_done IS NULL",
                [(e.is_done, e.summary, e.key, node) for node, e in told if e.kind == "order"],
            )
            self.hand_over(told, entries[-1].wall)
        return reached

    def grant(self, permits: Sequence[Permit]) -> None:
        for epoch in {permit.epoch for permit in permits}:
            self.fence(epoch)
        self._db.executemany(
            "INSERT OR IGNORE INTO permit VALUES (?,?,?,?)",
            [(p.id, p.node, p.granted_wall, rows.permit_text(p)) for p in permits],
        )

    def add_token(self, token: str, digest: str, node: str, expires_wall: float) -> None:
        self._db.execute(
            "INSERT INTO token VALUES (?,?,?,?,NULL)", (token, digest, node, expires_wall)
        )

    def spend_token(self, token: str, digest: str, node: str, wall: float) -> Spent:
        row = self._db.execute(
            "SELECT digest, node, expires_wall, used_wall FROM token WHERE token=?", (token,)
        ).fetchone()
        if row is None or not hmac.compare_digest(row[0], digest):
            return Spent.UNKNOWN
        if row[3] is not None:
            return Spent.AGAIN
        if row[1] != node:
            return Spent.OTHER_NODE
        if wall > row[2]:
            return Spent.EXPIRED
        self._db.execute("UPDATE token SET used_wall=? WHERE token=?", (wall, token))
        return Spent.OK

    def add_certificate(self, serial: str, node: str, not_after_wall: float) -> None:
        self._db.execute("INSERT INTO certificate VALUES (?,?,?)", (serial, node, not_after_wall))

    def add_order(self, order: KeptOrder, wall: float) -> KeptOrder:
        before = _order(self._db, order.id)
        if before is not None:
            return before
        self._db.execute(
            "INSERT INTO orders VALUES (?,?,?,?,?,?,NULL,'')",
            (order.id, order.node, order.by, order.verb, order.subject, wall),
        )
        return order

    def audit(self, wall: float, who: str, what: str, detail: str) -> None:
        row = self._db.execute("SELECT number, chain FROM audit ORDER BY number DESC").fetchone()
        number, before = (row[0] + 1, row[1]) if row else (1, "")
        chain = chained(before, wall, who, what, detail)
        self._db.execute(
            "INSERT INTO audit VALUES (?,?,?,?,?,?)", (number, wall, who, what, detail, chain)
        )

    def add_policy(self, policy: KeptPolicy) -> None:
        store_policies.add(self._db.execute, "?", policy)

    def move_policy(self, version: int, rollout: str, serial: int) -> bool:
        return store_policies.move(self._db.execute, "?", version, rollout, serial)

    def policies(self, limit: int) -> list[KeptPolicy]:
        return store_policies.kept(self._rows, "?", limit)

    def policy_bundle(self, version: int) -> bytes | None:
        return store_policies.bundle(self._rows, "?", version)

    def prune(self, before_wall: float) -> None:
        self._db.execute("DELETE FROM event WHERE heard_wall < ?", (before_wall,))
        old = rows.OLD_INCIDENT.format("?")
        self._db.execute(f"DELETE FROM incident WHERE {old}", (before_wall,))
        self._db.execute("DELETE FROM certificate WHERE not_after_wall < ?", (before_wall,))
        self._db.execute("DELETE FROM token WHERE expires_wall < ?", (before_wall,))
        self._db.execute("DELETE FROM page WHERE heard_wall < ?", (before_wall,))
        self.prune_documents(before_wall)
        self.prune_reviews(before_wall)

    def greetings(self) -> list[Greeting]:
        found = self._rows("SELECT greeting FROM node ORDER BY node")
        return [rows.greeting_of(json.loads(text)) for (text,) in found]

    def out_of_use(self) -> frozenset[str]:
        return frozenset(node for (node,) in self._rows(rows.OUT_OF_USE))

    def ledger(self, wall: float, within_s: float) -> list[KeptPermit]:
        found = self._rows(
            "SELECT permit, granted_wall FROM permit WHERE granted_wall >= ? ORDER BY granted_wall",
            (wall - within_s,),
        )
        return [rows.kept_permit(text, max(0.0, wall - granted)) for text, granted in found]

    def incidents(
        self, *, is_open_only: bool, node: str, rule: str, limit: int, after: tuple[float, str, str]
    ) -> list[KeptIncident]:
        found = self._rows(
            "SELECT node, id, rule, opened_wall, closed_wall, payload FROM incident "
            "WHERE (opened_wall, node, id) < (?,?,?) AND (? = 0 OR closed_wall IS NULL) "
            "AND (? = '' OR node = ?) AND (? = '' OR rule = ?) "
            "ORDER BY opened_wall DESC, node DESC, id DESC LIMIT ?",
            (*after, int(is_open_only), node, node, rule, rule, limit),
        )
        return [rows.incident_of(row) for row in found]

    def incidents_named(self, node: str, prefix: str, limit: int) -> list[KeptIncident]:
        found = self._rows(
            "SELECT node, id, rule, opened_wall, closed_wall, payload FROM incident "
            "WHERE substr(id, 1, length(?)) = ? AND (? = '' OR node = ?) "
            "ORDER BY opened_wall DESC LIMIT ?",
            (prefix, prefix, node, node, limit),
        )
        return [rows.incident_of(row) for row in found]

    def incidents_open(self) -> int:
        return int(self._rows("SELECT count(*) FROM incident WHERE closed_wall IS NULL")[0][0])

    def order(self, order_id: str) -> KeptOrder | None:
        with self._lock:
            return _order(self._reader, order_id)

    def audit_lines(self, after: int, limit: int) -> list[AuditLine]:
        found = self._rows(
            "SELECT number, wall, who, what, detail, chain FROM audit WHERE number > ? "
            "ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [audit_line(row) for row in found]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._reader.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise Unavailable(f"{self._path}: {error}") from error

    def backup(self, path: Path) -> None:
        copy_of(self._db, path)

    def close(self) -> None:
        with self._lock:
            self._reader.close()
        self._db.close()
        self._own.close()


def claimed(path: Path) -> IO[str]:
    """For as long as it is open nobody else writes this file; ``Unavailable`` when somebody does."""
    lock = path.with_name(f"{path.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Unavailable(f"{path}: an aggregator runs on it already") from error
    return lock


def audit_of(path: Path) -> Iterator[AuditLine]:
    """Every audit line of a file, which an aggregator may be writing; ``Unavailable`` when it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)) as db:
            for row in db.execute(
                "SELECT number, wall, who, what, detail, chain FROM audit ORDER BY number"
            ):
                yield audit_line(row)
    except sqlite3.Error as error:
        raise Unavailable(f"{path}: {error}") from error


def audit_line(row: tuple[Any, ...]) -> AuditLine:
    number, wall, who, what, detail, chain = row
    return AuditLine(number=number, wall=wall, who=who, what=what, detail=detail, chain=chain)


_PUT_STATE = (
    "INSERT INTO state VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (node) DO UPDATE SET "
    "heard_wall=excluded.heard_wall, wall=excluded.wall, mode=excluded.mode, devices=excluded.devices, "
    "unseen=excluded.unseen, cordoned=excluded.cordoned, worst=excluded.worst, "
    "faults=excluded.faults, incidents_open=excluded.incidents_open"
)
_PUT_INCIDENT = (
    "INSERT INTO incident VALUES (?,?,?,?,?,?,1) ON CONFLICT (node, id) DO UPDATE SET "
    "rule=excluded.rule, closed_wall=excluded.closed_wall, payload=excluded.payload, changes=changes+1"
)


def _order(db: sqlite3.Connection, order_id: str) -> KeptOrder | None:
    row = db.execute(
        "SELECT id, node, who, verb, subject, is_done, text FROM orders WHERE id=?", (order_id,)
    ).fetchone()
    if row is None:
        return None
    name, node, who, verb, subject, is_done, text = row
    done = None if is_done is None else bool(is_done)
    return KeptOrder(
        id=name, node=node, by=who, verb=verb, subject=subject, is_done=done, text=text
    )
