"""The store in PostgreSQL: several aggregators may share it, each with one connection that writes.

Rows that two of them could write at once are locked in the transaction: how far a node's log is committed, and
the end of the audit. A connection that was lost is made anew by the next transaction.
"""

import hmac
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from gpuwarden.aggregator import rows, store_policies
from gpuwarden.aggregator.store import (
    AuditLine,
    Entry,
    KeptIncident,
    KeptOrder,
    KeptPolicy,
    Spent,
    chained,
)
from gpuwarden.errors import Unavailable, Unsupported
from gpuwarden.model.fleet import Greeting, Permit, Told

CONNECT_S = 5
STATEMENT_S = 10
LOCK_MIGRATE, LOCK_AUDIT = 0x67_77_01, 0x67_77_02
SCRIPTS = (
    """
    CREATE TABLE epoch (one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), value BIGINT NOT NULL);
    CREATE TABLE node (node TEXT PRIMARY KEY, greeting TEXT NOT NULL, greeted_wall FLOAT8 NOT NULL);
    CREATE TABLE state (
        node TEXT PRIMARY KEY, heard_wall FLOAT8 NOT NULL, wall FLOAT8 NOT NULL, mode TEXT NOT NULL,
        devices INT NOT NULL, unseen INT NOT NULL, cordoned INT NOT NULL, worst INT, faults TEXT NOT NULL,
        incidents_open INT NOT NULL
    ) WITH (fillfactor = 70);
    CREATE TABLE log (node TEXT NOT NULL, log_id TEXT NOT NULL, upto BIGINT NOT NULL,
        PRIMARY KEY (node, log_id));
    CREATE TABLE event (
        node TEXT NOT NULL, log_id TEXT NOT NULL, sequence BIGINT NOT NULL, wall FLOAT8 NOT NULL,
        heard_wall FLOAT8 NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, payload BYTEA NOT NULL,
        PRIMARY KEY (node, log_id, sequence)
    );
    CREATE INDEX event_heard ON event (heard_wall);
    CREATE TABLE incident (
        node TEXT NOT NULL COLLATE "C", id TEXT NOT NULL COLLATE "C", rule TEXT NOT NULL,
        opened_wall FLOAT8 NOT NULL, closed_wall FLOAT8, payload BYTEA NOT NULL, changes BIGINT NOT NULL,
        PRIMARY KEY (node, id)
    );
    CREATE INDEX incident_newest ON incident (opened_wall DESC, node DESC, id DESC);
    CREATE TABLE permit (id TEXT PRIMARY KEY, node TEXT NOT NULL, granted_wall FLOAT8 NOT NULL,
        permit TEXT NOT NULL);
    CREATE TABLE token (token TEXT PRIMARY KEY, digest TEXT NOT NULL, node TEXT NOT NULL,
        expires_wall FLOAT8 NOT NULL, used_wall FLOAT8);
    CREATE TABLE certificate (serial TEXT PRIMARY KEY, node TEXT NOT NULL,
        not_after_wall FLOAT8 NOT NULL);
    CREATE TABLE orders (id TEXT PRIMARY KEY, node TEXT NOT NULL, who TEXT NOT NULL, verb TEXT NOT NULL,
        subject TEXT NOT NULL, wall FLOAT8 NOT NULL, is_done BOOLEAN, text TEXT NOT NULL DEFAULT '');
    CREATE TABLE audit (number BIGINT PRIMARY KEY, wall FLOAT8 NOT NULL, who TEXT NOT NULL,
        what TEXT NOT NULL, detail TEXT NOT NULL, chain TEXT NOT NULL);
    """,
    """
    CREATE TABLE policy (version BIGINT PRIMARY KEY, wall FLOAT8 NOT NULL, who TEXT NOT NULL,
        rollout TEXT NOT NULL, serial BIGINT NOT NULL, bundle BYTEA NOT NULL);
    """,
)
"""Each takes the database from the schema before it to the next; none is ever changed."""
_INCIDENT = "SELECT node, id, rule, opened_wall, closed_wall, payload FROM incident "
_ORDER = "SELECT id, node, who, verb, subject, is_done, text FROM orders WHERE id=%s"
_PUT_STATE = (
    "INSERT INTO state VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s) ON CONFLICT (node) DO UPDATE SET "
    "heard_wall=excluded.heard_wall, wall=excluded.wall, mode=excluded.mode, devices=excluded.devices, "
    "unseen=excluded.unseen, cordoned=excluded.cordoned, worst=excluded.worst, faults=excluded.faults, "
    "incidents_open=excluded.incidents_open WHERE state.heard_wall <= excluded.heard_wall"
)
_PUT_INCIDENT = (
    "INSERT INTO incident VALUES (%s,%s,%s,%s,%s,%s,1) ON CONFLICT (node, id) DO UPDATE SET "
    "rule=excluded.rule, closed_wall=excluded.closed_wall, payload=excluded.payload, "
    "changes=incident.changes+1"
)

Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresStore:
    """Implements ``Store``."""

    def __init__(self, url: str) -> None:
        """Connect, and bring the schema up to date; ``Unavailable`` says why it cannot be used."""
        self._url = url
        self._lock = threading.Lock()
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        try:
            with self.transaction():
                self._migrate()
        except BaseException:
            self._let_go()
            raise

    def _connect(self, *, is_reader: bool) -> Connection:
        options = f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={STATEMENT_S}s"
        options += " -c idle_in_transaction_session_timeout=30s"
        if is_reader:
            options += " -c default_transaction_read_only=on"
        return psycopg.connect(
            self._url,
            connect_timeout=CONNECT_S,
            options=options,
            application_name="gpuwarden-aggregator",
            autocommit=True,
        )

    @property
    def _db(self) -> Connection:
        if self._writer is None:
            raise Unavailable("not in a transaction")
        return self._writer

    def _migrate(self) -> None:
        self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_MIGRATE,))
        self._db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INT NOT NULL)")
        row = self._db.execute("SELECT max(version) FROM schema_version").fetchone()
        version = row[0] if row and row[0] is not None else 0
        if version > len(SCRIPTS):
            raise Unavailable(
                f"the database was written by a newer gpuwarden (schema {version}, this one knows "
                f"{len(SCRIPTS)}): upgrade this one, or restore the copy from before"
            )
        for number, script in enumerate(SCRIPTS[version:], version + 1):
            self._db.execute(script)
            self._db.execute("INSERT INTO schema_version VALUES (%s)", (number,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            if self._writer is None:
                self._writer = self._connect(is_reader=False)
            with self._writer.transaction():
                yield
        except psycopg.Error as error:
            self._let_go()
            raise Unavailable(f"PostgreSQL: {_said(error)}") from error

    def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()

    def next_epoch(self) -> int:
        row = self._db.execute(
            "INSERT INTO epoch (value) VALUES (1) ON CONFLICT (one) DO UPDATE SET value=epoch.value+1 "
            "RETURNING value"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def greet(self, greeting: Greeting, wall: float) -> int:
        self._db.execute(
            "INSERT INTO node VALUES (%s,%s,%s) ON CONFLICT (node) DO UPDATE SET "
            "greeting=excluded.greeting, greeted_wall=excluded.greeted_wall",
            (greeting.node, rows.greeting_text(greeting), wall),
        )
        row = self._db.execute(
            "SELECT upto FROM log WHERE node=%s AND log_id=%s", (greeting.node, greeting.log_id)
        ).fetchone()
        return int(row[0]) if row else 0

    def _locked(self, node: str, log_id: str) -> int:
        """Up to where it is committed; until the end of the transaction nobody else may go on from there."""
        key = (node, log_id)
        self._db.execute("INSERT INTO log VALUES (%s,%s,0) ON CONFLICT DO NOTHING", key)
        row = self._db.execute(
            "SELECT upto FROM log WHERE node=%s AND log_id=%s FOR UPDATE", key
        ).fetchone()
        assert row is not None
        return int(row[0])

    def put(self, entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
        states = {e.node: rows.state_row(e) for e in entries if e.report is not None}
        events: list[tuple[Any, ...]] = []
        told: list[tuple[str, Told]] = []
        # Always in one order: two aggregators never wait for each other.
        reached = {key: 0 for key in sorted({(e.node, e.log_id) for e in entries if e.events})}
        for key in reached:
            reached[key] = self._locked(*key)
        for entry in entries:
            if not entry.events:
                continue
            key = (entry.node, entry.log_id)
            fresh = [event for event in entry.events if event.sequence > reached[key]]
            events += [rows.event_row(entry, event) for event in fresh]
            told += [(entry.node, event) for event in fresh]
            reached[key] = max([reached[key], *(event.sequence for event in fresh)])
        with self._db.cursor() as cursor:
            if states:
                cursor.executemany(_PUT_STATE, [states[node] for node in sorted(states)])
            if events:
                cursor.executemany("INSERT INTO event VALUES (%s,%s,%s,%s,%s,%s,%s,%s)", events)
                cursor.executemany(
                    "UPDATE log SET upto=%s WHERE node=%s AND log_id=%s",
                    [(upto, *key) for key, upto in reached.items()],
                )
                cursor.executemany(_PUT_INCIDENT, rows.incident_rows(told))
                cursor.executemany(
                    "UPDATE orders SET is_done=%s, text=%s WHERE id=%s AND node=%s AND is_done IS NULL",
                    [(e.is_done, e.summary, e.key, node) for node, e in told if e.kind == "order"],
                )
        return reached

    def grant(self, permits: Sequence[Permit]) -> None:
        with self._db.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO permit VALUES (%s,%s,%s,%s) ON CONFLICT DO NOTHING",
                [(p.id, p.node, p.granted_wall, rows.permit_text(p)) for p in permits],
            )

    def add_token(self, token: str, digest: str, node: str, expires_wall: float) -> None:
        self._db.execute(
            "INSERT INTO token VALUES (%s,%s,%s,%s,NULL)", (token, digest, node, expires_wall)
        )

    def spend_token(self, token: str, digest: str, node: str, wall: float) -> Spent:
        row = self._db.execute(
            "SELECT digest, node, expires_wall, used_wall FROM token WHERE token=%s FOR UPDATE",
            (token,),
        ).fetchone()
        if row is None or not hmac.compare_digest(row[0], digest):
            return Spent.UNKNOWN
        if row[3] is not None:
            return Spent.AGAIN
        if row[1] != node:
            return Spent.OTHER_NODE
        if wall > row[2]:
            return Spent.EXPIRED
        self._db.execute("UPDATE token SET used_wall=%s WHERE token=%s", (wall, token))
        return Spent.OK

    def add_certificate(self, serial: str, node: str, not_after_wall: float) -> None:
        self._db.execute(
            "INSERT INTO certificate VALUES (%s,%s,%s)", (serial, node, not_after_wall)
        )

    def add_order(self, order: KeptOrder, wall: float) -> KeptOrder:
        cursor = self._db.execute(
            "INSERT INTO orders VALUES (%s,%s,%s,%s,%s,%s,NULL,'') ON CONFLICT DO NOTHING",
            (order.id, order.node, order.by, order.verb, order.subject, wall),
        )
        if cursor.rowcount == 1:
            return order
        return _order(self._db.execute(_ORDER, (order.id,)).fetchone()) or order

    def audit(self, wall: float, who: str, what: str, detail: str) -> None:
        self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_AUDIT,))
        row = self._db.execute(
            "SELECT number, chain FROM audit ORDER BY number DESC LIMIT 1"
        ).fetchone()
        number, before = (row[0] + 1, row[1]) if row else (1, "")
        chain = chained(before, wall, who, what, detail)
        self._db.execute(
            "INSERT INTO audit VALUES (%s,%s,%s,%s,%s,%s)", (number, wall, who, what, detail, chain)
        )

    def add_policy(self, policy: KeptPolicy) -> None:
        store_policies.add(self._db.execute, "%s", policy)

    def move_policy(self, version: int, rollout: str, serial: int) -> bool:
        return store_policies.move(self._db.execute, "%s", version, rollout, serial)

    def policies(self, limit: int) -> list[KeptPolicy]:
        return store_policies.kept(self._rows, "%s", limit)

    def policy_bundle(self, version: int) -> bytes | None:
        return store_policies.bundle(self._rows, "%s", version)

    def prune(self, before_wall: float) -> None:
        for table, column in (
            ("event", "heard_wall"),
            ("incident", "closed_wall"),
            ("certificate", "not_after_wall"),
            ("token", "expires_wall"),
        ):
            query = f"DELETE FROM {table} WHERE {column} < %s"
            self._db.execute(query, (before_wall,))

    def greetings(self) -> list[Greeting]:
        found = self._rows("SELECT greeting FROM node ORDER BY node")
        return [rows.greeting_of(json.loads(text)) for (text,) in found]

    def permits_since(self, wall: float) -> list[Permit]:
        found = self._rows(
            "SELECT permit FROM permit WHERE granted_wall >= %s ORDER BY granted_wall", (wall,)
        )
        return [Permit(**json.loads(text)) for (text,) in found]

    def incidents(
        self, *, is_open_only: bool, node: str, rule: str, limit: int, after: tuple[float, str, str]
    ) -> list[KeptIncident]:
        found = self._rows(
            _INCIDENT + "WHERE (opened_wall, node, id) < (%s,%s,%s) "
            "AND (NOT %s OR closed_wall IS NULL) AND (%s = '' OR node = %s) AND (%s = '' OR rule = %s) "
            "ORDER BY opened_wall DESC, node DESC, id DESC LIMIT %s",
            (*after, is_open_only, node, node, rule, rule, limit),
        )
        return [rows.incident_of(row) for row in found]

    def incidents_named(self, node: str, prefix: str, limit: int) -> list[KeptIncident]:
        found = self._rows(
            _INCIDENT + "WHERE starts_with(id, %s) AND (%s = '' OR node = %s) "
            "ORDER BY opened_wall DESC LIMIT %s",
            (prefix, node, node, limit),
        )
        return [rows.incident_of(row) for row in found]

    def incidents_open(self) -> int:
        return int(self._rows("SELECT count(*) FROM incident WHERE closed_wall IS NULL")[0][0])

    def order(self, order_id: str) -> KeptOrder | None:
        found = self._rows(_ORDER, (order_id,))
        return _order(found[0]) if found else None

    def audit_lines(self, after: int, limit: int) -> list[AuditLine]:
        found = self._rows(
            "SELECT number, wall, who, what, detail, chain FROM audit WHERE number > %s "
            "ORDER BY number LIMIT %s",
            (after, limit),
        )
        return [
            AuditLine(number=n, wall=w, who=who, what=what, detail=detail, chain=chain)
            for n, w, who, what, detail, chain in found
        ]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._reader is None:
                    self._reader = self._connect(is_reader=True)
                return self._reader.execute(query, values).fetchall()
            except psycopg.Error as error:
                reader, self._reader = self._reader, None
                if reader is not None:
                    with suppress(psycopg.Error):
                        reader.close()
                raise Unavailable(f"PostgreSQL: {_said(error)}") from error

    def backup(self, path: Path) -> None:
        raise Unsupported("a database of PostgreSQL is copied by its own tool: pg_dump")

    def close(self) -> None:
        self._let_go()
        with self._lock:
            if self._reader is not None:
                with suppress(psycopg.Error):
                    self._reader.close()


def _order(row: tuple[Any, ...] | None) -> KeptOrder | None:
    if row is None:
        return None
    name, node, who, verb, subject, is_done, text = row
    return KeptOrder(
        id=name, node=node, by=who, verb=verb, subject=subject, is_done=is_done, text=text
    )


def _said(error: psycopg.Error) -> str:
    """One line, without the address, which may hold a password."""
    return " ".join(str(error).split("\n")[0].split())[:300] or type(error).__name__
