"""Real containers over quota: who is evicted and how, who is left alone, and what is given back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import NoteKind
from gpuwarden.model.memory import Rung
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent, MakeNode
from tests.e2e.containers import (
    FAST_SOFT,
    Container,
    Containers,
    bytes_on,
    docker,
    policy,
    until_dead,
    until_named,
)

pytestmark = [pytest.mark.docker, pytest.mark.root]


def rungs(agent: Agent, container: Container) -> list[Kind]:
    return [a.kind for a in agent.diary.actions(tenant=container.name)]


def harmed(agent: Agent) -> set[str]:
    """The names of all who were ever the target of more than words."""
    found = [a for a in agent.diary.actions() if a.kind not in (Kind.WARN, Kind.PAGE)]
    return {a.target.name for a in found if a.target is not None}


# --- evictions ---


def test_over_quota_is_evicted_and_nobody_else(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node()
    safe = containers.hold("safe", "6GiB")  # over its quota, and protected
    within = containers.hold("hog", "7GiB")
    elsewhere = containers.hold("hog", "7GiB", device=1)
    others = {c: c.pid() for c in (safe, within, elsewhere)}
    for container in others:
        until_named(agent, container)
    hog = containers.hog()
    until_dead(agent, hog)
    agent.until_closed()
    assert harmed(agent) == {hog.name}
    assert bytes_on(host) == 13 * 2**30
    assert {c: c.pid() for c in others} == others
    assert all(c.state()["StartedAt"] and c.inspect()["RestartCount"] == 0 for c in others)
    (incident,) = [i for i in agent.view().incidents if i.tenant_name == hog.name]
    assert incident.quota_bytes == 8 * 2**30
    assert incident.peak_bytes is not None
    assert incident.peak_bytes > 8 * 2**30
    assert incident.noticed_at is not None
    assert incident.decided_at is not None
    assert incident.noticed_at <= incident.decided_at
    assert incident.closed_at is not None
    told = [step.kind for step in incident.steps]
    assert [kind for kind in told if kind in ("opened", "warn", "term", "closed")] == [
        "opened",
        "warn",
        "term",
        "closed",
    ]


def test_one_that_ignores_term_is_killed_when_its_grace_is_over(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node()
    hog = containers.hog("--ignore-term")
    until_dead(agent, hog)
    agent.until_closed()
    decided = {a.kind: r.snapshot.at for r, a in agent.diary.ordered() if r.snapshot}
    assert decided[Kind.KILL] - decided[Kind.TERM] >= 0.3
    assert hog.state()["ExitCode"] == 137
    assert bytes_on(host) == 0


def test_restart_always_stays_dead_and_is_given_back(
    node: MakeNode, containers: Containers
) -> None:
    agent = node()
    hog = containers.hog(restart="always")
    until_dead(agent, hog)
    order = [o.kind for o in agent.diary.outcomes(result=Result.DONE) if o.kind is not Kind.WARN]
    assert order.index(Kind.RESTART_OFF) < order.index(Kind.TERM)
    assert hog.restart_policy() == "no"
    agent.until_done(Kind.RESTART_BACK)
    assert hog.restart_policy() == "always"
    assert hog.inspect()["RestartCount"] == 0
    assert not hog.is_running()
    agent.until("nothing is owed", lambda: not agent.view().debts)


def test_on_failure_gets_its_count_back(node: MakeNode, containers: Containers) -> None:
    agent = node()
    hog = containers.hog(restart="on-failure:7")
    until_dead(agent, hog)
    agent.until_done(Kind.RESTART_BACK)
    given = hog.inspect()["HostConfig"]["RestartPolicy"]
    assert given == {"Name": "on-failure", "MaximumRetryCount": 7}
    assert not hog.is_running()


def test_an_owner_that_comes_back_again_and_again_is_held(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node(window="60s")
    name = f"hog-again-{os.getpid()}"
    for _ in range(3):
        hog = containers.hog(name=name)
        until_dead(agent, hog)
        agent.until_closed(len(agent.diary.notes(NoteKind.OPENED)))
        docker("rm", "--force", name)
    meek = containers.run("hog", "hold", "--size", "1GiB", name=name)
    until_dead(agent, meek)
    agent.until_done(Kind.STOP)  # Docker answers after it has ended
    agent.until_closed(4)
    stones = agent.view().tombstones
    assert [stone.is_paged for stone in stones] == [True]


def test_a_paused_container_is_killed_as_it_stands(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node(mode="observe")
    hog = containers.run("hog", "hog", "--size", "30GiB", "--rate", "5GiB/s")
    agent.until("it is convicted", lambda: agent.diary.withheld("observe"))
    pid = hog.pid()
    docker("pause", hog.id)
    agent.until("it is known to be paused", lambda: _is_paused(agent, hog))
    held = host.bytes_of(pid)
    assert held > 8 * 2**30
    agent.reload(policy())
    until_dead(agent, hog)
    agent.until_closed()
    entries = host.control("log", since=0, limit=20000, pid=pid)["entries"]
    assert max(entry[5] for entry in entries) == held  # not a byte more: it never ran again
    assert Kind.TERM not in rungs(agent, hog)
    assert Kind.THAW not in rungs(agent, hog)
    assert "unpause" not in hog.happened()
    assert not hog.state()["Paused"]


def _is_paused(agent: Agent, container: Container) -> bool:
    tenant = agent.tenant(container.name)
    return tenant is not None and tenant.is_paused


def test_of_two_offenders_the_worst_goes_first_and_one_at_a_time(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node(mode="observe")
    less = containers.hog("--ignore-term", size="10GiB")
    worst = containers.hog("--ignore-term", size="16GiB")
    agent.until(
        "both are convicted",
        lambda: (
            {w.tenant for w in agent.diary.withheld("observe")}
            == {f"docker:{less.id}", f"docker:{worst.id}"}
        ),
    )
    agent.reload(policy())
    until_dead(agent, worst)
    until_dead(agent, less)
    agent.until_closed(2)
    hits = [a for a in agent.diary.actions(Kind.TERM, Kind.KILL) if a.target is not None]
    assert [(a.target.name, a.kind) for a in hits if a.target] == [
        (worst.name, Kind.TERM),
        (worst.name, Kind.KILL),
        (less.name, Kind.TERM),
        (less.name, Kind.KILL),
    ]
    for record in agent.diary.read():
        if record.decision is not None:
            flying = [c for c in record.decision.memory.cases.values() if c.rung in IN_FLIGHT]
            assert len(flying) <= 1


IN_FLIGHT = (Rung.HELD, Rung.TERMED, Rung.KILLED, Rung.STOPPED)


def test_forked_children_go_with_it(host: SimHost, node: MakeNode, containers: Containers) -> None:
    agent = node()
    hog = containers.hog("--children", "6", "--ignore-term", size="14GiB")
    agent.until_done(Kind.TERM)
    pids = hog.pids()
    assert len(pids) == 7
    until_dead(agent, hog)
    agent.until_closed()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert bytes_on(host) == 0


# --- quotas and labels ---


def test_a_quota_lowered_live_starts_a_fresh_ladder(node: MakeNode, containers: Containers) -> None:
    agent = node()
    hog = containers.hold("hog", "6GiB")
    until_named(agent, hog)
    agent.always("it is within its quota", lambda: not agent.view().findings, for_s=1.0)
    agent.reload(policy(quota="4GiB", grace="1s"))
    until_dead(agent, hog)
    agent.until_closed()
    assert rungs(agent, hog)[:2] == [Kind.WARN, Kind.TERM]
    (incident,) = [i for i in agent.view().incidents if i.tenant_name == hog.name]
    assert incident.quota_bytes == 4 * 2**30


def test_a_quota_raised_live_ends_the_case(node: MakeNode, containers: Containers) -> None:
    agent = node(grace="60s")
    hog = containers.hog("--ignore-term")
    agent.until_done(Kind.TERM)
    agent.reload(policy(quota="16GiB", grace="60s"))
    agent.until_closed()
    assert agent.view().cases == ()
    assert hog.is_running()
    assert rungs(agent, hog) == [Kind.WARN, Kind.TERM]


@pytest.mark.parametrize(
    "labels",
    [
        {"gpuwarden.class": "protected"},
        {"gpuwarden.memory": "39GiB"},
        {"gpuwarden.class": "high", "gpuwarden.memory": "1PiB"},
    ],
)
def test_a_label_that_claims_too_much_is_refused_and_reported(
    node: MakeNode, containers: Containers, labels: dict[str, str]
) -> None:
    agent = node()
    hog = containers.hog(labels=labels)
    told = agent.until("it is reported", lambda: _label_findings(agent))
    assert "refused" in told[0] or "policy allows" in told[0], told
    until_dead(agent, hog)


def _label_findings(agent: Agent) -> list[str]:
    return [f"{f.summary} {f.evidence}" for f in agent.view().findings if f.rule == "labels"]


def test_garbage_in_labels_loses_nothing(node: MakeNode, containers: Containers) -> None:
    agent = node(grace="60s")
    hog = containers.hog(
        "--ignore-term",
        labels={
            "gpuwarden.memory": "eight gigabytes \x1b[31m",
            "gpuwarden.class": "'; DROP TABLE tenants",
            "gpuwarden.grace": "-3s",
            "gpuwarden.service": "a\nb",
            "gpuwarden.cpu": "NaN",
            "gpuwarden.nonsense": "x" * 5000,
            **{f"gpuwarden.n{i}": "1" for i in range(200)},
        },
    )
    agent.until_done(Kind.TERM)  # under the operator's quota and grace
    tenant = agent.tenant(hog.name)
    assert tenant is not None
    assert tenant.hard_bytes == 8 * 2**30
    assert tenant.grace_s == 60.0
    assert tenant.service is None
    assert len(tenant.policy_faults) > 4
    told = " ".join(_label_findings(agent))
    assert "gpuwarden.memory" in " ".join(tenant.policy_faults)
    assert told.isprintable()
    assert all(fault.isprintable() for fault in tenant.policy_faults)


def test_a_label_lowers_its_own_quota(node: MakeNode, containers: Containers) -> None:
    agent = node()
    hog = containers.run(
        "hog",
        "hold",
        "--size",
        "4GiB",
        labels={"gpuwarden.memory": "2GiB", "gpuwarden.grace": "0s"},
    )
    until_dead(agent, hog)
    agent.until_closed()
    assert rungs(agent, hog) == [Kind.WARN, Kind.KILL]  # no grace asked for, none given


def test_protected_is_never_touched_whatever_its_labels_claim(
    node: MakeNode, containers: Containers
) -> None:
    agent = node()
    safe = containers.hold(
        "safe",
        "10GiB",
        labels={
            "gpuwarden.memory": "1MiB",
            "gpuwarden.memory.soft": "1MiB",
            "gpuwarden.grace": "0s",
        },
        restart="always",
    )
    pid = safe.pid()
    agent.until("its overrun is told", lambda: _quota_findings(agent, safe))
    agent.always("it lives", safe.is_running, for_s=3.0)
    assert safe.pid() == pid
    assert set(rungs(agent, safe)) <= {Kind.WARN, Kind.PAGE}
    assert safe.restart_policy() == "always"
    assert "update" not in safe.happened()


def _quota_findings(agent: Agent, container: Container) -> list[str]:
    return [
        f.summary
        for f in agent.view().findings
        if f.rule == "quota" and f.tenant == f"docker:{container.id}"
    ]


def test_observe_touches_nothing(host: SimHost, node: MakeNode, containers: Containers) -> None:
    agent = node(mode="observe", limiter="auto")
    hog = containers.hog(
        restart="always", labels={"gpuwarden.cpu": "1", "gpuwarden.host-memory": "1GiB"}
    )
    before = _fingerprint(hog)
    agent.until("it is convicted", lambda: agent.diary.withheld("observe"))
    agent.always("nothing of it changes", lambda: _fingerprint(hog) == before, for_s=3.0)
    assert {a.kind for a in agent.diary.actions()} <= {Kind.WARN, Kind.PAGE}
    assert hog.happened() == ["create", "start"]


def _fingerprint(container: Container) -> dict[str, object]:
    """All that an agent could change of a container."""
    inspected = container.inspect()
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares")
    pids = container.pids()
    return {
        "pids": pids,
        "states": [_process_state(pid) for pid in pids],
        "config": inspected["HostConfig"],
        "restarts": inspected["RestartCount"],
        "started": inspected["State"]["StartedAt"],
        "cpu": [container.setting("cpu", file) for file in files],
        "memory": container.setting("memory", "memory.limit_in_bytes"),
        "soft": container.setting("memory", "memory.soft_limit_in_bytes"),
        "frozen": container.frozen(),
    }


def _process_state(pid: int) -> str:
    """Running and sleeping are one: stopped, traced and dead are not."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "R" if state in "RSD" else state


# --- throttle ---


def test_a_soft_breach_is_throttled_and_let_go_again(
    host: SimHost, node: MakeNode, containers: Containers
) -> None:
    agent = node(soft="4GiB", quota_more=FAST_SOFT)
    soft = containers.hold("soft", "6GiB")
    before = {f: soft.setting("cpu", f) for f in ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
    agent.until_done(Kind.THROTTLE)
    quota = int(soft.setting("cpu", "cpu.cfs_quota_us"))
    period = int(soft.setting("cpu", "cpu.cfs_period_us"))
    assert quota / period == pytest.approx(0.2)
    assert soft.is_running()
    agent.reload(policy(soft="18GiB", quota_more=FAST_SOFT))
    agent.until_done(Kind.UNTHROTTLE)
    after = {f: soft.setting("cpu", f) for f in before}
    assert after == before
    assert soft.is_running()
    agent.until("nothing is owed", lambda: not agent.view().debts)


def test_host_limits_of_the_policy_are_set(node: MakeNode, containers: Containers) -> None:
    agent = node()
    hold = containers.run(
        "hog",
        "hold",
        "--size",
        "1GiB",
        labels={"gpuwarden.cpu": "0.5", "gpuwarden.host-memory": "256MiB"},
    )
    agent.until_done(Kind.SET_HOST_LIMITS)
    quota = int(hold.setting("cpu", "cpu.cfs_quota_us"))
    assert quota / int(hold.setting("cpu", "cpu.cfs_period_us")) == pytest.approx(0.5)
    assert int(hold.setting("memory", "memory.limit_in_bytes")) == 256 * 2**20
    assert hold.is_running()


def test_where_no_preventive_limit_can_be_set_it_is_said_and_the_ladder_acts(
    node: MakeNode, containers: Containers
) -> None:
    """The driver has memory limits, and these containers stand in groups of cgroup v1."""
    agent = node(limiter="auto")
    agent.until("it is found", lambda: agent.view().agent.limiter == "nvml-memory-limits")
    hog = containers.run("hog", "hog", "--size", "12GiB", "--rate", "8GiB/s")
    until_dead(agent, hog)
    agent.until_closed()
    (said,) = agent.diary.outcomes(Kind.SET_LIMIT, result=Result.UNSUPPORTED)
    assert "cgroup v2" in said.detail
    agent.until("nothing is owed", lambda: not agent.view().debts)


# --- identity ---


def test_a_name_used_again_by_an_innocent_one_is_another_tenant(
    node: MakeNode, containers: Containers
) -> None:
    agent = node(grace="2s")
    hog = containers.hog("--ignore-term")
    agent.until_done(Kind.TERM)
    docker("rm", "--force", hog.id)
    meek = containers.run("hog", "hold", "--size", "1GiB", name=hog.name)
    pid = meek.pid()
    agent.until_closed()
    until_named(agent, meek)
    agent.always("it lives", lambda: meek.pid() == pid, for_s=3.0)
    hit = {a.target.tenant for a in agent.diary.actions() if a.target is not None}
    assert hit == {f"docker:{hog.id}"}
