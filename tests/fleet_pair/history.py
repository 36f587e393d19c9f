"""What happened, as each saw it: nodes and operators in a list of their own, aggregators in their database."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One thing that a node or an operator saw. ``what``: stream, ack, epoch, stale, permit, action, order or
    answer."""

    at: float
    """Of one clock for all of them."""
    who: str
    what: str
    number: int = 0
    """Of an acknowledgement or an epoch."""
    name: str = ""
    """Of a permit or an order."""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permit in the database; times are the database's."""

    id: str
    node: str
    ask: str
    kind: str
    epoch: int
    granted: float
    expires: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A leader in the database."""

    epoch: int
    holder: str
    began: float


@dataclass(slots=True)
class History:
    """The whole. ``note`` is for any thread."""

    seen: list[Seen] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)
    events: dict[str, dict[int, str]] = field(default_factory=dict)
    """By node and number: the text of notes, empty for others."""
    orders: dict[str, bool | None] = field(default_factory=dict)
    """By id: whether the database says that it was obeyed."""
    domains: dict[str, str] = field(default_factory=dict)
    """By node: what fails together with it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def read(self, database: str) -> None:
        """What aggregators have kept."""
        with psycopg.connect(database) as db:
            for row in db.execute(
                "SELECT id, node, permit, epoch, extract(epoch FROM granted)::float8, "
                "extract(epoch FROM expires)::float8 FROM permit ORDER BY granted"
            ):
                said = json.loads(row[2])
                self.grants.append(
                    Grant(
                        id=row[0],
                        node=row[1],
                        ask=said["ask"],
                        kind=said["kind"],
                        epoch=row[3],
                        granted=row[4],
                        expires=row[5],
                    )
                )
            self.reigns = [
                Reign(epoch=row[0], holder=row[1], began=row[2])
                for row in db.execute(
                    "SELECT epoch, holder, extract(epoch FROM began)::float8 FROM reign ORDER BY epoch"
                )
            ]
            for node, number, kind, payload in db.execute(
                "SELECT node, sequence, kind, payload FROM event"
            ):
                text = bytes(payload).decode() if kind == "note" else ""
                self.events.setdefault(node, {})[number] = text
            self.orders = dict(db.execute("SELECT id, is_done FROM orders").fetchall())

    def write(self, path: Path) -> None:
        """Everything, one line each, for whoever wants to look."""
        with path.open("w") as out:
            for name, rows in (("seen", self.seen), ("grant", self.grants), ("reign", self.reigns)):
                for row in rows:
                    said: dict[str, Any] = {"record": name, **asdict(row)}
                    out.write(json.dumps(said) + "\n")
