"""One line of everything, for who looks at the service manager and nowhere else."""

from collections import Counter
from collections.abc import Sequence

from gpuwarden.config import Config
from gpuwarden.model.action import Withheld
from gpuwarden.model.decision import Decision
from gpuwarden.model.device import Sight
from gpuwarden.model.snapshot import Snapshot

HELD_SHOWN = 3


def summary(
    cfg: Config, snapshot: Snapshot, decision: Decision, held: Sequence[Withheld] = ()
) -> str:
    """Mode, devices, tenants, findings, open cases, and what is not done, by what holds it back."""
    parts = [f"{cfg.agent.mode}: {_devices(snapshot)}"]
    parts.append(_count(len(snapshot.tenants), "tenant"))
    parts.append(_count(len(decision.findings), "finding"))
    if cases := len(decision.memory.cases):
        parts.append(_count(cases, "case"))
    line = ", ".join(parts)
    if held:
        by_budget = Counter(f"{each.kind.value} ({each.budget})" for each in held)
        shown = [
            what if count == 1 else f"{count} {what}"
            for what, count in by_budget.most_common(HELD_SHOWN)
        ]
        more = len(by_budget) - len(shown)
        line += f"; withheld: {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"
    return line


def no_gpus(snapshot: Snapshot) -> str | None:
    """Why there is no GPU at all; None: there is one. Empty: not known yet."""
    if snapshot.devices:
        return None
    return next(
        (gap.detail for gap in snapshot.gaps if (gap.source, gap.subject) == ("nvml", "driver")), ""
    )


def _devices(snapshot: Snapshot) -> str:
    why = no_gpus(snapshot)
    if why is not None:
        return f"no GPUs ({why})" if why else "no GPUs"
    gpus = [device for device in snapshot.devices if device.parent is None]
    blind = sum(1 for device in gpus if device.sight is not Sight.OK)
    said = _count(len(gpus), "GPU")
    return f"{said} ({blind} not seen)" if blind else said


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
