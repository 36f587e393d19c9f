"""Mistakes one could make in the policy, each a line of it; the suite must notice every one."""

from __future__ import annotations

from dataclasses import dataclass

POLICY = "agent/gpuwarden/policy"
NODE = "agent/gpuwarden/node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """``old`` stands exactly once in ``file``; with ``new`` in its place the program is wrong."""

    name: str
    file: str
    old: str
    new: str


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
)
