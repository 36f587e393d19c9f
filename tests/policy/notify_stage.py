"""What the tests of on-call share: a configuration, pages and incidents as literals, and a play on wall time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Ack, Book, Brief, Entry, Notice, Page, Reason, Result
from gpuwarden.policy.notify import due, fold, people, results

T0 = 1_800_000_000.0
HOST = "node-1"


def oncall(*sinks: str, **rest: Any) -> OncallConfig:
    """Settings with these sinks: ``oncall("pagerduty", "slack", repeat_s=60)``."""
    whole: dict[str, dict[str, Any]] = {
        "alertmanager": {"urls": ["http://127.0.0.1:9093"]},
        "pagerduty": {"routing_key": "credential:pd"},
        "webhook": {"url": "http://127.0.0.1:1/"},
        "slack": {"url": "credential:slack"},
        "email": {"host": "h", "from": "a@example.org", "to": ["b@example.org"]},
        "exec": {"command": ["/bin/true"]},
    }
    return OncallConfig.model_validate({**{s: [whole[s]] for s in sinks or ("pagerduty",)}, **rest})


def inc(number: int | str = 1) -> IncidentId:
    return IncidentId(f"inc-{number}")


def brief(number: int | str = 1, **rest: Any) -> Brief:
    """An incident of rule sight on a device of its own."""
    return Brief(
        **{
            "incident": inc(number),
            "summary": f"GPU {number} is blind",
            "opened_wall": T0,
            "rule": "sight",
            "device": f"GPU-{number}",
            **rest,
        }
    )


def page(number: int | str = 1, at: float = 0.0, **rest: Any) -> Page:
    return Page(
        **{
            "id": f"inc-{number}/1",
            "incident": inc(number),
            "severity": "error",
            "summary": f"GPU {number} is blind",
            "wall": T0 + at,
            **rest,
        }
    )


@dataclass(slots=True)
class Duty:
    """On-call on a clock of its own: sinks take everything unless they are said to be ``down``."""

    cfg: OncallConfig = field(default_factory=oncall)
    book: Book = field(default_factory=Book)
    down: dict[str, Result] = field(default_factory=dict)
    told: list[tuple[float, Notice]] = field(default_factory=list)
    """What was taken, and when."""
    tried: list[tuple[float, Notice]] = field(default_factory=list)
    at: float = 0.0

    def page(
        self,
        number: int | str = 1,
        *,
        has_incident: bool = True,
        tenant_name: str = "",
        **rest: Any,
    ) -> Duty:
        """A page comes in now."""
        order = page(number, self.at, **rest)
        known = brief(
            number, summary=order.summary, opened_wall=T0 + self.at, tenant_name=tenant_name
        )
        self.book = fold.taken(self.cfg, self.book, order, known, has_incident=has_incident)
        return self

    def close(self, *numbers: int | str) -> Duty:
        """Incidents are over now."""
        over = {
            inc(n): replace(self.entry(n).brief, closed_wall=T0 + self.at, outcome="passed")
            for n in numbers
        }
        self.book = fold.followed(self.book, over)
        return self

    def ack(self, number: int | str = 1, who: str = "ann") -> Duty:
        self.book = people.acked(self.cfg, self.book, inc(number), Ack(who=who, wall=T0 + self.at))
        return self

    def run(self, until: float, step_s: float = 1.0) -> Duty:
        """Time goes on; whatever is due is sent, one message a sink and second."""
        while self.at <= until:
            self.now()
            self.at += step_s
        return self

    def now(self) -> list[Notice]:
        """Whatever is due now, and what became of it."""
        wall = T0 + self.at
        self.book = due.advance(self.cfg, self.book, wall)
        self.book, notices = due.orders(self.cfg, self.book, wall, busy=frozenset(), host=HOST)
        for notice in notices:
            self.tried.append((self.at, notice))
            result = self.down.get(notice.sink, Result.DELIVERED)
            if result is Result.DELIVERED:
                self.told.append((self.at, notice))
            self.book = results.concluded(
                self.cfg, self.book, notice, result, detail=f"said {result}", wall=wall
            )
        return list(notices)

    def entry(self, number: int | str = 1) -> Entry:
        return self.book.entries[inc(number)]

    def heard(self, sink: str = "pagerduty", number: int | str | None = None) -> list[Reason]:
        """Reasons a sink was told, in order; of one incident where it is named."""
        return [n.reason for _, n in self.of(sink, number)]

    def of(self, sink: str, number: int | str | None = None) -> Sequence[tuple[float, Notice]]:
        return [
            (at, n)
            for at, n in self.told
            if n.sink == sink and (number is None or n.brief.incident == inc(number))
        ]
