"""Mistakes one could make in judging and repairing driver faults."""

from __future__ import annotations

from tests.mutants.mutant import MODEL, NODE, POLICY, Mutant

FAULT = f"{POLICY}/fault"
REPAIR = f"{POLICY}/repair"

FAULTS: tuple[Mutant, ...] = (
    # --- precedence of verdicts ---
    Mutant(
        name="take a consequence for a cause",
        file=f"{FAULT}/line_verdict.py",
        old="    if line.caused_by_xid is not None:\n        return _follow_on(said.scope, line.caused_by_xid)\n    if line.recovery",
        new="    if line.recovery",
    ),
    Mutant(
        name="the catalogue over the driver's own number",
        file=f"{REPAIR}/ladders.py",
        old="    start = OF_RECOVERY.get(fault.recovery) or OF_ACTION.get(fault.root.action)",
        new="    start = OF_ACTION.get(fault.root.action)",
    ),
    Mutant(
        name="repair what the driver says needs nothing",
        file=f"{REPAIR}/ladders.py",
        old="    if fault.is_excused:\n        return ()",
        new="    if False:\n        return ()",
    ),
    Mutant(
        name="the catalogue over the word of an SXid",
        file=f"{FAULT}/line_verdict.py",
        old="    is_fatal = row.is_fatal if word is None else word",
        new="    is_fatal = row.is_fatal",
    ),
    # --- one cause, one fault ---
    Mutant(
        name="each line of a burst a fault of its own",
        file=f"{FAULT}/fold.py",
        old="    if leader is not None and not _explains(sign, leader) and _follows(sign, leader):",
        new="    if False:",
    ),
    Mutant(
        name="who spoke first is the cause",
        file=f"{FAULT}/fold.py",
        old="    absorbed = leader if leader is not None and _overtakes(sign, leader) else None",
        new="    absorbed = None",
    ),
    Mutant(
        name="accuse the protected for growing",
        file=f"{FAULT}/fold.py",
        old="    if len(known) != 1 or known[0].cls is TenantClass.PROTECTED:",
        new="    if len(known) != 1:",
    ),
    Mutant(
        name="accuse the first of several that grew",
        file=f"{FAULT}/fold.py",
        old="    if len(known) != 1 or known[0].cls",
        new="    if not known or known[0].cls",
    ),
    Mutant(
        name="accuse for growing before the line is read",
        file=f"{POLICY}/verdict.py",
        old="        if desk.scene.snap.at < due:\n            desk.wakes.append(due)\n            return\n    use",
        new="        if False:\n            return\n    use",
    ),
    Mutant(
        name="an application's fault convicts",
        file=f"{POLICY}/verdict.py",
        old="    if tenant is None or finding.device is None or finding.scope in (None, Scope.APP):",
        new="    if tenant is None or finding.device is None:",
    ),
    Mutant(
        name="a fault convicts although nobody suffers",
        file=f"{POLICY}/verdict.py",
        old="    if not is_guilty or harmed_on(desk, finding.device, findings) is None:",
        new="    if not is_guilty:",
    ),
    Mutant(
        name="hear a kernel line again after every start",
        file=f"{FAULT}/records.py",
        old="    if mark is None or record.sequence is None:\n        return False",
        new="    if True:\n        return False",
    ),
    Mutant(
        name="forget where a device was that is gone",
        file=f"{FAULT}/records.py",
        old="    gone = (d for d in memory.devices if d not in scene.devices)",
        new="    gone = (d for d in memory.devices if False)",
    ),
    Mutant(
        name="act on a log that others can write",
        file=f"{REPAIR}/advance.py",
        old="        if fault.root.is_trusted:",
        new="        if True:",
    ),
    # --- the ladder of a repair ---
    Mutant(
        name="the same remedy for ever",
        file=f"{REPAIR}/advance.py",
        old="    rung = before.rung if is_same else before.rung + 1",
        new="    rung = before.rung",
    ),
    Mutant(
        name="one remedy further although none was tried",
        file=f"{REPAIR}/advance.py",
        old="    is_same = before.is_unsure or not before.attempts",
        new="    is_same = before.is_unsure",
    ),
    Mutant(
        name="the same remedy after the same fault, however often",
        file=f"{REPAIR}/ladders.py",
        old="    return ladder[min(fault.repairs // repeat_raises, len(ladder) - 1) :]",
        new="    return ladder",
    ),
    Mutant(
        name="reset under whoever is there",
        file=f"{POLICY}/leaving.py",
        old="    return list(found.values())",
        new="    return []",
    ),
    Mutant(
        name="end the protected to empty a device",
        file=f"{POLICY}/leaving.py",
        old="        if tenant.cls > highest or not guard",
        new="        if not guard",
    ),
    Mutant(
        name="two resets at once",
        file=f"{REPAIR}/permit.py",
        old="        if other.subject == repair.subject or other.phase",
        new="        if True or other.subject == repair.subject or other.phase",
    ),
    Mutant(
        name="ask again at once of a device that is busy",
        file=f"{REPAIR}/advance.py",
        old="    if refused and now < retry_at:",
        new="    if False:",
    ),
    Mutant(
        name="reset before the offender of a lock-up has gone",
        file=f"{REPAIR}/advance.py",
        old="    if _is_in_hand(desk, repair):\n        return Event.NOTHING",
        new="    if False:\n        return Event.NOTHING",
    ),
    # --- permits ---
    Mutant(
        name="repair in observe mode",
        file=f"{REPAIR}/permit.py",
        old='    if not guard.is_enforcing(cfg, "repair"):',
        new="    if False:",
    ),
    Mutant(
        name="take a step that the operator does not allow",
        file=f"{REPAIR}/permit.py",
        old="    if step not in cfg.repair.allow:",
        new="    if False:",
    ),
    Mutant(
        name="repair without the fleet's permit",
        file=f"{REPAIR}/permit.py",
        old="    if not desk.scene.snap.has_leave(step.value, repair.device or NODE):",
        new="    if False:",
    ),
    Mutant(
        name="repair without a line in the journal",
        file=f"{REPAIR}/permit.py",
        old="    if not desk.scene.snap.can_record:",
        new="    if False:",
    ),
    Mutant(
        name="repair as often as it takes",
        file=f"{REPAIR}/permit.py",
        old="    if count < most:",
        new="    if True:",
    ),
    # --- cordons ---
    Mutant(
        name="give a foreign cordon back",
        file="agent/gpuwarden/adapters/cordon/kubernetes.py",
        old='            if is_ours:\n                change["unschedulable"] = None',
        new='            if True:\n                change["unschedulable"] = None',
    ),
    Mutant(
        name="give back what an operator wants cordoned",
        file=f"{POLICY}/cordon.py",
        old="        if state.held_by:\n            continue\n        device =",
        new="        device =",
    ),
    Mutant(
        name="stop on a cordoned device whoever was there before",
        file=f"{POLICY}/arrival.py",
        old="    return started is not None and started > state.cordoned_wall + SETTLE_S",
        new="    return started is not None",
    ),
    Mutant(
        name="a device is used while it is repaired",
        file=f"{REPAIR}/withdraw.py",
        old="    cordon.take(desk, place, repair.incident, why)",
        new="    return",
    ),
    # --- believed only when seen, and for long ---
    Mutant(
        name="skip the verification",
        file=f"{REPAIR}/advance.py",
        old="        against = verify.failing(desk, repair, faults)\n        if not against and repair.is_unsure",
        new='        against = ""\n        if not against and repair.is_unsure',
    ),
    Mutant(
        name="verify by a value from before the step",
        file=f"{REPAIR}/verify.py",
        old="    if device.at is None or device.at <= repair.since:",
        new="    if device.at is None:",
    ),
    Mutant(
        name="skip the probation",
        file=f"{REPAIR}/advance.py",
        old='        return (Event.PASSED, "") if now >= due else (Event.NOTHING, "")',
        new='        return (Event.PASSED, "")',
    ),
    Mutant(
        name="in use again at once",
        file=f"{POLICY}/cordon.py",
        old="        if now < due:\n            desk.devices[place] = replace(state, well_since=since)",
        new="        if False:\n            desk.devices[place] = replace(state, well_since=since)",
    ),
    # --- an agent that died ---
    Mutant(
        name="a step that was done is taken again",
        file=f"{NODE}/recover.py",
        old="        is_done = ports.remedies.is_done(action.id) if action.kind in REPAIRS else None",
        new="        is_done = False if action.kind in REPAIRS else None",
    ),
    Mutant(
        name="a step that never began counts as done",
        file=f"{NODE}/recover.py",
        old="False: Result.REFUSED,",
        new="False: Result.DONE,",
    ),
    Mutant(
        name="a cordon that nobody heard of is not told again",
        file=f"{MODEL}/memory.py",
        old="    is_told = outcome.result in (Result.DONE, Result.UNSUPPORTED)",
        new="    is_told = True",
    ),
    # --- people ---
    Mutant(
        name="a page for each way to say it",
        file=f"{POLICY}/escalate.py",
        old="        if finding.device in signed and finding.fault:\n            continue",
        new="        if False:\n            continue",
    ),
    Mutant(
        name="hand over in silence",
        file=f"{REPAIR}/report.py",
        old='    _page(desk, repair, "critical", summary, None if root is None else topic_of(root))',
        new="    return",
    ),
)
