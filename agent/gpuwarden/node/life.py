"""A whole life: wait, tick, reload on HUP, end on TERM."""

import gc
from collections.abc import Callable
from typing import Protocol

from gpuwarden.clock import Clock
from gpuwarden.config import Config
from gpuwarden.node.loop import Node


class Wait(Protocol):
    """What the loop waits on (``adapters.wakeups``)."""

    wants_reload: bool
    wants_stop: bool

    def wait(self, timeout_s: float) -> bool: ...


MIN_TICK_S = 0.002
"""Two ticks are never closer than this: a source that is always readable cannot take the CPU."""


def live(
    node: Node,
    clock: Clock,
    wakeups: Wait,
    reload: Callable[[], Config | None],
) -> None:
    """Tick until TERM or INT; then, or after a failure, nothing stays frozen. ``reload`` gives the new
    configuration, or ``None`` when it is bad: then the old one stays."""
    try:
        node.tick(clock.now(), clock.wall())
        gc.collect()
        gc.freeze()  # what lives as long as the agent is not looked at again: shorter pauses
        last = clock.now()
        while not wakeups.wants_stop:
            wakeups.wait(max(MIN_TICK_S, node.next_due(clock.now()) - clock.now()))
            if wakeups.wants_reload:
                wakeups.wants_reload = False
                fresh = reload()
                if fresh is not None:
                    node.adopt(fresh)
            if clock.now() - last < MIN_TICK_S:
                clock.sleep(MIN_TICK_S)
            last = clock.now()
            node.tick(last, clock.wall())
    finally:
        node.let_go()
