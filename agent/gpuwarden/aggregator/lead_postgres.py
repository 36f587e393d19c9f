"""The lead among aggregators on one PostgreSQL: an advisory lock on a session of its own, and an epoch in a row.

The session is a lease: the server ends it when its holder says nothing for ``LEASE_S``, and the holder takes the
lead for lost before that. Whoever gets the lock begins a new epoch in the same breath; what is written under an
older one is refused by ``Store.fence``, so that a leader that was stopped in the middle can do no harm later.
"""

import threading
from dataclasses import replace

import psycopg

from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.postgres import Connection, connected, said
from gpuwarden.aggregator.store_postgres_schema import LOCK_LEAD
from gpuwarden.clock import Clock
from gpuwarden.log import get_log

LEASE_S = 5
LOOK_EVERY_S = 0.5
REIGNS_KEPT = 10_000
_BEGIN = "UPDATE epoch SET value=value+1, holder=%s, address=%s RETURNING value"
_REIGN = "INSERT INTO reign VALUES (%s,%s,%s,clock_timestamp())"


class PostgresLead:
    """Implements ``Leadership`` on a thread of its own."""

    def __init__(self, url: str, clock: Clock, *, name: str, address: str) -> None:
        self._url = url
        self._clock = clock
        self._name = name
        self._address = address
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._session: Connection | None = None
        self._own: int | None = None
        """The epoch of which we are the leader."""
        self._confirmed_at = 0.0
        self._known = Lead(epoch=0, is_ours=False, why="not looked yet")
        self._thread = threading.Thread(target=self._run, name="gpuwarden-lead", daemon=True)
        self.won = 0
        self.lost = 0

    def start(self) -> None:
        """Look once, then again and again on a thread of its own: at its end it is known whether we lead."""
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Another may lead at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(LEASE_S)
        self._lose("this aggregator stops", is_error=False)

    def lead(self) -> Lead:
        with self._lock:
            if self._own is not None and self._is_over():
                self._forget("its session was not heard of in time; was this process stopped?")
            return self._known

    def _is_over(self) -> bool:
        return self._clock.now() - self._confirmed_at >= LEASE_S

    def learn(self, epoch: int) -> None:
        with self._lock:
            if epoch <= self._known.epoch:
                return
            if self._own is not None:
                self._forget(f"epoch {epoch} has begun elsewhere")
            self._known = replace(self._known, epoch=epoch)

    def _forget(self, why: str, *, is_error: bool = True) -> None:
        """Not the leader any more; under the lock."""
        epoch, self._own = self._own, None
        self.lost += 1
        self._known = replace(self._known, is_ours=False, address="", why=why)
        log = get_log().error if is_error else get_log().info
        log("lead_lost", epoch=epoch, reason=why)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        """Never raises: what went wrong is why nobody is known to lead."""
        try:
            self._try()
        except psycopg.Error as error:
            self._lose(f"PostgreSQL: {said(error)}")
        except Exception as error:  # noqa: BLE001  the boundary: a leader that cannot look must not lead
            self._lose(f"internal error: {error!r}")

    def _try(self) -> None:
        begun = self._clock.now()
        if self._session is None:
            self._session = connected(self._url, "lead", idle_s=LEASE_S)
        with self._lock:
            own = self._own
        if own is None:
            self._seek(self._session, begun)
            return
        row = self._session.execute("SELECT value FROM epoch").fetchone()
        if row is None or row[0] != own:
            # Somebody moved it on though we hold the lock, as a restored copy does.
            self._lose(f"epoch {row[0] if row else 'none'} has begun elsewhere")
            return
        with self._lock:
            if self._own is not None:
                self._confirmed_at = begun

    def _seek(self, session: Connection, begun: float) -> None:
        """Lead, if nobody does; else learn who."""
        row = session.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_LEAD,)).fetchone()
        if row is not None and row[0]:
            with session.transaction():
                begin = session.execute(_BEGIN, (self._name, self._address)).fetchone()
                assert begin is not None
                session.execute(_REIGN, (begin[0], self._name, self._address))
                session.execute("DELETE FROM reign WHERE epoch < %s", (begin[0] - REIGNS_KEPT,))
            with self._lock:
                self._own, self._confirmed_at = int(begin[0]), begun
                self._known = Lead(epoch=self._own, is_ours=True, address=self._address)
                self.won += 1
            get_log().info("lead_won", epoch=self._known.epoch)
            return
        found = session.execute("SELECT value, address FROM epoch").fetchone()
        if found is not None:
            with self._lock:
                self._known = Lead(epoch=int(found[0]), is_ours=False, address=found[1])

    def _lose(self, why: str, *, is_error: bool = True) -> None:
        """Let the session go: with it goes the lock, if it was ours."""
        session, self._session = self._session, None
        with self._lock:
            if self._own is not None:
                self._forget(why, is_error=is_error)
            else:
                self._known = replace(self._known, is_ours=False, address="", why=why)
        if session is not None:
            try:
                session.close()
            except psycopg.Error as error:
                get_log().info("lead_session", reason=said(error))
