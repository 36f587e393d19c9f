"""The aggregators of one fleet: alone on SQLite, or several on one PostgreSQL. A part of wiring."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.ingest import Hear, Ingest
from gpuwarden.aggregator.lead import Lead, Leadership, Others, OwnLead
from gpuwarden.aggregator.loop import Answers
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig, CentreConfig

if TYPE_CHECKING:
    from gpuwarden.aggregator.lead_postgres import PostgresLead
    from gpuwarden.aggregator.share import Share

EPOCH_S = 10.0


class Company(Leadership, Others, Protocol):
    """Who leads, and what is told to and heard from the others."""

    def start(self) -> None: ...

    def attach(self, ingest: Ingest) -> None: ...

    def listen(self, hear: Hear) -> Hear:
        """What is to hear of streams that are held here, so that it reaches ``hear`` and the others."""
        ...

    def answer(self, answers: Answers) -> None: ...

    def counters(self) -> Mapping[str, int]: ...


class Alone(OwnLead):
    """On a store of its own."""

    def start(self) -> None:
        return

    def attach(self, ingest: Ingest) -> None:
        return

    def listen(self, hear: Hear) -> Hear:
        return hear

    def answer(self, answers: Answers) -> None:
        return

    def counters(self) -> Mapping[str, int]:
        return {}

    def permits_held(self) -> int | None:
        return None

    def others(self) -> Mapping[str, str]:
        return {}


class Several:
    """On one PostgreSQL."""

    def __init__(self, leadership: "PostgresLead", share: Callable[[Hear], "Share"]) -> None:
        self._leadership = leadership
        self._make = share
        self._share: Share

    def start(self) -> None:
        self._leadership.start()
        self._share.start()

    def stop(self) -> None:
        self._share.stop()
        self._leadership.stop()

    def attach(self, ingest: Ingest) -> None:
        self._share.ingest = ingest

    def listen(self, hear: Hear) -> Hear:
        self._share = self._make(hear)
        return self._share.hear

    def answer(self, answers: Answers) -> None:
        self._share.answer(answers)

    def lead(self) -> Lead:
        lead = self._leadership.lead()
        if lead.is_ours and not self._share.is_whole:
            # Whoever does not know what others hold must not weigh the fleet.
            why = f"what others hold is not known: {self._share.fault}"
            return replace(lead, is_ours=False, why=why)
        return lead

    def learn(self, epoch: int) -> None:
        self._leadership.learn(epoch)

    def counters(self) -> Mapping[str, int]:
        return {
            "leads_won": self._leadership.won,
            "leads_lost": self._leadership.lost,
            "share_failures": self._share.failures,
            "refusals_dropped": self._share.dropped,
        }

    def permits_held(self) -> int | None:
        return None if self.lead().is_ours else self._share.permits_held

    def others(self) -> Mapping[str, str]:
        return self._share.others


def join_company(
    cfg: AggregatorConfig,
    committer: Committer,
    clock: Clock,
    name: str,
    environ: Mapping[str, str],
) -> Company:
    """The company of this store. ``name``: of this life of this aggregator."""
    centre = cfg.aggregator
    if centre.store is None:
        return Alone(committer.do(lambda store: store.next_epoch()).result(EPOCH_S))
    from gpuwarden.aggregator.lead_postgres import PostgresLead
    from gpuwarden.aggregator.share import Share
    from gpuwarden.aggregator.share_postgres import SharePostgres

    url, address = Secrets(environ).resolve(centre.store), reached_at(centre)
    leadership = PostgresLead(url, clock, name=name, address=address)

    def share(hear: Hear) -> Share:
        link = SharePostgres(url, name, address)
        return Share(link, clock, name=name, hear=hear, lead=leadership.lead)

    return Several(leadership, share)


def reached_at(centre: CentreConfig) -> str:
    """Where people find this aggregator."""
    if centre.advertise is not None:
        return centre.advertise
    host, _, port = centre.listen.rpartition(":")
    is_everywhere = host in ("0.0.0.0", "[::]", "*", "")
    return f"{socket.gethostname() if is_everywhere else host}:{port}"
