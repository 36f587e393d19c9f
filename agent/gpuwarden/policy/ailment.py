"""Whether a device, or the node, is ill itself: then what runs on it is not to blame, and not to be healed."""

from gpuwarden.model.device import Device, Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import Memory
from gpuwarden.model.repair import NODE, Phase
from gpuwarden.policy.repair import ladders

IN_HAND = frozenset({Phase.OPEN, Phase.EMPTYING, Phase.ACTING, Phase.VERIFYING, Phase.HANDED_OVER})
"""A repair in one of these is not over."""


def of_device(memory: Memory, device: DeviceId, seen: Device | None) -> tuple[str, ...]:
    """Everything that is wrong with a device, in words; empty: nothing is known to be."""
    name = f"GPU {seen.index}" if seen is not None else str(device)
    state = memory.devices.get(device)
    said = []
    if seen is None:
        said.append(f"{name} is not there")
    elif seen.sight is not Sight.OK:
        said.append(f"{name} does not answer ({seen.sight.value})")
    if state is not None and state.locked_since is not None:
        said.append(f"{name} is locked up ({state.locked_why})")
    if state is not None and state.cordoned_by is not None:
        said.append(f"{name} is cordoned ({state.cordoned_by})")
    return (*said, *_of_subject(memory, device, name))


def of_node(memory: Memory) -> tuple[str, ...]:
    """Everything that is wrong with the node as a whole."""
    state = memory.devices.get(DeviceId(NODE))
    said = []
    if state is not None and state.cordoned_by is not None:
        said.append(f"the node is cordoned ({state.cordoned_by})")
    return (*said, *_of_subject(memory, NODE, "the node"))


def _of_subject(memory: Memory, subject: str, name: str) -> tuple[str, ...]:
    """A fault for which there is a remedy, or a repair that is not over. What only an application did is
    nothing of the device's."""
    repair = memory.repairs.get(subject)
    if repair is not None and repair.phase in IN_HAND:
        return (f"{name} is being repaired ({repair.step}, {repair.phase})",)
    for fault in memory.faults.values():
        is_its = fault.root.subject == subject and fault.root.is_trusted
        if is_its and ladders.ladder_of(fault, repeat_raises=1000):
            return (f"{name} has a fault ({fault.root.code})",)
    return ()
