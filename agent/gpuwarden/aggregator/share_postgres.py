"""What aggregators on one PostgreSQL tell each other through it: who holds which node, and what is for it.

All times are the database's: clocks of two hosts may differ. ``psycopg.Error`` when it does not answer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpuwarden.aggregator import rows
from gpuwarden.aggregator.postgres import Connection, connected
from gpuwarden.aggregator.store import KeptOrder, KeptPermit
from gpuwarden.model.finding import Severity
from gpuwarden.model.fleet import Ask, Denial, Greeting, Report

AWAY_S = 10.0
"""An aggregator that was not heard of for so long holds no streams."""
MARGIN_S = 3.0
"""Rows of transactions that took so long are still seen; slower ones at the next look at the whole."""
FORGET_S = 86_400.0
_SEEN = (
    "INSERT INTO aggregator VALUES (%s,%s,clock_timestamp()) "
    "ON CONFLICT (id) DO UPDATE SET seen=excluded.seen"
)
_TELL = (
    "UPDATE presence SET is_connected=%s, events_dropped=%s, wall_offset_s=%s, "
    "asks=CASE WHEN %s THEN %s ELSE asks END, "
    "asked=CASE WHEN %s THEN clock_timestamp() - make_interval(secs => %s) ELSE asked END, "
    "touched=clock_timestamp() WHERE node=%s AND stream=%s"
)
_REFUSE = (
    "INSERT INTO refusal VALUES (%s,%s,%s,%s,%s,clock_timestamp()) ON CONFLICT (node, ask) DO UPDATE SET "
    "budget=excluded.budget, detail=excluded.detail, epoch=excluded.epoch, touched=excluded.touched "
    "WHERE refusal.epoch <= excluded.epoch"
)
_PRESENCE = """
    SELECT p.node, p.stream, p.holder, p.is_connected, p.events_dropped, p.wall_offset_s, p.asks,
        extract(epoch FROM p.asked)::float8, extract(epoch FROM clock_timestamp() - p.asked)::float8,
        extract(epoch FROM clock_timestamp() - greatest(p.touched, s.touched))::float8, n.greeting,
        s.sequence, s.wall, s.mode, s.devices, s.unseen, s.cordoned, s.is_cordoned, s.worst, s.faults,
        s.degraded, s.incidents_open
    FROM presence p JOIN node n USING (node)
        LEFT JOIN state s ON s.node = p.node AND s.stream = p.stream
    WHERE p.holder <> %s AND (p.touched >= to_timestamp(%s) OR s.touched >= to_timestamp(%s))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What is new of a stream that is held here. ``asks`` None: nothing."""

    node: str
    stream: int
    is_connected: bool
    events_dropped: int
    wall_offset_s: float | None
    asks: tuple[Ask, ...] | None = None
    asked_s: float = 0.0
    """How long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A stream that another aggregator holds, or held. ``asked`` marks what was asked: another mark, another
    wish."""

    greeting: Greeting
    stream: int
    holder: str
    is_connected: bool
    heard_s: float
    events_dropped: int
    wall_offset_s: float | None
    report: Report | None
    asks: tuple[Ask, ...]
    asked: float | None
    asked_s: float


class SharePostgres:
    """One connection, one thread."""

    def __init__(self, url: str, name: str, address: str) -> None:
        self._url = url
        self._name = name
        self._address = address
        self._link: Connection | None = None

    @property
    def _db(self) -> Connection:
        if self._link is None:
            self._link = connected(self._url, "share")
        return self._link

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def tell(self, streams: Sequence[Local], denials: Sequence[Denial], epoch: int) -> None:
        """That we live, and what is new here. Refusals count only while their epoch does."""
        with self._db.transaction(), self._db.cursor() as cursor:
            cursor.execute(_SEEN, (self._name, self._address))
            if streams:
                cursor.executemany(_TELL, [_told(each) for each in streams])
            if denials:
                cursor.executemany(
                    _REFUSE, [(d.node, d.ask, d.budget, d.detail[:500], epoch) for d in denials]
                )

    def now(self) -> float:
        """The database's time, as a mark for ``remotes``."""
        row = self._db.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        assert row is not None
        return float(row[0])

    def alive(self) -> dict[str, str]:
        """Aggregators that are heard of, and where each is."""
        query = "SELECT id, address FROM aggregator WHERE seen >= clock_timestamp() - make_interval(secs => %s)"
        return dict(self._db.execute(query, (AWAY_S,)).fetchall())

    def remotes(self, since: float) -> list[Remote]:
        """Streams of others of which something is new since then, or a little before."""
        mark = max(0.0, since - MARGIN_S)
        return [_remote(row) for row in self._db.execute(_PRESENCE, (self._name, mark, mark))]

    def permits(self) -> list[KeptPermit]:
        """All that hold."""
        query = (
            "SELECT permit, extract(epoch FROM clock_timestamp() - granted)::float8, "
            "extract(epoch FROM expires - clock_timestamp())::float8 FROM permit "
            "WHERE expires > clock_timestamp()"
        )
        return [rows.kept_permit(*row) for row in self._db.execute(query)]

    def refusals(self, since: float) -> list[tuple[Denial, float]]:
        """Those since then, or a little before, each with its mark."""
        query = (
            "SELECT node, ask, budget, detail, extract(epoch FROM touched)::float8 FROM refusal "
            "WHERE touched >= to_timestamp(%s)"
        )
        return [
            (Denial(node=node, ask=ask, budget=budget, detail=detail), mark)
            for node, ask, budget, detail, mark in self._db.execute(query, (since - MARGIN_S,))
        ]

    def orders(self) -> list[KeptOrder]:
        """All that nobody has answered yet and that still hold."""
        query = (
            "SELECT id, node, who, verb, subject, reason, boot_id, "
            "extract(epoch FROM expires - clock_timestamp())::float8 FROM orders "
            "WHERE is_done IS NULL AND expires > clock_timestamp() ORDER BY expires LIMIT 1000"
        )
        return [
            KeptOrder(
                id=row[0],
                node=row[1],
                by=row[2],
                verb=row[3],
                subject=row[4],
                reason=row[5],
                boot_id=row[6],
                ttl_s=row[7],
            )
            for row in self._db.execute(query)
        ]

    def forget(self) -> None:
        """Aggregators that are long gone, and refusals that nobody waits for."""
        for table, column in (("aggregator", "seen"), ("refusal", "touched")):
            query = f"DELETE FROM {table} WHERE {column} < clock_timestamp() - make_interval(secs => %s)"
            self._db.execute(query, (FORGET_S,))


def _told(each: Local) -> tuple[Any, ...]:
    asks = [[a.id, a.kind, a.subject, a.incident, a.age_s] for a in each.asks or ()]
    is_asked = each.asks is not None
    return (
        *(each.is_connected, each.events_dropped, each.wall_offset_s, is_asked, json.dumps(asks)),
        *(is_asked, each.asked_s, each.node, each.stream),
    )


def _remote(row: tuple[Any, ...]) -> Remote:
    asked_s = max(0.0, row[8] or 0.0)
    asks = tuple(
        Ask(id=name, kind=kind, subject=subject, incident=incident, age_s=age_s + asked_s)
        for name, kind, subject, incident, age_s in json.loads(row[6])
    )
    return Remote(
        greeting=rows.greeting_of(json.loads(row[10])),
        stream=row[1],
        holder=row[2],
        is_connected=row[3],
        heard_s=max(0.0, row[9]),
        events_dropped=row[4],
        wall_offset_s=row[5],
        report=None if row[11] is None else _report(row[11:]),
        asks=asks,
        asked=row[7],
        asked_s=asked_s,
    )


def _report(row: tuple[Any, ...]) -> Report:
    (
        sequence,
        wall,
        mode,
        devices,
        unseen,
        cordoned,
        is_cordoned,
        worst,
        faults,
        degraded,
        opened,
    ) = row
    return Report(
        sequence=sequence,
        wall=wall,
        mode=mode,
        devices=devices,
        unseen=unseen,
        cordoned=cordoned,
        is_cordoned=is_cordoned,
        worst=None if worst is None else Severity(worst),
        faults=tuple(each for each in faults.split(",") if each),
        degraded=tuple(json.loads(degraded)),
        incidents_open=opened,
    )
