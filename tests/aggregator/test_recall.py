"""What another leader has granted, on this one's clock."""

from __future__ import annotations

from typing import Any

from gpuwarden.aggregator.recall import recalled
from gpuwarden.aggregator.store import KeptPermit
from gpuwarden.model.fleet import Permit
from gpuwarden.sim.node.clock import SimClock

NOW = 1000.0
PERMIT = Permit(
    id="1-n0-w1-1",
    node="n0",
    boot_id="b",
    ask="w1",
    kind="cordon",
    subject="GPU-0",
    group="default",
    granted_wall=0.0,
    granted_at=0.0,
    expires_at=0.0,
    epoch=1,
)


class SlowLedger:
    """A database that answers late, with ages of the moment of its answer, as PostgreSQL's clock gives them."""

    def __init__(self, clock: SimClock, takes_s: float, granted: float, expires: float) -> None:
        self._clock, self._takes_s = clock, takes_s
        self._granted, self._expires = granted, expires

    def ledger(self, wall: float, within_s: float) -> list[KeptPermit]:
        self._clock.advance(self._clock.now() + self._takes_s)
        now = self._clock.now()
        return [
            KeptPermit(permit=PERMIT, age_s=now - self._granted, left_s=self._expires - now),
        ]


def test_a_slow_answer_ends_no_window_and_no_leave_before_its_time() -> None:
    clock = SimClock(NOW)
    store: Any = SlowLedger(clock, 0.5, granted=NOW - 2.0, expires=NOW + 1.0)
    (permit,) = recalled(store, clock, wall=0.0, within_s=3.0)
    assert permit.granted_at >= NOW - 2.0
    assert permit.expires_at >= NOW + 1.0


def test_what_is_over_gives_no_leave() -> None:
    clock = SimClock(NOW)
    store: Any = SlowLedger(clock, 0.0, granted=NOW - 9.0, expires=NOW - 1.0)
    (permit,) = recalled(store, clock, wall=0.0, within_s=10.0)
    assert permit.expires_at == 0.0
    assert permit.granted_at == NOW - 9.0
