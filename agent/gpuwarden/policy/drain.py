"""An operator's drain: what is cordoned is emptied too, by class and with everybody's grace; late, people are told.

Those whose class ``repair.drain_evicts`` names are ended; everybody else is waited for. A drain ends when nobody
is left, and with the cordon.
"""

from dataclasses import replace

from gpuwarden.model.action import Kind
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.memory import DeviceMemory
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import leaving
from gpuwarden.policy.cordon import NODE_ITSELF
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.notify.topics import page_params

NAMES_SHOWN = 5


def advance(desk: Desk) -> None:
    """Take every drain one step on."""
    for place, state in list(desk.devices.items()):
        if state.drained_wall:
            _move(desk, place, state)


def _move(desk: Desk, place: DeviceId, state: DeviceMemory) -> None:
    incident = state.cordoned_by
    if incident is None:
        desk.devices[place] = _ended(state)
        return
    is_node = place == NODE_ITSELF
    devices = list(desk.scene.devices) if is_node else [place, *desk.scene.slices_of(place)]
    left = leaving.left_on(desk, devices)
    if left is None:
        return
    words = _words(desk, place)
    if not left:
        desk.note(incident, NoteKind.EVIDENCE, f"{words} is empty: nobody holds memory of it")
        desk.devices[place] = _ended(state)
        return
    room = leaving.Room(
        key=f"drain {place}",
        rule="repair",
        device=None if is_node else place,
        incident=incident,
        what=f"the drain of {words}",
        withheld=state.drain_withheld,
    )
    state = replace(state, drain_withheld=leaving.ask_to_go(desk, room, left))
    desk.devices[place] = _late(desk, place, state, left)


def _late(desk: Desk, place: DeviceId, state: DeviceMemory, left: list[Tenant]) -> DeviceMemory:
    """Tell people, once, who is still there after ``repair.drain_wait_s``."""
    waits_s = desk.cfg.repair.drain_wait_s - (desk.scene.snap.wall - state.drained_wall)
    if state.is_drain_late or state.cordoned_by is None:
        return state
    if waits_s > 0:
        desk.wakes.append(desk.scene.snap.at + waits_s)
        return state
    shown = ", ".join(t.name for t in left[:NAMES_SHOWN])
    more = f" and {len(left) - NAMES_SHOWN} more" if len(left) > NAMES_SHOWN else ""
    device = None if place == NODE_ITSELF else place
    said = (
        f"the drain of {_words(desk, place)}, asked for by {state.held_by}, waits for {shown}{more}"
    )
    desk.order(
        Kind.PAGE,
        state.cordoned_by,
        said,
        device=device,
        params=page_params(desk, "warning", said, device, None),
    )
    return replace(state, is_drain_late=True)


def _ended(state: DeviceMemory) -> DeviceMemory:
    return replace(state, drained_wall=0.0, is_drain_late=False, drain_withheld=())


def _words(desk: Desk, place: DeviceId) -> str:
    device = desk.scene.devices.get(place)
    return "the node" if place == NODE_ITSELF else f"GPU {device.index}" if device else str(place)
