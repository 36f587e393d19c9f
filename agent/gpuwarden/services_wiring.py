"""What a node does for services, put together: made only where there is a ``[[service]]`` or a tenant with the label.

Nothing of it is imported before: the judge and what it reads weigh 2 MiB.
"""

from dataclasses import dataclass
from pathlib import Path

from gpuwarden.adapters.hearing import Hearing
from gpuwarden.adapters.observe_grpc import ObserveGrpc
from gpuwarden.adapters.observe_keeper import ObserveKeeper
from gpuwarden.adapters.observe_socket import ObserveSocket
from gpuwarden.adapters.review_desk import ReviewDesk
from gpuwarden.adapters.review_spool import ReviewSpool
from gpuwarden.adapters.services import ServiceWatch
from gpuwarden.adapters.uplink import Uplink
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.adapters.window_desk import NodeWindowDesk
from gpuwarden.adapters.window_spool import WindowSpool
from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.config_guardrails import pack
from gpuwarden.errors import Unavailable
from gpuwarden.log import get_log


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What has to be started and let go of."""

    desk: NodeWindowDesk
    spool: WindowSpool
    hearing: Hearing
    reviews: ReviewSpool
    doors: "tuple[ObserveSocket | ObserveGrpc, ...]"

    def close(self) -> None:
        for door in self.doors:
            door.close()
        self.desk.close()

    def counters(self) -> dict[tuple[str, str], int]:
        return {
            ("dropped", "service_windows"): self.spool.dropped,
            ("dropped", "service_cohorts"): self.desk.overflow,
            ("dropped", "observations"): self.hearing.lost,
            ("dropped", "observation_labels"): self.hearing.unmatched,
            ("dropped", "observation_messages"): sum(door.refused for door in self.doors),
            ("dropped", "reviews"): self.reviews.dropped,
            ("errors", "service_windows"): self.desk.failures,
        }


def build_services(
    cfg: Config, source: ViewSource, services: ServiceWatch, clock: Clock, uplink: Uplink | None
) -> ServiceParts:
    """Made and started."""
    spool = WindowSpool(clock.wall()) if uplink is not None else WindowSpool(clock.wall(), 0)
    named = frozenset(each.name for each in cfg.service if each.url is not None)
    desk = NodeWindowDesk(source, spool, clock, pack(cfg.guardrail), named)
    if uplink is not None:
        spool.stir = uplink.stir
        uplink.windows = spool
    services.tell(desk)
    reviews = ReviewSpool(clock.wall())
    picks = None
    if uplink is not None:
        uplink.reviews = reviews
        picks = ReviewDesk(reviews, clock, cfg.service)
    hearing = Hearing(desk, clock, cfg.service, picks)
    doors = _doors(cfg.agent.run_dir, clock, ObserveKeeper(clock, desk.service_of, hearing.take))
    desk.start()
    return ServiceParts(desk=desk, spool=spool, hearing=hearing, reviews=reviews, doors=doors)


def _doors(
    run_dir: Path, clock: Clock, keeper: ObserveKeeper
) -> "tuple[ObserveSocket | ObserveGrpc, ...]":
    """In the folder that ``RunClaim`` has made for them, for containers to mount: a socket that is mounted by itself is a dead one after the
    agent's next start."""
    folder = run_dir / "observe"
    doors: list[ObserveSocket | ObserveGrpc] = []
    try:
        doors.append(ObserveSocket(folder / "http.sock", clock, keeper))
        doors.append(ObserveGrpc(folder / "grpc.sock", run_dir / "inner", clock, keeper))
        short = run_dir / "observe.sock"
        short.unlink(missing_ok=True)
        short.symlink_to("observe/http.sock")
    except (OSError, Unavailable) as error:  # what services are read by their pages for goes on
        get_log().error("observe_socket_failed", reason=str(error))
    for door in doors:
        door.start()
    return tuple(doors)
