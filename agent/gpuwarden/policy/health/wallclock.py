"""Rule wallclock: the host's wall clock is not kept by anything, or was set.

Source: the kernel's own word (adjtimex, STA_UNSYNC). A step is seen by comparing wall time with monotonic time
between two ticks; a host that slept looks the same and has the same effects.
"""

from collections.abc import Iterator

from gpuwarden.config import Config
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.model.memory import Memory
from gpuwarden.model.snapshot import Snapshot
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim


def _ask(look: HostLook) -> Iterator[Claim]:
    around = look.surroundings
    if around is None or around.is_clock_synchronised is not False:
        return
    error = around.clock_error_s
    yield claim(
        look.cfg.health.wallclock,
        "clock-unsynchronised",
        Severity.WARNING,
        "the wall clock is not synchronised with any other",
        scope=Scope.NODE,
        evidence=(("may be off by", "not told" if error is None else f"{error:.3f} s"),),
    )


def jumped(cfg: Config, memory: Memory, snap: Snapshot) -> Claim | None:
    """The wall clock was set since the last tick of this boot."""
    if memory.last_wall == 0.0 or memory.boot_id != snap.boot_id:
        return None
    step_s = (snap.wall - memory.last_wall) - (snap.at - memory.last_at)
    if abs(step_s) <= cfg.health.wallclock.jump_s:
        return None
    way = "forward" if step_s > 0 else "back"
    return claim(
        cfg.health.wallclock,
        "clock-set",
        Severity.WARNING,
        f"the wall clock was set {way} by {abs(step_s):.1f} s",
        grace_s=0.0,
        scope=Scope.NODE,
        evidence=(("set by", f"{step_s:+.3f} s"),),
    )


JUDGES = (
    HostJudge(
        "wallclock",
        _ask,
        {"clock-unsynchronised": ("surroundings.is_clock_synchronised",), "clock-set": ()},
    ),
)
