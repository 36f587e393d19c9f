"""Mistakes one could make in the policy, each a line of it; the suite must notice every one."""

from __future__ import annotations

from tests.mutants.faults import FAULTS
from tests.mutants.mutant import MODEL, NODE, POLICY, Mutant
from tests.mutants.neighbours import NEIGHBOURS

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="drop the protected check",
        file=f"{POLICY}/guard.py",
        old="        if tenant.cls is TenantClass.PROTECTED:\n            return Refusal(budget=",
        new="        if False:\n            return Refusal(budget=",
    ),
    Mutant(
        name="forget the never-victims",
        file=f"{POLICY}/guard.py",
        old="        if tenant.is_never_victim:",
        new="        if False:",
    ),
    Mutant(
        name="act on whom nobody has described",
        file=f"{POLICY}/guard.py",
        old="        if not (tenant.is_described or has_begun):",
        new="        if False:",
    ),
    Mutant(
        name="swap the victims' order",
        file=f"{POLICY}/victims.py",
        old="        float(tenant.cls),",
        new="        -float(tenant.cls),",
    ),
    Mutant(
        name="ignore staleness",
        file=f"{POLICY}/scene.py",
        old="        return self.snap.at - use.listed_at <= self.cfg.sampling.harm_age_s",
        new="        return True",
    ),
    Mutant(
        name="confirm on one list",
        file=f"{POLICY}/fold.py",
        old="    if hard_lists >= 2 and confirmed_at is None:",
        new="    if hard_lists >= 1 and confirmed_at is None:",
    ),
    Mutant(
        name="hold longer than the TTL",
        file=f"{POLICY}/upkeep.py",
        old="        due = case.frozen_since + desk.cfg.ladder.hold_ttl_s",
        new="        due = case.frozen_since + desk.cfg.ladder.hold_ttl_s + 30.0",
    ),
    Mutant(
        name="skip the observe check",
        file=f"{POLICY}/guard.py",
        old="    if not is_enforcing(cfg, rule):\n        return Refusal(",
        new="    if False:\n        return Refusal(",
    ),
    Mutant(
        name="two evictions in flight",
        file=f"{POLICY}/guard.py",
        old="            if other_device == device_id and other != case.tenant:",
        new="            if False:",
    ),
    Mutant(
        name="kill before the grace is over",
        file=f"{POLICY}/ladder.py",
        old="        return Event.GRACE_OVER if now - case.since >= case.grace_s else Event.NOTHING",
        new="        return Event.GRACE_OVER",
    ),
    Mutant(
        name="raise a class by label",
        file=f"{POLICY}/admission.py",
        old='    if claimed > top:\n        faults.append(f"gpuwarden.class=',
        new='    if False:\n        faults.append(f"gpuwarden.class=',
    ),
    Mutant(
        name="claim success without the bytes back",
        file=f"{POLICY}/ladder.py",
        old="        if device_id in holding or device.listed_at is None or device.listed_at <= case.since:",
        new="        if False:",
    ),
    Mutant(
        name="owe nothing back",
        file=f"{POLICY}/desk.py",
        old="        self.debts.append(debt)",
        new="        return",
    ),
    Mutant(
        name="harm without a line in the journal",
        file=f"{POLICY}/guard.py",
        old="    if not scene.snap.can_record:",
        new="    if False:",
    ),
    Mutant(
        name="signal whoever has the pid now",
        file=f"{NODE}/act.py",
        old="                if self._ports.tenant_of(facts) != target.tenant:",
        new="                if False:",
    ),
    Mutant(
        name="give a dead process's bytes to its pid's heir",
        file=f"{NODE}/attribution.py",
        old="        if before is not None and (facts is None or facts.pid != before.pid):",
        new="        if before is not None and facts is None:",
    ),
    Mutant(
        name="begin an eviction while the last one's bytes are counted back",
        file=f"{POLICY}/guard.py",
        old="    if device is not None and now < device.cooldown_until and not case.is_emergency:",
        new="    if False:",
    ),
    Mutant(
        name="act before the warm-up is over",
        file=f"{POLICY}/guard.py",
        old="    if now - memory.started_at < cfg.quota.warmup_s and not case.is_emergency:",
        new="    if False:",
    ),
    Mutant(
        name="hit a group in which another tenant lives",
        file=f"{POLICY}/guard.py",
        old="    if inside_it is not None:",
        new="    if False:",
    ),
    Mutant(
        name="climb a rung without measuring again",
        file=f"{POLICY}/guard.py",
        old="    return None if is_fresh else _STALE\n\n\ndef _begin",
        new="    return None\n\n\ndef _begin",
    ),
    Mutant(
        name="evict a high tenant for its own overrun",
        file=f"{POLICY}/guard.py",
        old="    return cls is not TenantClass.HIGH or cfg.quota.evict_high or rung not in IN_FLIGHT",
        new="    return True",
    ),
    Mutant(
        name="keep a spike confirmed",
        file=f"{POLICY}/fold.py",
        old="            hard_lists, hard_since, confirmed_at = 0, None, None",
        new="            hard_lists, hard_since = 0, None",
    ),
    Mutant(
        name="a quota changed live is held against the old sizes",
        file=f"{POLICY}/fold.py",
        old="    if episode.limit_bytes not in (0, hard):",
        new="    if False:",
    ),
    Mutant(
        name="a soft breach counts from its first list on",
        file=f"{POLICY}/fold.py",
        old="    is_held = soft_since is not None and now - soft_since >= cfg.quota.soft_hold_s\n    is_breach",
        new="    is_held = soft_since is not None\n    is_breach",
    ),
    Mutant(
        name="clear a breach at once",
        file=f"{POLICY}/fold.py",
        old="    if clear_since is not None and now - clear_since >= cfg.quota.clear_hold_s:",
        new="    if use.used_bytes <= soft:",
    ),
    Mutant(
        name="believe after a silence what was true before it",
        file=f"{POLICY}/fold.py",
        old="    if snap.at - memory.last_at > cfg.sampling.gap_s:",
        new="    if False:",
    ),
    Mutant(
        name="wall time does not move with its clock",
        file=f"{POLICY}/fold.py",
        old="    if abs(jump) <= CLOCK_SET_S or memory.last_wall == 0.0:",
        new="    if True:",
    ),
    Mutant(
        name="free a reserve that protects nobody",
        file=f"{POLICY}/reserve.py",
        old="        if not protected:\n            continue",
        new="        if not protected:\n            protected = list(scene.tenants.values())[:1]\n        if not protected:\n            continue",
    ),
    Mutant(
        name="never free a reserve",
        file=f"{POLICY}/room.py",
        old="        for use in victims.smallest_set(ranked, needed, desk.scene)[:1]:",
        new="        for use in victims.smallest_set(ranked, needed, desk.scene)[:0]:",
    ),
    Mutant(
        name="take the next victim while one is stuck",
        file=f"{POLICY}/room.py",
        old="        if any(busy == device.id for busy, _ in desk.busy()) or _is_stuck(desk, device.id):",
        new="        if any(busy == device.id for busy, _ in desk.busy()):",
    ),
    Mutant(
        name="no emergency lane",
        file=f"{POLICY}/verdict.py",
        old="        convicted, convicted and harmed[device], not is_hard",
        new="        convicted, False, not is_hard",
    ),
    Mutant(
        name="an eviction nobody stops ends when its quota is kept again",
        file=f"{POLICY}/ladder.py",
        old="    return limit is None or used <= cfg.quota.clear_ratio * limit",
        new="    return False",
    ),
    Mutant(
        name="start again what the restart policy says",
        file=f"{POLICY}/ladder.py",
        old="        settle = () if case.is_restart_settled else (Kind.RESTART_OFF,)",
        new="        settle = ()",
    ),
    Mutant(
        name="let a paused one run to hear TERM",
        file=f"{POLICY}/evict.py",
        old="    if rung is Rung.TERMED and case.is_paused:",
        new="    if False:",
    ),
    Mutant(
        name="one eviction in three counts",
        file=f"{POLICY}/tombstone.py",
        old="    held = wall + window if len(recent) >= cfg.ladder.tombstone_evictions else None",
        new="    held = None",
    ),
    Mutant(
        name="settle a debt by an older undo",
        file=f"{MODEL}/memory.py",
        old='    if debt.ordered not in ("", outcome.action):',
        new="    if False:",
    ),
    Mutant(
        name="a case is over when one of its devices is empty",
        file=f"{POLICY}/ladder.py",
        old="    for device_id in (*(case.devices or (case.device,)), *holding):",
        new="    for device_id in (case.device,):",
    ),
    Mutant(
        name="a device that cannot be seen says nothing",
        file=f"{POLICY}/sight.py",
        old="        if device.sight is Sight.OK and not _is_unlisted(cfg, memory, scene, device):",
        new="        if True:",
    ),
    Mutant(
        name="nobody is told of bytes that are nobody's",
        file=f"{POLICY}/unattributed.py",
        old="        if scene.snap.at - state.unattributed_since < cfg.quota.unattributed_hold_s:",
        new="        if True:",
    ),
    Mutant(
        name="suspect the first of several",
        file=f"{POLICY}/unattributed.py",
        old="        suspect = active[0] if len(set(active)) == 1 else None",
        new="        suspect = active[0] if active else None",
    ),
    Mutant(
        name="limit a MIG slice",
        file=f"{POLICY}/prevent.py",
        old="        if device is None or device.parent is not None:",
        new="        if device is None:",
    ),
    Mutant(
        name="believe a limit without effect",
        file=f"{POLICY}/limits.py",
        old="        if reading.hard_bytes != tenant.hard_bytes:",
        new="        if False:",
    ),
    Mutant(
        name="a stalling tenant goes before it was slowed down",
        file=f"{POLICY}/verdict.py",
        old="    return Judgement(is_noticed=True, is_convicted=convicted and throttled, is_soft=True)",
        new="    return Judgement(is_noticed=True, is_convicted=convicted, is_soft=True)",
    ),
    Mutant(
        name="page again with every look",
        file=f"{POLICY}/escalate.py",
        old="        if _topic(finding) in known or not _is_due(desk, finding, in_hand):",
        new="        if not _is_due(desk, finding, in_hand):",
    ),
    Mutant(
        name="act again on what an earlier agent intended",
        file=f"{NODE}/recover.py",
        old="    return unsettled.action.kind is Kind.PAGE",
        new="    return True",
    ),
    *FAULTS,
    Mutant(
        name="restart a service on a device that is ill",
        file=f"{POLICY}/restart.py",
        old="    if ill:\n",
        new="    if False:\n",
    ),
    Mutant(
        name="restart a service in observe mode",
        file=f"{POLICY}/restart.py",
        old="    if not guard.is_enforcing(cfg, RULE):",
        new="    if False:",
    ),
    Mutant(
        name="restart a service without the operator's leave",
        file=f"{POLICY}/restart.py",
        old="    if not probe.restart:",
        new="    if False:",
    ),
    Mutant(
        name="restart a service as often as it fails",
        file=f"{POLICY}/restart.py",
        old="    if count < probe.restarts_per_hour:",
        new="    if True:",
    ),
    Mutant(
        name="restart who has been started anew since",
        file=f"{POLICY}/probe.py",
        old="        if care.phase is not CarePhase.RESTARTING and not care.is_unsure:",
        new="        if True:",
    ),
    Mutant(
        name="believe an answer from before the restart",
        file=f"{POLICY}/restart.py",
        old="reading.at is not None and reading.at >= care.since",
        new="True",
    ),
    *NEIGHBOURS,
)


def tenth(seed: int) -> list[Mutant]:
    """A tenth of them (at least two): another one for each seed, all of them over ten."""
    count = max(2, -(-len(MUTANTS) // 10))
    return [MUTANTS[(count * seed + n) % len(MUTANTS)] for n in range(count)]
