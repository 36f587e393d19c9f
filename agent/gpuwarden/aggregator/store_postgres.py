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

from gpuwarden.aggregator import rows, store_oncall, store_policies
from gpuwarden.aggregator.copy_postgres import dump, load, schema_of
from gpuwarden.aggregator.postgres import Connection, connected, unavailable
from gpuwarden.aggregator.store import (
    EPOCHS_PER_RESTORE,
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
from gpuwarden.aggregator.store_postgres_schema import LOCK_AUDIT, LOCK_LEAD, LOCK_MIGRATE, SCRIPTS
from gpuwarden.aggregator.store_services import ServiceRows
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Greeting, Permit, Told

_INCIDENT = "SELECT node, id, rule, opened_wall, closed_wall, payload FROM incident "
_ORDER = "SELECT id, node, who, verb, subject, is_done, text FROM orders WHERE id=%s"
_PUT_STATE = (
    "INSERT INTO state VALUES (%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,clock_timestamp()) "
    "ON CONFLICT (node) DO UPDATE SET "
    "heard_wall=excluded.heard_wall, wall=excluded.wall, mode=excluded.mode, devices=excluded.devices, "
    "unseen=excluded.unseen, cordoned=excluded.cordoned, worst=excluded.worst, faults=excluded.faults, "
    "incidents_open=excluded.incidents_open, stream=excluded.stream, sequence=excluded.sequence, "
    "is_cordoned=excluded.is_cordoned, degraded=excluded.degraded, touched=excluded.touched "
    "WHERE state.stream <= excluded.stream"
)
_ATTEND = (
    "INSERT INTO presence (node, stream, holder, is_connected, touched) "
    "VALUES (%s, nextval('stream'), %s, true, clock_timestamp()) ON CONFLICT (node) DO UPDATE SET "
    "stream=excluded.stream, holder=excluded.holder, is_connected=true, asks='[]', asked=NULL, "
    "touched=excluded.touched RETURNING stream, (SELECT value FROM epoch)"
)
_GRANT = (
    "INSERT INTO permit VALUES (%s,%s,%s,%s,%s,clock_timestamp(),"
    "clock_timestamp() + make_interval(secs => %s)) ON CONFLICT DO NOTHING"
)
_PUT_INCIDENT = (
    "INSERT INTO incident VALUES (%s,%s,%s,%s,%s,%s,1) ON CONFLICT (node, id) DO UPDATE SET "
    "rule=excluded.rule, closed_wall=excluded.closed_wall, payload=excluded.payload, "
    "changes=incident.changes+1"
)


class PostgresStore(store_oncall.OncallRows, DenialRows, NodeRows, ServiceRows):
    """Implements ``Store``."""

    _of_node = (*NodeRows._of_node, "presence", "refusal")
    _mark, _now = "%s", "extract(epoch FROM clock_timestamp())::float8"

    def __init__(self, url: str, name: str = "", copies: Path | None = None) -> None:
        """Connect, and bring the schema up to date; ``Unavailable`` says why it cannot be used. ``name``: of
        this life of this aggregator, as others see who holds a node's stream. ``copies``: the folder for a copy from before a change of the schema."""
        self._url = url
        self._copies = copies
        self._name = name
        self._lock = threading.Lock()
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        try:
            with self.transaction():
                self._migrate()
        except BaseException:
            self._let_go()
            raise

    @property
    def _db(self) -> Connection:
        if self._writer is None:
            raise Unavailable("not in a transaction")
        return self._writer

    def _migrate(self) -> None:
        self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_MIGRATE,))
        self._db.execute("CREATE TABLE IF NOT EXISTS schema_version (version INT NOT NULL)")
        version = schema_of(self._db)
        if version > len(SCRIPTS):
            raise Unavailable(
                f"the database was written by a newer gpuwarden (schema {version}, this one knows "
                f"{len(SCRIPTS)}): upgrade this one, or restore the copy from before"
            )
        if 0 < version < len(SCRIPTS) and self._copies is not None:
            dump(self._url, free(self._copies / f"postgresql.schema-{version}.gz"))
        for number, script in enumerate(SCRIPTS[version:], version + 1):
            self._db.execute(script)
            self._db.execute("INSERT INTO schema_version VALUES (%s)", (number,))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            if self._writer is None:
                self._writer = connected(self._url, "aggregator")
            with self._writer.transaction():
                yield
        except psycopg.Error as error:
            self._let_go()
            raise unavailable(error) from error

    def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()

    def next_epoch(self) -> int:
        row = self._db.execute("UPDATE epoch SET value=value+1 RETURNING value").fetchone()
        assert row is not None
        return int(row[0])

    def vouch(self, fingerprint: str, others: Sequence[str] = ()) -> None:
        self._db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_MIGRATE,))
        row = self._db.execute("SELECT fingerprint FROM authority").fetchone()
        if row is None:
            self._db.execute("INSERT INTO authority VALUES (%s)", (fingerprint,))
        elif row[0] in others:
            self._db.execute("UPDATE authority SET fingerprint = %s", (fingerprint,))
        elif row[0] != fingerprint:
            raise Refused(
                "aggregators on this database have another certificate authority, and its nodes would refuse "
                "this one: copy the folder pki from the state directory of one of them (if that is lost for "
                "good: DELETE FROM authority, and every node joins anew)"
            )

    def fence(self, epoch: int) -> None:
        # Until the end of this transaction nobody else can begin another epoch: whoever does next sees all
        # that was written under this one.
        row = self._db.execute("SELECT value FROM epoch FOR SHARE").fetchone()
        if row is None or row[0] != epoch:
            newest = "none" if row is None else row[0]
            raise Refused(
                f"epoch {epoch} is over: {newest} has begun, and another aggregator leads"
            )

    def greet(self, greeting: Greeting, wall: float) -> Welcome:
        self._db.execute(
            "INSERT INTO node VALUES (%s,%s,%s) ON CONFLICT (node) DO UPDATE SET "
            "greeting=excluded.greeting, greeted_wall=excluded.greeted_wall",
            (greeting.node, rows.greeting_text(greeting), wall),
        )
        row = self._db.execute(
            "SELECT upto FROM log WHERE node=%s AND log_id=%s", (greeting.node, greeting.log_id)
        ).fetchone()
        stream = self._db.execute(_ATTEND, (greeting.node, self._name)).fetchone()
        assert stream is not None
        return Welcome(upto=int(row[0]) if row else 0, stream=int(stream[0]), epoch=int(stream[1]))

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
        states = {e.node: rows.shared_state_row(e) for e in entries if e.report is not None}
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
                self.hand_over(told, entries[-1].wall)
        return reached

    def grant(self, permits: Sequence[Permit]) -> None:
        for epoch in {permit.epoch for permit in permits}:
            self.fence(epoch)
        with self._db.cursor() as cursor:
            cursor.executemany(_GRANT, [rows.permit_row(permit) for permit in permits])

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
            "INSERT INTO orders VALUES (%s,%s,%s,%s,%s,%s,NULL,'',%s,%s,"
            "clock_timestamp() + make_interval(secs => %s)) ON CONFLICT DO NOTHING",
            (
                *(order.id, order.node, order.by, order.verb, order.subject, wall),
                *(order.reason, order.boot_id, order.ttl_s),
            ),
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
        for table, is_old in (
            ("event", "heard_wall < %s"),
            ("incident", rows.OLD_INCIDENT.format("%s")),
            ("certificate", "not_after_wall < %s"),
            ("token", "expires_wall < %s"),
            ("page", "heard_wall < %s"),
        ):
            self._db.execute(f"DELETE FROM {table} WHERE {is_old}", (before_wall,))
        self.prune_documents(before_wall)
        self.prune_reviews(before_wall)

    def greetings(self) -> list[Greeting]:
        found = self._rows("SELECT greeting FROM node ORDER BY node")
        return [rows.greeting_of(json.loads(text)) for (text,) in found]

    def out_of_use(self) -> frozenset[str]:
        return frozenset(node for (node,) in self._rows(rows.OUT_OF_USE))

    def ledger(self, wall: float, within_s: float) -> list[KeptPermit]:
        # By the database's clock: those of two hosts may differ.
        found = self._rows(
            "SELECT permit, extract(epoch FROM clock_timestamp() - granted)::float8, "
            "extract(epoch FROM expires - clock_timestamp())::float8 FROM permit "
            "WHERE granted >= clock_timestamp() - make_interval(secs => %s) ORDER BY granted",
            (within_s,),
        )
        return [rows.kept_permit(text, age_s, left_s) for text, age_s, left_s in found]

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
                return self._read(query, values)
            except psycopg.Error as error:
                if self._reader is None or not self._reader.broken:
                    raise unavailable(error) from error
                self._reader = None
            try:  # it was lost since it was last used: that is no answer yet
                return self._read(query, values)
            except psycopg.Error as error:
                self._reader = None
                raise unavailable(error) from error

    def _read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if self._reader is None:
            self._reader = connected(self._url, "reader", is_reader=True)
        return self._reader.execute(query, values).fetchall()

    def backup(self, path: Path) -> None:
        dump(self._url, path)

    def restore(self, path: Path, wall: float, who: str) -> dict[str, int]:
        """All that a copy holds, in a database that holds no fleet; rows by table. ``Refused`` says why not."""
        with self.transaction():
            lead = self._db.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK_LEAD,)).fetchone()
            if lead is None or not lead[0]:
                raise Refused("an aggregator runs on this database: stop it first")
            counts = load(self._db, path)
            self._db.execute("UPDATE epoch SET value=value+%s", (EPOCHS_PER_RESTORE,))
            self._db.execute("DELETE FROM token WHERE used_wall IS NULL")
            self.audit(wall, who, "restore", path.name)
        return counts

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
