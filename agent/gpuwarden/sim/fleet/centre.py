"""Whom a simulated fleet speaks to: an aggregator of its own in a temporary folder, or one that is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.clock import Clock
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.fleet import SimFleet

CERTIFICATE_S = 86_400.0
TRUST_DOMAIN = "gpuwarden"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimCentre:
    """``admin``: the folder of a certificate that may give orders; ``pid`` None: not our process."""

    address: str
    admin: Path
    authority: Authority
    identities: Path
    pid: int | None = None

    def certify(self, names: Sequence[str], clock: Clock) -> None:
        """A certificate for each, straight from the authority: a thousand invitations are another test."""
        for name in names:
            own = self.authority.credentials(
                Identity(role=Role.NODE, name=name), ttl_s=CERTIFICATE_S, wall=clock.wall()
            )
            write_credentials(self.identity_of(name), own)

    def identity_of(self, name: str) -> Path:
        return self.identities / name


@contextlib.contextmanager
def own_centre(clock: Clock, more_settings: str = "") -> Iterator[SimCentre]:
    """An aggregator with a new authority; gone afterwards."""
    with SimFleet((), more_settings) as fleet:
        state = fleet.folder / "aggregator"
        yield SimCentre(
            address=fleet.address,
            admin=fleet.admin,
            authority=Authority.open(state / "pki", TRUST_DOMAIN, clock.wall()),
            identities=fleet.folder / "identities",
            pid=fleet.pid,
        )


@contextlib.contextmanager
def foreign_centre(clock: Clock, address: str, state: Path) -> Iterator[SimCentre]:
    """One that runs on this host, by its address and its ``state_dir``; ``Unavailable`` when its authority
    cannot be read."""
    with TemporaryDirectory(prefix="gpuwarden-fleet-") as folder:
        authority = Authority.open(state / "pki", TRUST_DOMAIN, clock.wall())
        admin = Path(folder) / "admin"
        who = Identity(role=Role.ADMIN, name="simulate")
        write_credentials(admin, authority.credentials(who, ttl_s=CERTIFICATE_S, wall=clock.wall()))
        yield SimCentre(
            address=address, admin=admin, authority=authority, identities=Path(folder) / "nodes"
        )
