"""Rule quota: what is claimed of a tenant that holds more than it is allowed."""

from __future__ import annotations

import pytest

from gpuwarden.model.finding import Finding, Severity
from gpuwarden.model.memory import Episode, episode_key
from gpuwarden.policy import quota
from tests.policy.builders import (
    MIB,
    NOW,
    PROTECTED,
    Story,
    config,
    device_id,
    gpu,
    memory,
    scene,
    snap,
    tenant,
    use,
)

HOG = tenant("hog", quota_mib=8_192)


def found(episode: Episode) -> list[Finding]:
    key = episode_key(episode.tenant, episode.device)
    look = snap(gpus=[gpu()], tenants=[HOG], uses=[use(HOG, 9_000)])
    return quota.find(config(), memory(episodes={key: episode}), scene(look=look))


def episode(**rest: object) -> Episode:
    return Episode(tenant=HOG.id, device=device_id(0), limit_bytes=8_192 * MIB, **rest)  # type: ignore[arg-type]


def test_one_list_over_is_an_unconfirmed_error() -> None:
    (claim,) = found(episode(hard_lists=1, used_bytes=9_000 * MIB))
    assert claim.severity is Severity.ERROR
    assert not claim.is_confirmed
    assert claim.key == f"quota-hard {HOG.id} GPU-0"
    assert (claim.used_bytes, claim.limit_bytes) == (9_000 * MIB, 8_192 * MIB)


def test_a_second_list_confirms() -> None:
    (claim,) = found(episode(hard_lists=2, confirmed_at=NOW))
    assert claim.is_confirmed


def test_a_breach_of_soft_is_a_warning() -> None:
    (claim,) = found(episode(soft_since=NOW - 12, over_since=NOW - 12, is_breach=True))
    assert claim.severity is Severity.WARNING
    assert "for 12 s" in claim.summary


def test_what_has_dipped_is_not_said_to_be_over() -> None:
    (claim,) = found(episode(soft_since=NOW - 12, is_breach=True, used_bytes=8_000 * MIB))
    assert "has been over" not in claim.summary


def test_no_breach_no_claim() -> None:
    assert found(episode(soft_since=NOW - 9, over_since=NOW - 9)) == []


def test_a_tenant_that_is_gone_is_not_accused() -> None:
    stranger = episode(hard_lists=2, confirmed_at=NOW)
    key = episode_key(stranger.tenant, stranger.device)
    assert (
        quota.find(config(), memory(episodes={key: stranger}), scene(look=snap(gpus=[gpu()]))) == []
    )


@pytest.mark.parametrize(
    ("quota_mib", "used_mib", "is_over"),
    [
        (8_192, 8_192 + 163, False),  # 2 % of 8 GiB is 163.84 MiB: at the margin is not over it
        (8_192, 8_192 + 164, True),
        (1_024, 1_024 + 64, False),  # the margin is never less than 64 MiB
        (1_024, 1_024 + 65, True),
        (0, 64, False),
        (0, 65, True),
    ],
)
def test_where_a_hard_overrun_trips(quota_mib: int, used_mib: int, is_over: bool) -> None:
    story = Story(config("observe"))
    who = tenant(quota_mib=quota_mib)
    decision = story.see(NOW, tenants=[who], uses=[use(who, used_mib)])
    assert any(f.key.startswith("quota-hard") for f in decision.findings) is is_over


def test_each_device_is_judged_for_itself() -> None:
    story = Story(config("observe"))
    decision = story.see(
        NOW, gpus=[gpu(0), gpu(1)], tenants=[HOG], uses=[use(HOG, 5_000), use(HOG, 5_000, on=1)]
    )
    assert decision.findings == ()


def test_no_quota_no_claim() -> None:
    free = tenant(quota_mib=None)
    assert Story().see(NOW, tenants=[free], uses=[use(free, 80_000)]).findings == ()


def test_a_newcomer_is_not_judged_before_its_runtime_has_told_its_quota() -> None:
    """An agent that starts finds a protected service of 9 GiB; its labels come a moment later."""
    story = Story(config(default={"memory": "4GiB"}))
    unknown = tenant("9f2c", quota_mib=4_096, is_described=False, first_seen=NOW)
    for step in range(4):
        seen = story.see(NOW + step / 2, tenants=[unknown], uses=[use(unknown, 9_000)])
        assert seen.findings == ()
        assert seen.incidents == ()
    told = tenant("9f2c", cls=PROTECTED, quota_mib=10_240, first_seen=NOW)
    assert story.see(NOW + 2, tenants=[told], uses=[use(told, 9_000)]).findings == ()


def test_a_runtime_that_never_tells_hides_nobody() -> None:
    story = Story(config(quota={"describe_wait_s": 3}))
    unknown = tenant("9f2c", is_described=False, first_seen=NOW)
    for at in (NOW, NOW + 2.9):
        assert story.see(at, tenants=[unknown], uses=[use(unknown, 9_000)]).findings == ()
    seen = story.see(NOW + 3, tenants=[unknown], uses=[use(unknown, 9_000)])
    assert [f.rule for f in seen.findings] == ["quota"]


def test_who_will_never_be_described_is_judged_at_once() -> None:
    nested = tenant(is_described=False, cannot_act="stands inside another owner", first_seen=NOW)
    seen = Story().see(NOW, tenants=[nested], uses=[use(nested, 9_000)])
    assert [f.rule for f in seen.findings] == ["quota"]
