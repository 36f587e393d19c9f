"""Rule count: fewer GPUs than there should be.

What should be there is what the operator says (``agent.expected_devices``); without that, what the PCI bus
holds and nobody else's driver has taken. One that is lost or was never brought up is not there.
"""

from collections.abc import Iterator

from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Scope, Severity
from gpuwarden.policy.health.rule import Claim, HostJudge, HostLook, claim


def _ask(look: HostLook) -> Iterator[Claim]:
    told = look.cfg.agent.expected_devices
    on_bus = look.surroundings.pci_gpus if look.surroundings is not None else None
    expected = on_bus if told is None else told
    devices = look.scene.snap.devices
    seen = sum(1 for d in devices if d.parent is None and d.sight is not Sight.LOST)
    if expected is None or seen >= expected:
        return
    source = "expected" if told is not None else "on the PCI bus"
    known = sum(1 for d in devices if d.parent is None)
    yield claim(
        look.cfg.health.count,
        "device-count",
        # Of a device that was seen and is lost, rule ``sight`` tells: nobody is woken twice.
        Severity.ERROR if known < expected else Severity.WARNING,
        f"{seen} GPUs are here, {expected} are {source}",
        scope=Scope.NODE,
        evidence=(
            ("devices", str(seen)),
            ("expected", "not told" if told is None else str(told)),
            ("on the PCI bus", "not told" if on_bus is None else str(on_bus)),
        ),
    )


JUDGES = (
    HostJudge(
        "count", _ask, {"device-count": ("cfg.agent.expected_devices|surroundings.pci_gpus",)}
    ),
)
