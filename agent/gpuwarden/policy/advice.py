"""What a person should do next, from what happened."""

from collections.abc import Mapping

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.oncall import Result as Told
from gpuwarden.policy.health.advice import OF_RULE

_OF_BUDGET: Mapping[str, str] = {
    "observe": (
        "Nothing was done: this rule only observes. If the tenant has to go now, end it by hand. Set "
        "agent.mode or the rule's mode to enforce when its findings have proved right."
    ),
    "cannot-act": "gpuwarden cannot stop this kind of owner here: end the job by hand.",
    "undescribed": (
        "Its runtime has not told what it is, so nothing was done to it: see what is wrong with the "
        "runtime (gpuwarden status, gpuwarden doctor), or end it by hand."
    ),
    "protected": "The tenant may not be touched: talk to its owner.",
    "never-victim": "The tenant may not be touched: talk to its owner.",
    "journal": (
        "The journal could not be written, and without it nothing is ended: make room in "
        "agent.state_dir. What is due then goes on by itself."
    ),
    "nested": (
        "Somebody else lives inside its control group and would have been hit with it: end it by hand."
    ),
    "stale": "Its size could not be read in time: see whether the device answers (gpuwarden gpus).",
    "operator": (
        "No protected tenant was moved: ladder.allow_protected_restart is off. Moving it by hand to a "
        "healthy GPU is the quickest way out."
    ),
    "no-refuge": "No healthy GPU of this host has room for the protected tenant: move it to another host.",
    "per-hour": (
        "It was restarted as often as its budget allows and fails again: a restart does not cure it. Roll it "
        "back to its last good version, or look for what it lacks."
    ),
    "permit": "The fleet has given no leave to cordon the device: keep new work off it by hand.",
}
"""Budgets that a person can do something about; the others pass by themselves."""

_OF_RULE: Mapping[str, str] = {
    "unattributed": (
        "Look for managed memory (UVM) or a leak: nvidia-smi shows the device full while no process "
        "holds it. Ending the suspect by hand shows whether it is its."
    ),
    "sight": (
        "Look for the device's PCI address in the kernel log (dmesg | grep -i -e NVRM -e xid) and run "
        "gpuwarden doctor. The other devices are watched on. A device that is gone from the bus, or a "
        "call that never returns, needs the node drained and rebooted; do not kill -9 what uses it."
    ),
    "slo": (
        "Nobody on its GPU is accused: look at the service itself (its load, what it depends on), and "
        "with gpuwarden tenants at who else is there and grows."
    ),
    "neighbour": (
        "It grew as the protected service beside it turned red, and nobody else did: move one of them to another "
        "GPU, or give it a quota (gpuwarden.memory) that leaves the service room."
    ),
    "probe": (
        "Look at what the service says of itself (its own log, the address of its probe), at what it depends "
        "on, and with gpuwarden ready NAME at what else speaks against it."
    ),
    "reserve": (
        "The device is fuller than its reserve allows: move a tenant to another GPU, or lower "
        "[reserve] if the protected tenants need less."
    ),
    "tombstone": (
        "Its owner was ended several times and started it again: have whoever starts it (compose, cron, "
        "a scheduler) stop, or give it the quota it needs. To let it run before the time is over: "
        'rules.tombstone.mode = "off", and a reload.'
    ),
    "pressure": "Give it more host memory in its policy entry, or have it use less.",
    "host": "See what uses up the host: top, df, gpuwarden tenants.",
    **OF_RULE,
}


def advise(incident: Incident) -> tuple[str, ...]:
    """Sentences, most urgent first; never empty for an incident that is over or needs somebody."""
    done = {step.kind for step in incident.steps if step.result == Result.DONE}
    results = {step.kind: step.result for step in incident.steps}
    advice = [
        *_on_the_device(incident, done),
        *_on_the_budgets(incident),
        *_on_the_tenant(incident, done, results),
    ]
    is_evicted = bool({Kind.KILL, Kind.TERM, Kind.STOP} & done)
    if incident.rule in _OF_RULE and not is_evicted and not _is_settled(incident):
        advice.append(_OF_RULE[incident.rule])
    advice += _on_the_page(incident, results)
    joined = [s.text for s in incident.steps if s.kind == "joined"]
    if joined and not advice:
        advice.append(f"Read on there: it {joined[-1]}.")
    if not advice and incident.closed_at is not None:
        advice.append("Nothing: it passed by itself.")
    return tuple(advice)


def _is_settled(incident: Incident) -> bool:
    """Whether it is over, or goes on in another incident."""
    return any(s.kind == "joined" for s in incident.steps) or incident.closed_at is not None


def _on_the_device(incident: Incident, done: set[str]) -> list[str]:
    advice = []
    if Kind.RELOCATE in done:
        advice.append(
            "The protected service runs on another GPU; the old container is kept, stopped, under "
            "its name with .replaced- and its id. Remove it when you are content."
        )
    if Kind.CORDON in done and Kind.UNCORDON in done:
        advice.append("The device was well for long enough and is used again.")
    elif Kind.CORDON in done:
        name = incident.device or "INDEX"
        advice.append(
            "The device is cordoned: gpuwarden moves nothing there; keep schedulers and people off it "
            f"too. Empty it, then reset it: nvidia-smi --gpu-reset -i {name}. Once it has been well "
            "for ladder.uncordon_after_s it is used again by itself."
        )
    elif incident.rule == "locked" and incident.closed_at is None:
        advice.append(
            "The device does no work. If it does not come back, empty it and reset it: nvidia-smi "
            f"--gpu-reset -i {incident.device or 'INDEX'}."
        )
    return advice


def _on_the_tenant(incident: Incident, done: set[str], results: Mapping[str, str]) -> list[str]:
    advice = []
    who = incident.tenant_name or "the tenant"
    if Kind.KILL in done or Kind.TERM in done or Kind.STOP in done:
        if incident.rule == "reserve":
            advice.append(
                f"{who} was ended to keep the device's reserve free for protected tenants: start it "
                "on another GPU, or later."
            )
        elif incident.rule == "quota":
            advice.append(
                f"Ask the owner of {who} why it needed more than its quota; raise the quota (its label "
                "gpuwarden.memory, or its policy entry), or have the job use less, before it is "
                "started again."
            )
        else:
            advice.append(_OF_RULE.get(incident.rule, f"Talk to the owner of {who}."))
    if Kind.RESTART_OFF in done and Kind.RESTART_BACK not in done:
        advice.append(
            "Its restart policy was switched off and will be given back by itself; start "
            f"{who} by hand once the cause is gone."
        )
    elif results.get(Kind.RESTART_OFF) in (Result.FAILED, Result.UNSUPPORTED):
        advice.append(
            f"Its restart policy could not be switched off: its runtime may start {who} again. Switch it "
            "off by hand until the cause is gone."
        )
    return advice


def _on_the_budgets(incident: Incident) -> list[str]:
    """Once each, and only while what was withheld has not been done after all."""
    acted = {s.kind for s in incident.steps if s.result == Result.DONE}
    ended = {Kind.TERM, Kind.KILL, Kind.STOP} & acted
    budgets = dict.fromkeys(s.action for s in incident.steps if s.kind == "withheld")
    passing = {"journal", "stale", "undescribed"} if ended else set()
    if incident.closed_at is not None:
        passing |= {"operator", "no-refuge", "permit"}
    said = [_OF_BUDGET[b] for b in budgets if b in _OF_BUDGET and b not in passing]
    return list(dict.fromkeys(said))


def _on_the_page(incident: Incident, results: Mapping[str, str]) -> list[str]:
    """Whether somebody knows: what became of the page, and of the messages it was told by."""
    result = results.get(Kind.PAGE)
    told = {step.result for step in incident.steps if step.kind == "notify"}
    if told & {Told.DELIVERED.value, Told.FOLDED.value}:
        return []
    if result == Result.UNSUPPORTED:
        return ["Nobody was paged: no [oncall] sink is set."]
    if result in (Result.FAILED, Result.UNKNOWN):
        text = (
            "The page could not be put down safely, so nobody may know: see gpuwarden status, and "
            "whether agent.state_dir has room."
        )
        return [text]
    if told & {Told.FAILED.value, Told.REFUSED.value}:
        return [
            "Nobody could be told yet: gpuwarden status says which on-call sink fails, and why."
        ]
    return []
