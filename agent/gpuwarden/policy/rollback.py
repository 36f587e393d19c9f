"""Takes a service back to another version of itself, one place of the node after the other.

An operator's word counts in observe mode too. What the aggregator orders by itself (``auto``) needs rule
``rollback`` in enforce mode. Whoever asks: what the GPU explains is no version's fault, and is acted on by the
rules of the GPU.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.command import Command
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.ids import DeviceId, IncidentId, TenantId
from gpuwarden.model.memory import IN_FLIGHT
from gpuwarden.model.rollback import Back, BackPhase, Recorded
from gpuwarden.model.service import ProbeReading
from gpuwarden.model.snapshot import Health, ServiceState
from gpuwarden.model.tenant import Tenant
from gpuwarden.policy import ailment, guard
from gpuwarden.policy.desk import Desk, target_of
from gpuwarden.policy.notify.topics import page_params

RULE = "rollback"
ROOM = 1.1
"""Both fit on a device when this many times what the present one holds is free beside the reserve: the other
version may hold somewhat more."""
WORDS_MAX = 128
WAIT_S = 300.0
"""How long what else is under way on its devices may hold it up: the longest grace there is."""
BUSY = (
    "something else was under way on its devices all the time, or the journal could not be written"
)

assert Kind.ROLL_BACK in HARMFUL


class Cannot(Exception):
    """Why nothing is rolled back, in words."""


class How(StrEnum):
    """Whose wish it is, and how strong."""

    ASKED = ""
    """A person's."""
    ANYWAY = "anyway"
    """A person's, who knows what the GPU does and wants it all the same."""
    AUTO = "auto"
    """The aggregator's own, on a breach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. ``version`` empty: the last good one."""

    service: str
    version: str
    how: How


def parsed(subject: str) -> Wish:
    """``SERVICE@VERSION@HOW``; the last two may be empty, the @s may not be missing."""
    parts = subject.rsplit("@", 2)
    if len(parts) != 3 or not parts[0]:
        raise Cannot("expected SERVICE@VERSION@HOW")
    service, version, how = parts
    if how not in {each.value for each in How}:
        raise Cannot(f"expected nothing, anyway or auto behind the last @, got {how[:40]}")
    if len(service) > WORDS_MAX or len(version) > WORDS_MAX:
        raise Cannot(f"expected a service and a version of at most {WORDS_MAX} characters")
    return Wish(service=service, version=version, how=How(how))


def spelled(service: str, version: str, how: How) -> str:
    """The subject that ``parsed`` reads."""
    return f"{service}@{version}@{how.value}"


def wells(
    services: Iterable[ServiceState], probes: Iterable[ProbeReading]
) -> dict[str, bool | None]:
    """By service, whether it holds what it promises: one red word counts more than green ones; where nobody
    knows, None."""
    said: dict[str, list[bool | None]] = {}
    for state in services:
        told = {Health.GREEN: True, Health.RED: False}.get(state.health)
        said.setdefault(state.service, []).append(told)
    for reading in probes:
        said.setdefault(reading.service, []).append(reading.is_well)
    return {
        name: False if False in words else True if True in words else None
        for name, words in said.items()
    }


def last_good(versions: Iterable[Recorded], present: str) -> Recorded | None:
    """The last version before the present one that held its guardrails for its probation."""
    good = [v for v in versions if v.version != present and v.good_wall is not None]
    return max(good, key=lambda v: (v.good_wall or 0.0, v.version)) if good else None


def begin(desk: Desk, command: Command) -> tuple[str, IncidentId | None]:
    """Put a service on its way; ``Cannot`` says why not, and then nothing has changed."""
    wish = parsed(command.subject)
    service = wish.service
    known = desk.memory.backs.get(service)
    if known is not None:
        if known.reason and known.reason == command.reason:  # one order that was sent twice
            return f"{service} is on its way", known.incident
        raise Cannot(f"{service} is being rolled back already")
    if wish.how is How.AUTO and not guard.is_enforcing(desk.cfg, RULE):
        raise Cannot(f"rule {RULE} is in observe mode here: nothing is rolled back by itself")
    versions = [v for v in desk.scene.snap.versions if v.service == service]
    running = [v for v in versions if v.tenant in desk.scene.tenants]
    if not running:
        raise Cannot(
            f"nobody is on record who carries {service[:80]} here (of a class above default.class_max)"
        )
    if wish.how is not How.ANYWAY:
        _rule_out(desk, service, running)
    places = _places(service, versions, running, wish.version)
    if not places:
        return f"{service} runs {wish.version} already", None
    said = f"{command.name} rolls {service} back to {_versions(places)}: {command.reason or 'no reason given'}"
    first = running[0].tenant
    device = next(iter(_devices(desk, first)), None)
    finding = Finding(
        rule=RULE,
        key=f"{RULE} {service}",
        severity=Severity.WARNING,
        summary=said,
        tenant=first,
        device=device,
        service=service,
    )
    incident = desk.incident(f"{RULE}/{service}", finding)
    back = Back(
        service=service,
        phase=BackPhase.NEXT,
        incident=incident,
        by=command.name,
        reason=command.reason,
        since=desk.scene.snap.at,
        places=places,
    )
    desk.memory = replace(desk.memory, backs={**desk.memory.backs, service: back})
    return f"{service} goes back to {_versions(places)}", incident


def _rule_out(desk: Desk, service: str, running: Sequence[Recorded]) -> None:
    """``Cannot`` where the GPU explains what the service suffers from."""
    found = causes(desk, [v.tenant for v in running if v.tenant is not None])
    if found:
        raise Cannot(
            f"not rolled back, for the GPU explains it: {'; '.join(found[:4])}. That is what is acted on; "
            f"--anyway goes back all the same"
        )


def causes(desk: Desk, tenants: Sequence[TenantId]) -> list[str]:
    """What is wrong with the devices under these tenants, in words: a fault, a lock-up, or a neighbour that is
    over its quota or on its way out for it."""
    found = list(ailment.of_node(desk.remembered()))
    devices = dict.fromkeys(device for tenant in tenants for device in _devices(desk, tenant))
    for device in devices:
        found += ailment.of_device(desk.remembered(), device, desk.scene.devices.get(device))
    names = {t.id: t.name for t in desk.scene.snap.tenants}
    for episode in desk.memory.episodes.values():
        if episode.is_breach and episode.device in devices and episode.tenant not in tenants:
            who = names.get(episode.tenant, episode.tenant)
            found.append(f"its neighbour {who} is over its quota")
    for case in desk.cases.values():
        if case.rung in IN_FLIGHT and case.device in devices and case.tenant not in tenants:
            who = names.get(case.tenant, case.tenant)
            found.append(f"its neighbour {who} is being evicted ({case.reason})")
    return list(dict.fromkeys(found))


def _devices(desk: Desk, tenant: TenantId | None) -> list[DeviceId]:
    return [] if tenant is None else [use.device for use in desk.scene.uses_of(tenant)]


def _places(
    service: str, known: Sequence[Recorded], running: Sequence[Recorded], wanted: str
) -> tuple[tuple[str, str, str], ...]:
    """Each place that does not run it yet, with the version it has and the one it is to get; empty: all do."""
    found = []
    for now in sorted(running, key=lambda v: v.place):
        here = [v for v in known if v.place == now.place]
        if not wanted:
            good = last_good(here, now.version)
            if good is None:
                some = ", ".join(sorted(v.version for v in here if v.version != now.version))
                raise Cannot(
                    f"no version of {service} before {now.version} is known to have held its guardrails in "
                    f"{now.place}; on record are: {some or 'none'} (--to VERSION)"
                )
            found.append((now.place, now.version, good.version))
        elif now.version != wanted:
            if all(v.version != wanted for v in here):
                some = ", ".join(sorted(v.version for v in here))
                raise Cannot(
                    f"version {wanted} of {service} is not on record in {now.place}: {some}"
                )
            found.append((now.place, now.version, wanted))
    return tuple(found)


def _versions(places: Sequence[tuple[str, str, str]]) -> str:
    return ", ".join(dict.fromkeys(version for _, _, version in places))


class Event(StrEnum):
    """What can happen to a way back."""

    NOTHING = "nothing"
    ORDERED = "ordered"
    ARRIVED = "arrived"
    """The place runs what it is to run."""
    BROKEN = "broken"
    UNSURE = "unsure"
    """The agent ended in between."""
    OVER = "over"
    """There is no further place."""


P, E = BackPhase, Event
TABLE: dict[tuple[BackPhase, Event], BackPhase] = {
    (P.NEXT, E.ORDERED): P.ACTING,
    (P.NEXT, E.BROKEN): P.FAILED,
    (P.NEXT, E.OVER): P.DONE,
    (P.ACTING, E.ARRIVED): P.NEXT,
    (P.ACTING, E.BROKEN): P.FAILED,
    (P.ACTING, E.UNSURE): P.NEXT,
}
REST = frozenset({P.DONE, P.FAILED})


def step(phase: BackPhase, event: Event) -> BackPhase:
    """The next phase; an event that says nothing to a phase leaves it."""
    return TABLE.get((phase, event), phase)


def advance(desk: Desk) -> None:
    """Take each service that is on its way one step on."""
    if not desk.memory.backs:
        return
    backs = {}
    for service, back in desk.memory.backs.items():
        moved = _moved(desk, back)
        if moved.phase not in REST:
            backs[service] = moved
    desk.memory = replace(desk.memory, backs=backs)


def _moved(desk: Desk, back: Back) -> Back:
    """One move at least; where the next place can be ordered at once, that too."""
    if back.phase is P.ACTING:
        back = _told(desk, back)
    if back.phase is not P.NEXT:
        return back
    if back.at_place >= len(back.places):
        desk.note(back.incident, NoteKind.RUNG, f"{back.service} runs {_versions(back.places)}")
        return replace(back, phase=step(back.phase, E.OVER))
    return _order(desk, back)


def _told(desk: Desk, back: Back) -> Back:
    """What became of the place that was ordered."""
    place, before, version = back.places[back.at_place]
    if back.result == "":
        return back
    if back.result == "unknown":
        text = f"the agent ended while {place} was being rolled back: it is finished or put back"
        desk.note(back.incident, NoteKind.EVIDENCE, text)
        return replace(back, phase=step(back.phase, E.UNSURE), result="")
    if back.result == "done":
        undo = f"gpuwarden rollback {back.service} --to {before}"
        desk.note(back.incident, NoteKind.RUNG, f"{place} runs {version}; back again: {undo}")
        phase = step(back.phase, E.ARRIVED)
        return replace(back, phase=phase, at_place=back.at_place + 1, target=None, is_unsure=False)
    return _failed(desk, back, back.detail or back.result)


def _failed(desk: Desk, back: Back, why: str) -> Back:
    """The present one runs on; people are told, for somebody wanted it otherwise."""
    place, before, version = back.places[back.at_place]
    left = len(back.places) - back.at_place - 1
    more = f"; {left} further places are left as they are" if left else ""
    summary = f"{place} stays on {before}, {version} could not be started: {why}{more}"
    desk.note(back.incident, NoteKind.RUNG, summary)
    device = next(iter(_devices(desk, back.target.tenant if back.target else None)), None)
    params = page_params(desk, "error", summary, device, None)
    desk.order(Kind.PAGE, back.incident, summary, device=device, params=params)
    return replace(back, phase=step(back.phase, E.BROKEN))


def _order(desk: Desk, back: Back) -> Back:
    """Order the next place; wait while something else is done to who runs there."""
    place, before, version = back.places[back.at_place]
    target = back.target
    tenant = _who(desk, back.service, place)
    if target is None or not back.is_unsure:
        if tenant is None:
            return _failed(desk, back, "nobody runs there any more")
        why = _why_not(desk, tenant)
        if why:
            return _failed(desk, back, why)
        if not desk.scene.snap.can_record or _is_busy(desk, tenant):
            waited_s = desk.scene.snap.at - back.since
            return _failed(desk, back, BUSY) if waited_s > WAIT_S else back
        target = target_of(tenant)
    devices = _devices(desk, target.tenant)
    action = desk.order(
        Kind.ROLL_BACK,
        back.incident,
        f"{place}: {back.service} from {before} back to {version}",
        target=target,
        device=devices[0] if devices else None,
        params=(
            ("service", back.service),
            ("place", place),
            ("version", version),
            ("from", before),
            ("has_room", "yes" if has_room(desk, target.tenant) else "no"),
        ),
    )
    phase = step(back.phase, E.ORDERED)
    return replace(back, phase=phase, target=target, ordered=action.id, result="", detail="")


def _who(desk: Desk, service: str, place: str) -> Tenant | None:
    for version in desk.scene.snap.versions:
        is_it = version.service == service and version.place == place
        if is_it and version.tenant is not None and version.tenant in desk.scene.tenants:
            return desk.scene.tenants[version.tenant]
    return None


def _why_not(desk: Desk, tenant: Tenant) -> str:
    """Why nothing is ever done to it; empty: it may be."""
    if tenant.cannot_act is not None:
        return tenant.cannot_act
    if tenant.is_never_victim:
        return f"{tenant.name} is never touched"
    if tenant.is_paused:
        return "somebody has paused it"
    inside = guard.inside(desk.scene, tenant.id, tenant.cgroup)
    return f"{inside.name} lives inside it" if inside is not None else ""


def _is_busy(desk: Desk, tenant: Tenant) -> bool:
    """Whether something is under way on its devices that ends by itself."""
    mine = set(_devices(desk, tenant.id))
    return any(device in mine for device, _ in desk.busy())


def has_room(desk: Desk, tenant: TenantId) -> bool:
    """Whether every device it is on could hold the other version beside it. Where a size is not known: no."""
    uses = desk.scene.uses_of(tenant)
    for use in uses:
        device = desk.scene.devices.get(use.device)
        if device is None or device.used_bytes is None or use.unknown_rows:
            return False
        reserve = desk.cfg.reserve
        kept = max(reserve.bytes, int(reserve.ratio * device.total_bytes))
        if device.total_bytes - device.used_bytes - kept < ROOM * use.used_bytes:
            return False
    return bool(uses)
