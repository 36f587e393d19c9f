"""Rule zombie: device memory stays under the pid of a process that has ended.

The driver takes such bytes back within a second. A zombie whose threads are all gone holds none by itself:
the bytes are held by a file that somebody else still has open, or the driver has leaked them.
"""

from collections.abc import Iterator

from gpuwarden.model.finding import Severity
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim
from gpuwarden.policy.words import size


def _ask(look: HostLook) -> Iterator[Claim]:
    around = look.surroundings
    if around is None:
        return
    for left in around.remains:
        who = f"{left.raw_pid} ({left.comm})" if left.comm else str(left.raw_pid)
        why = "is a zombie" if left.is_zombie else "is gone"
        parent = (("has to be reaped by", str(left.parent)),) if left.parent else ()
        yield claim(
            look.cfg.health.zombie,
            "memory-of-the-dead",
            Severity.ERROR,
            f"keeps {size(left.used_bytes)} for process {who}, which {why}",
            subject=str(left.raw_pid),
            device=left.device,
            tenant=left.tenant,
            evidence=(("pid", str(left.raw_pid)), ("bytes", str(left.used_bytes)), *parent),
        )


JUDGES = (HostJudge("zombie", _ask, {"memory-of-the-dead": ("surroundings",)}),)
