"""What the aggregator keeps, behind one interface: what is acknowledged is in here, whatever dies next.

Writing methods are called on one thread and belong to the transaction that ``transaction`` opens; reading
methods may be called from any thread and see what was committed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from gpuwarden.aggregator.store_predictions import KeptPrediction
from gpuwarden.aggregator.store_reviews import Decision, KeptLabel, KeptReview
from gpuwarden.aggregator.store_windows import KeptWindow
from gpuwarden.model.fleet import Greeting, Permit, Report, Told
from gpuwarden.ports_evaluation import Document


class Entry(NamedTuple):
    """What one message of a node brought. ``events`` in the order of their log."""

    node: str
    log_id: str
    wall: float
    """Of its arrival."""
    report: Report | None = None
    events: tuple[Told, ...] = ()
    stream: int = 0
    """Of the node: a later one has a higher number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What a node that has said hello is told, and what others know it by."""

    upto: int
    """Up to which event of its log everything is committed."""
    stream: int
    """Higher than that of every stream before, at whichever aggregator."""
    epoch: int | None = None
    """The newest there is; None: who asks knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPermit:
    """A permit of the past: how long ago it was given, and how long it holds (below 0: no more)."""

    permit: Permit
    age_s: float
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptIncident:
    """The newest that a node told of one incident; ``payload`` is its message."""

    node: str
    id: str
    rule: str
    opened_wall: float
    closed_wall: float | None
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOrder:
    """An order and what became of it; ``is_done`` None: not known yet."""

    id: str
    node: str
    by: str
    verb: str
    subject: str
    is_done: bool | None = None
    text: str = ""
    reason: str = ""
    boot_id: str = ""
    ttl_s: float = 0.0
    """These three are for whoever holds the node's stream; they are not read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One thing that somebody did, chained to the line before."""

    number: int
    wall: float
    who: str
    what: str
    detail: str
    chain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPolicy:
    """A policy that was published, and how far it has come. ``serial`` grows with every change of that."""

    version: int
    wall: float
    who: str
    rollout: str
    serial: int = 0
    bundle: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPage:
    """What a node has handed over to wake people about. ``payload`` is its newest word, ``incident`` the newest
    that it told of the incident; None: nothing yet."""

    node: str
    id: str
    heard_wall: float
    """When it was handed over first."""
    payload: bytes
    state: str
    """Empty: nothing has become of it yet."""
    incident: bytes | None


class Spent(StrEnum):
    """What became of an attempt to use a token."""

    OK = "ok"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    AGAIN = "again"
    """It was used before: somebody else may have used it."""
    OTHER_NODE = "other-node"


class Store(Protocol):
    """Implemented by ``store_sqlite`` and ``store_postgres``."""

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing, durable when it ends; ``Unavailable`` when it cannot be written."""
        ...

    def next_epoch(self) -> int:
        """A fencing number greater than any before."""
        ...

    def vouch(self, fingerprint: str, others: Sequence[str] = ()) -> None:
        """Whose certificates this fleet bears, and who else is trusted while one authority follows another; ``Refused`` when those who use this store have another
        authority, for its nodes would refuse this one."""
        ...

    def fence(self, epoch: int) -> None:
        """For whatever only a leader may write: ``Refused`` when this epoch is over. Until the transaction
        ends it is not."""
        ...

    def greet(self, greeting: Greeting, wall: float) -> Welcome:
        """Keep who a node is, and that its newest stream is here."""
        ...

    def put(self, entries: Sequence[Entry]) -> dict[tuple[str, str], int]:
        """Keep what is new of these; by node and log, up to which event everything is committed now."""
        ...

    def grant(self, permits: Sequence[Permit]) -> None:
        """Keep permits; ``Refused`` where the epoch of one is over."""
        ...

    def add_token(self, token: str, digest: str, node: str, expires_wall: float) -> None: ...

    def spend_token(self, token: str, digest: str, node: str, wall: float) -> Spent: ...

    def add_certificate(self, serial: str, node: str, not_after_wall: float) -> None: ...

    def certificates_end(self) -> dict[str, float]:
        """By node, when the newest certificate it was given ends."""
        ...

    def add_order(self, order: KeptOrder, wall: float) -> KeptOrder:
        """Keep it; the one of the same id that was kept before, else itself."""
        ...

    def audit(self, wall: float, who: str, what: str, detail: str) -> None: ...

    def add_policy(self, policy: KeptPolicy) -> None:
        """``Refused`` unless its version is greater than that of every policy before."""
        ...

    def move_policy(self, version: int, rollout: str, serial: int) -> bool:
        """Keep how far it has come, unless somebody else has since ``serial`` was read."""
        ...

    def policies(self, limit: int) -> list[KeptPolicy]:
        """The newest, newest first, without their bundles."""
        ...

    def policy_bundle(self, version: int) -> bytes | None: ...

    def deny(self, node: str, wall: float, who: str, reason: str) -> None:
        """Keep a node out, whatever certificate it shows."""
        ...

    def allow(self, node: str) -> bool:
        """Let it in again; whether it was kept out."""
        ...

    def forget(self, node: str, wall: float) -> bool:
        """Let go of all that is kept of a node but history; what was open of it ends at ``wall``. Whether it was
        known."""
        ...

    def node_names(self) -> frozenset[str]: ...

    def denials(self) -> dict[str, str]:
        """Who is kept out, and why."""
        ...

    def keep_oncall(self, epoch: int, lines: Mapping[str, bytes], gone: Sequence[str]) -> None:
        """Of the leader's book: what of it is new, by name, and what is gone; ``Refused`` where its epoch is over."""
        ...

    def oncall_lines(self) -> dict[str, bytes]:
        """The leader's book, by name."""
        ...

    def settle_pages(self, epoch: int, states: Mapping[tuple[str, str], str]) -> None:
        """By node and incident, what has become of what nodes handed over; ``Refused`` as above."""
        ...

    def pages(self, limit: int) -> list[KeptPage]:
        """What nodes have handed over and is not over, oldest first."""
        ...

    def put_document(self, written: Document, epoch: int | None = None) -> Document:
        """Keep the next revision; ``Refused`` where another came between, or ``epoch`` is given and over."""
        ...

    def trim_document(self, kind: str, key: str, before: int | None) -> None:
        """Revisions below ``before`` go (None: all), of what has no past worth keeping."""
        ...

    def document(self, kind: str, key: str) -> Document | None: ...

    def documents(self, kind: str) -> list[Document]:
        """The newest of each, by key."""
        ...

    def document_history(self, kind: str, key: str, limit: int) -> list[Document]:
        """Newest first."""
        ...

    def put_windows(self, windows: Sequence[KeptWindow], epoch: int | None = None) -> None:
        """Each takes the place of an earlier revision; ``Refused`` where ``epoch`` is given and over."""
        ...

    def windows(
        self, *, touched_after: float, begin_after: float, not_holder: str, limit: int
    ) -> list[KeptWindow]: ...

    def prune_windows(self, fine_before: float, coarse_before: float) -> None: ...

    def put_predictions(
        self, kept: Sequence[KeptPrediction], wall: float, epoch: int | None = None
    ) -> None:
        """What is known of each so far; ``Refused`` where ``epoch`` is given and over."""
        ...

    def predictions(self, service: str, ids: Sequence[str]) -> list[KeptPrediction]: ...

    def prune_predictions(self, most: int, now_wall: float) -> None: ...

    def put_reviews(self, reviews: Sequence[KeptReview], bytes_max: int) -> int:
        """One that is there stays as it is; how many were given up for want of room."""
        ...

    def review_page(
        self, service: str, segment: str | None, after: tuple[float, str], limit: int
    ) -> list[KeptReview]:
        """Those that wait, the highest rank first, after one of this rank and id."""
        ...

    def reviews_named(self, service: str, ids: Sequence[str]) -> list[KeptReview]: ...

    def review_labels(self, service: str, ids: Sequence[str]) -> list[KeptLabel]: ...

    def keep_reviews(
        self, labels: Sequence[KeptLabel], decisions: Sequence[Decision]
    ) -> set[tuple[str, str]]:
        """Those (service, id) that were decided by this very call."""
        ...

    def review_sizes(self, service: str) -> tuple[int, int]:
        """How many of a service wait, in how many bytes."""
        ...

    def prune(self, before_wall: float) -> None:
        """Let go of events that were told before, and of incidents that were closed before."""
        ...

    def greetings(self) -> list[Greeting]: ...

    def out_of_use(self) -> frozenset[str]:
        """Nodes whose last word was that they, or all their devices, are cordoned."""
        ...

    def ledger(self, wall: float, within_s: float) -> list[KeptPermit]:
        """What was granted in so many seconds before now, oldest first."""
        ...

    def incidents(
        self, *, is_open_only: bool, node: str, rule: str, limit: int, after: tuple[float, str, str]
    ) -> list[KeptIncident]:
        """Newest first, those that come after (opened_wall, node, id)."""
        ...

    def incidents_named(self, node: str, prefix: str, limit: int) -> list[KeptIncident]:
        """Those whose id begins so; an empty node means any."""
        ...

    def incidents_open(self) -> int: ...

    def order(self, order_id: str) -> KeptOrder | None: ...

    def audit_lines(self, after: int, limit: int) -> list[AuditLine]: ...

    def backup(self, path: Path) -> None:
        """A whole copy of what is committed, in a file that is not there yet."""
        ...

    def close(self) -> None: ...


EPOCHS_PER_RESTORE = 1_000_000
"""So far the epoch moves on when a copy is restored: what the lost store gave since is refused by its nodes."""


def free(path: Path) -> Path:
    """A name beside this one under which nothing lies."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def chained(before: str, wall: float, who: str, what: str, detail: str) -> str:
    """The mark of an audit line, which depends on every line before it."""
    text = json.dumps([before, wall, who, what, detail], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class Verifier:
    """Reads an audit from its beginning, line by line; ``broken`` is the number of the first that is wrong."""

    count: int = 0
    head: str = ""
    """The mark of the last good line: written down elsewhere, it shows whether lines were cut off the end."""
    broken: int | None = None

    def take(self, line: AuditLine) -> None:
        if self.broken is not None:
            return
        mark = chained(self.head, line.wall, line.who, line.what, line.detail)
        if line.number != self.count + 1 or line.chain != mark:
            self.broken = line.number
            return
        self.count, self.head = self.count + 1, mark


def first_broken(lines: Iterable[AuditLine]) -> int | None:
    """The number of the first line that was changed, moved or follows one that was taken out; None: none."""
    verifier = Verifier()
    for line in lines:
        verifier.take(line)
    return verifier.broken
