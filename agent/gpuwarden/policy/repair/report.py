"""What a repair says to people: its steps in an incident, and the page that hands it over."""

from dataclasses import replace

from gpuwarden.model.action import Kind
from gpuwarden.model.fault import Topic
from gpuwarden.model.finding import Finding
from gpuwarden.model.repair import NODE, Fault, FaultClass, Phase, Repair, Sign, Step
from gpuwarden.policy.desk import Desk
from gpuwarden.policy.fault import fold
from gpuwarden.policy.fault.rule import words
from gpuwarden.policy.notify.topics import page_params, topic_of
from gpuwarden.policy.repair.table import Event

UNCORDONED = frozenset({FaultClass.PERFORMANCE, FaultClass.SERVICE, FaultClass.HOST})
"""Classes whose device goes on being used: it works, though not as well as it should."""

ALIKE = frozenset({"sight", "locked"})
"""Rules whose claims say of a device what its fault says."""

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


def hand_over(
    desk: Desk, repair: Repair, faults: list[Fault], findings: list[Finding], detail: str
) -> None:
    """Page: what is wrong, what was tried, what is left to do. Nobody is woken for a warning, nor a second
    time where nothing has been tried since the first."""
    gravest = max((f.root for f in faults), key=fold.rank, default=None)
    if gravest is not None and gravest.severity in ("info", "warning"):
        return
    mine = [f.key for f in findings if f.device == repair.device and (f.fault or f.rule in ALIKE)]
    if not repair.attempts and (
        any(key in desk.memory.paged for key in mine) or _has_paged_itself(desk, repair)
    ):
        return
    desk.memory = replace(
        desk.memory, paged={**desk.memory.paged, **dict.fromkeys(mine, desk.scene.snap.at)}
    )
    root = gravest
    what = str(repair.cls) if root is None else _words(root)
    tried = ", ".join(f"{a.step} {a.result or 'begun'}" for a in repair.attempts[-4:]) or "nothing"
    device = desk.scene.devices.get(repair.device) if repair.device is not None else None
    index = str(device.index) if device is not None else "N"
    wanted = repair.step if repair.step is not Step.HAND_OVER else _last_wanted(repair)
    need = WHAT_TO_DO[wanted].format(index=index)
    summary = f"{subject_words(desk, repair)} needs a person: {what}; tried: {tried}; {need}"
    if detail:
        summary += f" ({detail})"
    _page(desk, repair, "critical", summary, None if root is None else topic_of(root))


def _words(root: Sign) -> str:
    """What is wrong, as people say it."""
    if root.is_condition:
        return root.text or root.code
    return f"{words(root.code)}, {root.text}" if root.text else words(root.code)


def _has_paged_itself(desk: Desk, repair: Repair) -> bool:
    """Whether the last resort of a lock-up has told people already."""
    return repair.device is not None and desk.device(repair.device).last_resort != ""


def _last_wanted(repair: Repair) -> Step:
    steps = [s for s in repair.ladder if s is not Step.HAND_OVER]
    return steps[-1] if steps and not repair.attempts else Step.HAND_OVER


def overdue(desk: Desk, repair: Repair, names: list[str]) -> None:
    """Page: it waits for a device that does not empty."""
    who = subject_words(desk, repair)
    summary = (
        f"{who} waits for {repair.step} and does not empty: {', '.join(names[:8])} still there"
    )
    _page(desk, repair, "error", summary)


def _page(
    desk: Desk, repair: Repair, severity: str, summary: str, topic: Topic | None = None
) -> None:
    desk.order(
        Kind.PAGE,
        repair.incident,
        summary,
        device=repair.device,
        params=page_params(desk, severity, summary, repair.device, topic),
    )
