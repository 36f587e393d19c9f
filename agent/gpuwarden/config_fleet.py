"""[fleet]: whether this node belongs to a fleet, and what it may do while nobody there answers."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from gpuwarden.config_addresses import ListenAddress, ListenAddresses, PolicyKey
from gpuwarden.config_types import Bytes, Seconds, Section

MIB = 2**20
EVERYWHERE = frozenset({"0.0.0.0", "[::]", "*"})


class FleetConfig(Section):
    """A node in a fleet. Without ``aggregator`` it is alone, and nothing of this is used."""

    aggregator: ListenAddresses = ()
    """HOST:PORT of the aggregator, or a list of those that share one database: each node begins with one of
    them and goes on to the next when it does not answer."""
    identity_dir: Path = Path("/var/lib/gpuwarden/fleet")
    """Key and certificate of this node, from ``gpuwarden enroll``."""
    listen: ListenAddress | None = None
    """Where the aggregator may ask this node; unset: it cannot."""
    advertise: ListenAddress | None = None
    """The same as the aggregator reaches it; unset: ``listen``."""
    group: str = Field(default="default", min_length=1, max_length=64)
    domains: dict[str, str] = Field(default_factory=dict, max_length=16)
    """What fails together with this node, such as ``{ rack = "r12" }``."""
    keepalive_s: Seconds = Field(default=30.0, ge=1.0)
    """A stream on which nothing is said is tried so often; an aggregator allows it three times as often as its
    own ``ingest.keepalive_s`` (reliability research 1: far above what the other side allows, for clocks jitter)."""
    keepalive_timeout_s: Seconds = Field(default=20.0, ge=1.0)
    """Without an answer for so long the stream is dead, and another is begun."""
    sample_every_s: Seconds = 1.0
    batch_samples: int = Field(default=10, ge=1, le=64)
    """Samples go out so many at a time, or after ``batch_s``; events never wait for them."""
    batch_s: Seconds = 10.0
    spool_max_bytes: Bytes = 64 * MIB
    """Events that were not acknowledged, on disk; beyond it the oldest are dropped and counted."""
    require_permit: bool = True
    """Whether cordons, resets and reboots wait for the fleet's leave."""
    local_actions: int = Field(default=1, ge=0, le=100)
    """So many of them in ``local_window_s`` without a permit, once the aggregator has been away for
    ``local_after_s``."""
    local_kinds: tuple[
        Literal["cordon", "restart-services", "reset-gpu", "reload-driver", "reboot"], ...
    ] = ("cordon",)
    policy_keys: tuple[PolicyKey, ...] = Field(default=(), max_length=8)
    """Public keys (``gpuwarden policy keygen``) whose signature makes a policy; none: policies are not taken."""
    page_wait_s: Seconds = Field(default=5.0, ge=1.0, le=300.0)
    """Pages go to the aggregator, where it tells people, so that those of many nodes become one. One that it has
    not taken by then this node sends itself ..."""
    page_told_s: Seconds = Field(default=60.0, ge=5.0, le=3600.0)
    """... and one of which it has not said by then that anybody was told."""
    local_window_s: Seconds = 3600.0
    local_after_s: Seconds = 60.0

    def metrics_address(self, listen: str) -> str:
        """Where others reach a metrics page that listens there; empty: nowhere. What listens on every address
        of the host is reached at the host that ``advertise`` names."""
        host, _, port = listen.rpartition(":")
        if host in EVERYWHERE:
            reached = (self.advertise or "").rpartition(":")[0]
            return f"{reached}:{port}" if reached else ""
        is_local = host in ("localhost", "[::1]") or host.startswith("127.")
        return "" if is_local else listen

    @model_validator(mode="after")
    def _is_reachable(self) -> "FleetConfig":
        host = (self.listen or "").rpartition(":")[0]
        if host in EVERYWHERE and self.advertise is None:
            raise ValueError(
                f"advertise: missing; {self.listen} is every address of this host, and none that the "
                "aggregator could ask: say HOST:PORT"
            )
        return self
