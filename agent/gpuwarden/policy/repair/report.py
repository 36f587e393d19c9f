"""What a repair says to people: its steps in an incident, and the page that hands it over."""

from gpuwarden.model.action import Kind
from gpuwarden.model.repair import NODE, Fault, FaultClass, Phase, Repair, Step
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.repair.table import Event

UNCORDONED = frozenset({FaultClass.PERFORMANCE, FaultClass.SERVICE, FaultClass.HOST})
"""Classes whose device goes on being used: it works, though not as well as it should."""

WHAT_TO_DO = {
    Step.RESET_GPU: "empty it and reset it: nvidia-smi --gpu-reset -i {index}",
    Step.RESTART_SERVICES: "restart the services it needs: systemctl restart nvidia-fabricmanager",
    Step.RELOAD_DRIVER: "end every GPU process and reload the driver, or reboot",
    Step.REBOOT: "drain the node and reboot it",
    Step.HAND_OVER: "see the incident for the first diagnostic steps",
}


def is_cordoned_for(repair: Repair) -> bool:
    """Whether what is being repaired must not be used meanwhile."""
    return repair.cls not in UNCORDONED


def subject_words(desk: Desk, repair: Repair) -> str:
    """The subject as people name it."""
    device = desk.scene.devices.get(repair.device) if repair.device is not None else None
    if device is not None:
        return f"GPU {device.index}"
    return "the node" if repair.subject == NODE else repair.subject


def text_of(desk: Desk, repair: Repair, event: Event, detail: str) -> str:
    """The line a move adds to its incident."""
    who = subject_words(desk, repair)
    said = {
        Phase.EMPTYING: f"{repair.step} is next: waits until nobody is left on {who}",
        Phase.ACTING: f"{repair.step} of {who} begins",
        Phase.VERIFYING: f"{repair.step} is done: looking whether it has helped",
        Phase.PROBATION: f"{who} is well: on probation for {desk.cfg.ladder.uncordon_after_s:g} s",
        Phase.HANDED_OVER: f"{who} is handed over to people",
        Phase.REST: f"{who} is back in use",
    }.get(repair.phase)
    if said is None:  # open again
        tried = repair.attempts[-1].step if repair.attempts else repair.step
        said = {
            Event.FAILED: f"{tried} failed",
            Event.UNVERIFIED: f"{tried} has not helped",
            Event.RECURRED: "the fault is back",
        }.get(event, str(repair.phase))
        said += f"; next is {repair.step}"
    return f"{said} ({detail})" if detail else said


def hand_over(desk: Desk, repair: Repair, faults: list[Fault], detail: str) -> None:
    """Page: what is wrong, what was tried, what is left to do. One that was to be paged anyway (nothing
    has been tried, and nothing is withheld) is left to the claim itself."""
    if not repair.attempts and not detail:
        return
    root = faults[0].root if faults else None
    what = root.code if root is not None else str(repair.cls)
    tried = ", ".join(f"{a.step} {a.result or 'begun'}" for a in repair.attempts[-4:]) or "nothing"
    device = desk.scene.devices.get(repair.device) if repair.device is not None else None
    index = str(device.index) if device is not None else "N"
    wanted = repair.step if repair.step is not Step.HAND_OVER else _last_wanted(repair)
    need = WHAT_TO_DO[wanted].format(index=index)
    summary = f"{subject_words(desk, repair)} needs a person: {what}; tried: {tried}; {need}"
    if detail:
        summary += f" ({detail})"
    _page(desk, repair, "critical", summary)


def _last_wanted(repair: Repair) -> Step:
    steps = [s for s in repair.ladder if s is not Step.HAND_OVER]
    return steps[-1] if steps and not repair.attempts else Step.HAND_OVER


def overdue(desk: Desk, repair: Repair, names: list[str]) -> None:
    """Page: it waits for a device that does not empty."""
    who = subject_words(desk, repair)
    summary = f"{who} waits for {repair.step} and does not empty: {', '.join(names[:8])} still there"
    _page(desk, repair, "error", summary)


def _page(desk: Desk, repair: Repair, severity: str, summary: str) -> None:
    desk.order(
        Kind.PAGE,
        repair.incident,
        summary,
        device=repair.device,
        params=(("severity", severity), ("summary", summary)),
    )
