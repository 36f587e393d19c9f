"""HUP: the aggregator's configuration is read again; a bad one is told, and the old one stays. A part of wiring."""

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from gpuwarden.adapters.sdnotify import SdNotify
from gpuwarden.aggregator.paging import outfit_of
from gpuwarden.config_aggregator import AggregatorConfig, CentreConfig
from gpuwarden.errors import ConfigError
from gpuwarden.log import get_log
from gpuwarden.policy.fleet.permits import counted_s
from gpuwarden.wire.v1 import fleet_pb2 as pb

if TYPE_CHECKING:
    from gpuwarden.aggregator.wiring import Parts

AT_START = (
    *(f"aggregator.{key}" for key in CentreConfig.model_fields),
    *(f"ingest.{key}" for key in ("commit_s", "queue_max", "keepalive_s", "keepalive_timeout_s")),
    "ask.parallel",
    "rollout",
    *(f"evaluation.{key}" for key in ("keep_s", "fine_mib", "archive_mib", "cohorts_max")),
)
"""Settings that are read once, when the aggregator starts; a reload takes over all the others."""
NOTE_MAX_CHARS = 150
"""Of the one line that the service manager shows: the rest is for what the aggregator sees."""


def waits_for_restart(running: AggregatorConfig, wanted: AggregatorConfig) -> tuple[str, ...]:
    """Which settings of ``wanted`` are not in force in an aggregator that was started with ``running``."""
    return tuple(path for path in AT_START if attrgetter(path)(running) != attrgetter(path)(wanted))


def reload(parts: "Parts", read: Callable[[], AggregatorConfig], notify: SdNotify) -> None:
    """The event loop's thread only, between two of its turns: nobody sees half a reload. ``read`` raises
    ``ConfigError`` with every mistake."""
    notify.reloading()
    try:
        fresh = read()
    except ConfigError as error:
        parts.reloads_refused += 1
        get_log().error("config_rejected", faults=error.faults)
        why = f"config rejected, the old one stays: {error.faults[0]}"
        notify.reloaded(why[:NOTE_MAX_CHARS])
        return
    waiting = waits_for_restart(parts.cfg, fresh)
    running = parts.fleet.cfg.permit
    if counted_s(fresh.permit) > counted_s(running):
        # What the longer window counts was forgotten here; it is read from the store at a start.
        fresh, waiting = fresh.model_copy(update={"permit": running}), (*waiting, "permit")
    adopt(parts, fresh)
    parts.reloads += 1
    get_log().info("config_reloaded")
    if waiting:
        get_log().warning("config_waits_for_restart", settings=waiting)
    notify.reloaded(f"waits for a restart: {', '.join(waiting)}" if waiting else "")


def adopt(parts: "Parts", fresh: AggregatorConfig) -> None:
    """Decide, take, ask and tell by it from now on. ``parts.cfg`` stays what it was started with."""
    bound = {
        "queue_max": parts.cfg.ingest.queue_max
    }  # the committer's own, for as long as it lives
    fresh = fresh.model_copy(update={"ingest": fresh.ingest.model_copy(update=bound)})
    parts.fleet.cfg = parts.ingest.cfg = fresh
    parts.ingest.streams.cfg = fresh.ingest
    parts.asking.cfg = parts.query.orders.cfg = fresh.ask
    parts.policies.cfg = fresh.policy
    parts.handed.cfg = fresh.sight
    parts.evaluation.adopt(fresh)
    parts.follow.adopt(fresh)
    parts.paging.reign.adopt(outfit_of(fresh, parts.clock))
    for node in list(parts.ingest.streams.by_node):  # what is required of them may be another now
        parts.ingest.direct(node, pb.Directive())
