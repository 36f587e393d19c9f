"""What a step that has not helped leaves is kept before the next one wipes it out."""

from gpuwarden.model.action import Kind
from gpuwarden.model.repair import Phase, Repair
from gpuwarden.policy import guard
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.repair import report


def keep(desk: Desk, repair: Repair, detail: str) -> None:
    """Order that what this step leaves is kept; a fault that is handed over untried is kept as it is."""
    if not (guard.is_enforcing(desk.cfg, "repair") and desk.scene.snap.can_record):
        return
    if repair.phase is Phase.OPEN and repair.attempts:
        return  # kept when that failed
    tried = f"{repair.step}: {detail}" if repair.attempts else detail
    desk.order(
        Kind.KEEP_EVIDENCE,
        repair.incident,
        f"{repair.cls} fault of {report.subject_words(desk, repair)}; {tried}"[:300],
        device=repair.device,
        params=place(desk, repair),
    )


def place(desk: Desk, repair: Repair) -> list[tuple[str, str]]:
    """What an action is about, for whoever carries it out."""
    device = desk.scene.devices.get(repair.device) if repair.device is not None else None
    params = [("subject", repair.subject)]
    if device is not None:
        params += [("index", str(device.index)), ("pci", device.pci or "")]
    return params
