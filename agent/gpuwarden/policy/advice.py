"""What a person should do next, from what happened."""

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident


def advise(incident: Incident) -> tuple[str, ...]:
    """Sentences, most urgent first; never empty for an incident that is over or acted on."""
    done = {step.kind for step in incident.steps if step.result == Result.DONE}
    tried = {step.kind for step in incident.steps}
    withheld = [s for s in incident.steps if s.kind == "withheld"]
    advice = []
    if Kind.RELOCATE in done:
        advice.append(
            "The protected service runs on another GPU; the old container is kept, stopped, under "
            "its name with -gpuwarden-moved. Remove it when you are content."
        )
    if Kind.CORDON in done:
        advice.append(
            "The device is cordoned. Empty it, reset it (nvidia-smi --gpu-reset -i INDEX), then "
            "give it back: gpuwarden uncordon."
        )
    if Kind.KILL in done or Kind.TERM in done:
        who = incident.tenant_name or "the tenant"
        advice.append(
            f"Ask the owner of {who} why it needed more than its quota; raise the quota in its "
            "policy entry, or have the job use less, before it is started again."
        )
    if Kind.RESTART_OFF in done and Kind.RESTART_BACK not in done:
        advice.append(
            "Its restart policy was switched off and will be given back by itself; start the "
            "container by hand once the cause is gone."
        )
    budgets = {s.action for s in withheld}
    if "observe" in budgets:
        advice.append(
            "Nothing was done: this rule only observes. Set agent.mode or the rule's mode to "
            "enforce when its findings have proved right."
        )
    if "cannot-act" in budgets:
        advice.append("gpuwarden cannot stop this kind of owner here: end the job by hand.")
    if "protected" in budgets or "never-victim" in budgets:
        advice.append("The tenant may not be touched: talk to its owner.")
    if incident.rule == "unattributed":
        advice.append(
            "Look for managed memory (UVM) or a leak: nvidia-smi shows the device full while no "
            "process holds it. Ending the suspect by hand shows whether it is its."
        )
    if incident.rule == "sight":
        advice.append(
            "Read the kernel log for the device's PCI address, then try gpuwarden doctor; a device "
            "gone from the bus needs the node drained and rebooted."
        )
    if Kind.PAGE in tried and Kind.PAGE not in done:
        advice.append("The page was not accepted: check page.webhook.")
    joined = [s.text for s in incident.steps if s.kind == "joined"]
    if joined and not advice:
        advice.append(f"Read on there: it {joined[-1]}.")
    if not advice and incident.closed_at is not None:
        advice.append("Nothing: it passed by itself.")
    return tuple(advice)
