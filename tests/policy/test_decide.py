"""One pure pass: same inputs, same decision; a bounded amount of work."""

from __future__ import annotations

import itertools
from dataclasses import replace

from gpuwarden.model.action import HARMFUL
from gpuwarden.model.memory import Memory
from gpuwarden.policy.decide import MAX_FINDINGS, RULES, decide
from gpuwarden.policy.health.rules import NAMES
from tests.policy.builders import (
    NOW,
    PROTECTED,
    Story,
    config,
    gpu,
    memory,
    service,
    snap,
    tenant,
    use,
    xid,
)

HOG, SERVE = tenant("hog", quota_mib=10_000), tenant("serve", cls=PROTECTED, quota_mib=None)


def test_same_inputs_same_decision_whatever_was_decided_before() -> None:
    story = Story(config(reserve={"bytes": "5GiB"}))
    looks = [
        snap(
            NOW + tenth / 10,
            gpus=[gpu(used_mib=79_000, at=NOW + tenth / 10)],
            tenants=[HOG, SERVE],
            uses=[use(HOG, 20_000, at=NOW + tenth / 10), use(SERVE, 9, at=NOW + tenth / 10)],
            services=(service(who=SERVE),),
            events=(xid(109, at=NOW),) if tenth == 1 else (),
        )
        for tenth in range(20)
    ]
    before: list[Memory] = []
    for look in looks:
        before.append(story.mem)
        story.look(look)
    for mem, look, decided in zip(before, looks, story.looks, strict=True):
        assert decide(story.cfg, mem, look) == decided


def test_nothing_to_see_nothing_to_do() -> None:
    decision = decide(config(), memory(), snap(gpus=[gpu()]))
    assert (decision.findings, decision.actions, decision.withheld, decision.incidents) == (
        (),
        (),
        (),
        (),
    )
    assert not decision.is_notable


def test_the_memory_given_is_not_changed() -> None:
    mem = memory()
    decide(config(), mem, snap(gpus=[gpu()], tenants=[HOG], uses=[use(HOG, 20_000)]))
    assert mem == memory()


def test_a_rule_that_is_off_claims_nothing() -> None:
    off = config(rules={"quota": {"mode": "off"}})
    look = snap(gpus=[gpu()], tenants=[HOG], uses=[use(HOG, 20_000)])
    assert decide(off, memory(), look).findings == ()


def test_every_rule_has_a_mode_of_its_own() -> None:
    rules = set(type(config().rules).model_fields)
    named = {name for name, _ in RULES} - {"health"} | set(NAMES) | {"fault", "repair", "rollback"}
    assert named == rules


def test_no_flood_of_findings_hides_a_harmed_device() -> None:
    """A thousand tenants over their soft quota; the device under them is locked and its reserve gone."""
    many = [tenant(f"t{n}", quota_mib=10) for n in range(700)]
    story = Story(config("observe", reserve={"bytes": "5GiB"}))
    for second in range(12):
        decision = story.see(
            NOW + second,
            gpus=[gpu(used_mib=81_900, recovery_action=1)],
            tenants=[*many, SERVE],
            uses=[*(use(t, 11) for t in many), use(SERVE, 9)],
        )
    assert len(decision.findings) <= MAX_FINDINGS
    rules = {f.rule for f in decision.findings}
    assert {"reserve", "locked", "quota"} <= rules


def test_ids_are_never_given_twice() -> None:
    story = Story(config())
    for n, (a, b) in enumerate(itertools.product(range(5), range(5))):
        who = replace(HOG, id=type(HOG.id)(f"docker:{a}"), cgroup=None)
        story.see(NOW + n / 5, tenants=[who], uses=[use(who, 9_000 + 3_000 * b)])
    ids = [a.id for d in story.looks for a in d.actions]
    assert len(ids) == len(set(ids))
    assert HARMFUL
