"""Whom a policy would touch, from what nodes last reported; and when somebody has to confirm it."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from gpuwarden.config import Config
from gpuwarden.config_aggregator import PolicyConfig
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import RuntimeFacts
from gpuwarden.model.policy import Held, Holding, Touch
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.policy.admission import Who, admit
from gpuwarden.policy.fleet import difference, preview
from gpuwarden.policy.words import size

CFG = PolicyConfig()
GIB = 2**30
LOW, HIGH, PROTECTED = TenantClass.LOW, TenantClass.HIGH, TenantClass.PROTECTED


def held(
    used_gib: int = 6,
    hard_gib: int | None = 8,
    cls: TenantClass = LOW,
    name: str = "job",
) -> Held:
    return Held(
        tenant=f"docker:{name}",
        name=name,
        tenant_class=cls,
        device_index=0,
        used_bytes=used_gib * GIB,
        hard_bytes=None if hard_gib is None else hard_gib * GIB,
        facts=(("name", name),),
    )


def knowing(fact: str, value: str) -> Held:
    return replace(held(), facts=(("name", "job"), (fact, value)))


def node(*tenants: Held, name: str = "n1", mode: str = "enforce", group: str = "g") -> Holding:
    return Holding(node=name, group=group, mode=mode, held=tenants)


def touched(settings: str, *nodes: Holding, before: str | None = None) -> list[Touch]:
    tree = tomllib.loads(settings)
    old = None if before is None else Config.model_validate(tomllib.loads(before))
    return preview.touches(Config.model_validate(tree), old, difference.said(tree), nodes)


def reasons(settings: str, tenant: Held, before: str | None = None, **more: str) -> list[str]:
    found = touched(settings, node(tenant, **more), before=before)
    return [reason for touch in found for reason in touch.reasons]


def entry(match: str, more: str) -> str:
    return f"[[tenant]]\nmatch = {{{match}}}\n{more}\n"


JOB = 'name = "job"'


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("[quota]\nsoft_hold_s = 1", []),
        (entry(JOB, 'memory = "8GiB"'), []),
        (entry(JOB, 'memory = "9GiB"'), ["quota 8.0 GiB -> 9.0 GiB"]),
        (
            entry(JOB, 'memory = "4GiB"'),
            ["quota 8.0 GiB -> 4.0 GiB", "over its quota: it uses 6.0 GiB"],
        ),
        (entry(JOB, 'memory_max = "9GiB"'), []),
        (
            entry(JOB, 'memory_max = "7GiB"'),
            ["quota 8.0 GiB -> 7.0 GiB"],
        ),
        (entry(JOB, 'class = "high"'), ["class low -> high"]),
        (entry(JOB, 'class_max = "high"'), []),
        (entry(JOB, 'class_max = "best-effort"'), ["class low -> best-effort"]),
        (entry('name = "other"', 'memory = "1GiB"'), []),
        (entry('image = "*"', 'memory = "1GiB"'), []),
        ('[default]\nmemory = "7GiB"', ["quota 8.0 GiB -> 7.0 GiB"]),
        ('[default]\nmemory_max = "9GiB"', []),
        ('[default]\nclass = "normal"', ["class low -> normal"]),
    ],
)
def test_what_would_change_for_a_tenant(settings: str, expected: list[str]) -> None:
    assert reasons(settings, held()) == expected


def test_the_first_entry_that_fits_counts() -> None:
    both = entry(JOB, 'memory = "8GiB"') + entry('name = "*"', 'memory = "1GiB"')
    assert reasons(both, held()) == []


@pytest.mark.parametrize("fact", ["image", "unit", "user", "account", "runtime", "comm", "service"])
def test_every_fact_that_an_entry_matches_is_looked_at(fact: str) -> None:
    settings = entry(f'{fact} = "x*"', 'memory = "1GiB"')
    assert reasons(settings, knowing(fact, "xy"))
    assert reasons(settings, knowing(fact, "yx")) == []
    assert reasons(settings, held()) == []


def test_what_was_said_before_changes_nothing_whatever_a_label_made_of_it() -> None:
    settings = entry(JOB, 'memory = "20GiB"\nclass = "high"')
    assert reasons(settings, held(), before=settings) == []
    changed = settings.replace("20", "30")
    assert "quota 8.0 GiB -> 30.0 GiB" in reasons(changed, held(), before=settings)
    default = '[default]\nmemory = "20GiB"'
    assert reasons(default, held(), before=default) == []
    assert reasons(default.replace("20", "30"), held(), before=default)


def test_who_is_not_named_any_more_is_touched() -> None:
    (why,) = reasons("", held(), before=entry(JOB, 'memory = "8GiB"'))
    assert why.startswith("no entry of the policy is for it any more")


def test_an_entry_that_changed_in_something_else_touches() -> None:
    before = entry(JOB, 'memory = "8GiB"')
    assert reasons(before + "grace = 1\n", held(), before=before) == [
        "its entry in the policy has changed"
    ]


def test_turning_enforcement_on_touches_who_is_over_and_off_who_is_protected() -> None:
    on, off = '[agent]\nmode = "enforce"', '[agent]\nmode = "observe"'
    assert reasons(on, held(9), mode="observe") == ["over its quota, and the node would act on it"]
    assert reasons(on, held(6), mode="observe") == []
    assert reasons(off, held(cls=PROTECTED)) == [
        "not defended any more: the node would only observe"
    ]
    assert reasons(off, held()) == []


def test_who_could_be_evicted() -> None:
    tight = entry('name = "*"', 'memory = "4GiB"')
    assert [t.is_evictable for t in touched(tight, node(held()))] == [True]
    assert [t.is_evictable for t in touched(tight, node(held(), mode="observe"))] == [False]
    never = tight + "never_victim = true\n"
    assert [t.is_evictable for t in touched(never, node(held()))] == [False]
    saved = tight + 'class = "protected"\n'
    assert [(t.is_protected, t.is_evictable) for t in touched(saved, node(held()))] == [
        (True, False)
    ]
    fallen = tight + 'class = "low"\n'
    (touch,) = touched(fallen, node(held(cls=PROTECTED)))
    assert (touch.is_protected, touch.is_evictable) == (True, True)


def confirm(settings: str, *nodes: Holding) -> str:
    return preview.must_confirm(CFG, touched(settings, *nodes), nodes)


def test_case_31_protected_tenants_have_to_be_confirmed() -> None:
    settings = entry('name = "*"', 'memory = "9GiB"')
    assert confirm(settings, node(held())) == ""
    why = confirm(settings, node(held(cls=PROTECTED, name="risk")))
    assert why == "it touches protected tenants: risk on n1"


def test_case_31_more_than_a_share_of_a_group_has_to_be_confirmed() -> None:
    tight = entry('name = "*"', 'memory = "4GiB"')
    hit = [node(held(), name=f"n{n}") for n in range(5)]
    idle = [node(name=f"i{n}") for n in range(95)]
    assert confirm(tight, *hit, *idle) == ""
    assert "5 of 99 nodes of group g" in confirm(tight, *hit, *idle[1:])
    elsewhere = [node(name=f"e{n}", group="other") for n in range(1000)]
    assert "5 of 99 nodes of group g" in confirm(tight, *hit, *idle[1:], *elsewhere)


def claiming(
    cls: str = "", memory: str = "", *, now: TenantClass = LOW, hard_gib: int | None = 8
) -> Held:
    claims = tuple((name, value) for name, value in (("class", cls), ("memory", memory)) if value)
    return replace(held(cls=now, hard_gib=hard_gib), claims=claims)


@pytest.mark.parametrize(
    ("settings", "tenant", "expected"),
    [
        # a label below what the policy gives: the node honours it, nothing changes
        (entry('name = "job"', 'class = "high"'), claiming("low"), []),
        (entry('name = "job"', 'memory = "16GiB"'), claiming(memory="8GiB"), []),
        # a label that was refused and now is not
        (entry('name = "job"', 'class_max = "high"'), claiming("high"), ["class low -> high"]),
        (
            entry('name = "job"', 'memory_max = "16GiB"'),
            claiming(memory="12GiB"),
            ["quota 8.0 GiB -> 12.0 GiB"],
        ),
        # a label above what the policy allows
        (
            entry('name = "job"', 'memory = "4GiB"'),
            claiming(memory="8GiB"),
            ["quota 8.0 GiB -> 4.0 GiB", "over its quota: it uses 6.0 GiB"],
        ),
        (
            entry('name = "job"', 'class = "low"'),
            claiming("high", now=HIGH),
            ["class high -> low"],
        ),
        # garbage claims nothing
        (entry('name = "job"', 'class = "low"\nmemory = "8GiB"'), claiming("god", "lots"), []),
        ('[default]\nmemory = "8GiB"', claiming(memory="4GiB", hard_gib=4), []),
    ],
)
def test_a_label_counts_as_it_does_on_the_node(
    settings: str, tenant: Held, expected: list[str]
) -> None:
    assert reasons(settings, tenant) == expected


@pytest.mark.parametrize("cls", ["", "low", "high", "protected", "god"])
@pytest.mark.parametrize("memory", ["", "1GiB", "6GiB", "900GiB", "x"])
@pytest.mark.parametrize(
    "more",
    ['class = "high"\nmemory = "8GiB"', 'class = "low"\nmemory = "2GiB"\nmemory_max = "8GiB"'],
)
def test_the_preview_says_what_the_node_then_does(cls: str, memory: str, more: str) -> None:
    """The node's own admission, before and after, is what the preview is held against."""
    after = Config.model_validate(tomllib.loads(entry('name = "job"', more)))
    labels = tuple((f"gpuwarden.{k}", v) for k, v in (("class", cls), ("memory", memory)) if v)
    facts = RuntimeFacts(tenant=TenantId("docker:job"), described=True, name="job", labels=labels)

    def admitted(cfg: Config) -> Tenant:
        who = Who(runtime="docker")
        return admit(cfg, facts, who, cgroup=None, pids=(), first_seen=0.0)

    old, new = admitted(Config()), admitted(after)
    tenant = replace(
        held(cls=old.cls), hard_bytes=old.hard_bytes, claims=old.claims, facts=(("name", "job"),)
    )
    said = [each for each in reasons(entry('name = "job"', more), tenant) if "over" not in each]
    expected = []
    if new.cls is not old.cls:
        expected.append(f"class {old.cls.label} -> {new.cls.label}")
    if new.hard_bytes != old.hard_bytes:
        was = "none" if old.hard_bytes is None else size(old.hard_bytes)
        expected.append(f"quota {was} -> {size(new.hard_bytes or 0)}")
    assert said == expected
