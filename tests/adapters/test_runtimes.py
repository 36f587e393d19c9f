"""The dispatcher: descriptions in the background, events, and what is not here."""

import os
import select
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of, owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.runtimes import HostRuntimes
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.clock import SystemClock
from gpuwarden.config import Config, CriConfig, DockerConfig
from gpuwarden.errors import Refused, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from tests.adapters.containers import container, docker, host, init_pid
from tests.adapters.ill_daemon import daemon
from tests.adapters.test_docker_hostile import after_version, hang
from tests.adapters.trees import (
    CGROUP_ROOT,
    join,
    real_group,
    real_hierarchies,
    remove_empty_groups,
    sleeper,
    soon,
)

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
UID = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"


def runtimes_at(address: str, timeout_s: float = 3.0) -> HostRuntimes:
    cfg = Config(docker=DockerConfig(host=address, timeout_s=timeout_s))
    return HostRuntimes(cfg, SystemClock(), environ={})


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[HostRuntimes]:
    runtimes = runtimes_at(f"unix://{tmp_path}/none", 0.3)
    yield runtimes
    runtimes.close()


@pytest.fixture
def runtimes() -> Iterator[HostRuntimes]:
    made = runtimes_at(host())
    yield made
    made.close()


def named(path: str) -> tuple[CgroupOwner, TenantId]:
    owner = owner_of(f"0::{path}\n")
    return owner, tenant_of_owner(owner) or TenantId("pgrp:4711@1")


def running(container_id: str) -> tuple[CgroupOwner, TenantId]:
    owner = owner_of_pid(init_pid(container_id))
    assert owner is not None
    return owner, TenantId(f"docker:{container_id}")


def described(runtimes: HostRuntimes, owner: CgroupOwner, tenant: TenantId) -> RuntimeFacts:
    assert soon(lambda: runtimes.facts(owner, tenant, None).described)
    return runtimes.facts(owner, tenant, None)


def test_what_is_absent_costs_nothing(absent: HostRuntimes) -> None:
    before = {thread.name for thread in threading.enumerate()}
    for path in ("/user.slice/user-1.slice/session-2.scope", "/", "/init.scope"):
        owner, tenant = named(path)
        facts = absent.facts(owner, tenant, None)
        assert (facts.tenant, facts.described, facts.cannot_act) == (tenant, True, None)
    assert {thread.name for thread in threading.enumerate()} == before
    assert list(absent.gaps()) == []
    assert not absent.changed()


def test_docker_is_not_even_imported_where_there_is_none(tmp_path: Path) -> None:
    program = f"""
import sys
from gpuwarden.adapters.runtimes import HostRuntimes
from gpuwarden.clock import SystemClock
from gpuwarden.config import Config, CriConfig, DockerConfig
runtimes = HostRuntimes(Config(docker=DockerConfig(host="unix://{tmp_path}/none")), SystemClock())
runtimes.close()
sys.exit("docker" in sys.modules or "requests" in sys.modules)
"""
    status = os.spawnve(
        os.P_WAIT,
        sys.executable,
        [sys.executable, "-c", program],
        {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert status == 0


@pytest.mark.parametrize("path", [f"/mesos/{UID}", f"/nomad.slice/{UID}.web.scope"])
def test_a_runtime_that_nobody_speaks_cannot_be_acted_on(absent: HostRuntimes, path: str) -> None:
    owner, tenant = named(path)
    facts = absent.facts(owner, tenant, None)
    assert facts.cannot_act == f"nothing on this host can stop a tenant of runtime {owner.runtime}"
    assert absent.for_runtime(owner.runtime) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"/kubepods/pod{UID}/crio-{A}", "no CRI here (cri.endpoint; looked at {none})"),
        (f"/kubepods/pod{UID}/{A}", "no CRI here"),
        (f"/kubepods/pod{UID}/{A}", "no containerd at {none}"),
        (f"/kubepods/pod{UID}/{A}", "no Docker at {none}"),
        ("/default/redis", "no containerd at {none}"),
    ],
)
def test_a_runtime_that_is_not_here_is_the_reason(path: str, why: str) -> None:
    none = "/nonexistent/none"  # short: a reason is cut after some hundred characters
    cfg = Config(
        docker=DockerConfig(host=f"unix://{none}", timeout_s=0.3),
        cri=CriConfig(endpoint=f"unix://{none}", timeout_s=0.3),
    )
    runtimes = HostRuntimes(cfg, SystemClock(), environ={"CONTAINERD_ADDRESS": none})
    owner, tenant = named(path)
    assert soon(lambda: runtimes.facts(owner, tenant, None).cannot_act is not None)
    assert why.format(none=none) in (runtimes.facts(owner, tenant, None).cannot_act or "")
    runtimes.close()


def test_never_victims_are_not_asked_about(absent: HostRuntimes) -> None:
    owner, tenant = named(f"/machine.slice/libpod-conmon-{A}.scope")
    assert absent.facts(owner, tenant, None).described


def test_a_hung_docker_blocks_nobody(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", after_version(hang)) as address:
        runtimes = runtimes_at(address, 0.3)
        owner, tenant = named(f"/docker/{A}")
        first = runtimes.facts(owner, tenant, None)
        assert (first.described, first.cannot_act) == (False, None)
        assert soon(lambda: {gap.subject for gap in runtimes.gaps()} >= {"docker", "docker events"})
        assert not runtimes.facts(owner, tenant, None).described
        runtimes.close()


@pytest.mark.docker
def test_description_arrives_and_wakes(runtimes: HostRuntimes) -> None:
    with container("--label", "gpuwarden.class=low") as made:
        owner, tenant = running(made)
        assert not runtimes.facts(owner, tenant, None).described
        assert select.select(runtimes.filenos(), [], [], 10)[0]
        assert runtimes.changed()
        facts = described(runtimes, owner, tenant)
        assert facts.tenant == tenant
        assert ("gpuwarden.class", "low") in facts.labels
        assert list(runtimes.gaps()) == []


@pytest.mark.docker
def test_events_make_descriptions_new(runtimes: HostRuntimes) -> None:
    with container() as made:
        owner, tenant = running(made)
        assert described(runtimes, owner, tenant).restart_policy == "no"
        docker("update", "--restart", "always", made)
        assert soon(lambda: runtimes.facts(owner, tenant, None).restart_policy == "always")
        docker("pause", made)
        assert soon(lambda: runtimes.facts(owner, tenant, None).is_paused)
        docker("unpause", made)
        assert soon(lambda: not runtimes.facts(owner, tenant, None).is_paused)
        docker("rename", made, f"new-{made[:10]}")
        assert soon(lambda: runtimes.facts(owner, tenant, None).name == f"new-{made[:10]}")
        while runtimes.changed():
            pass
        docker("kill", made)
        assert select.select(runtimes.filenos(), [], [], 10)[0]
        assert runtimes.changed()


@pytest.mark.docker
@pytest.mark.parametrize("grace_s", [0.0, 5.0])
def test_a_group_named_after_somebody_else_s_container(
    runtimes: HostRuntimes, grace_s: float
) -> None:
    """A user who makes ``docker-<id>.scope`` in his own slice is that user, not that container."""
    hierarchies = real_hierarchies()
    with (
        container("--label", "gpuwarden.class=protected") as made,
        real_group(*hierarchies) as home,
        sleeper() as process,
    ):
        path = f"{home}/user-1000.slice/docker-{made}.scope"
        for hierarchy in hierarchies:
            (CGROUP_ROOT / hierarchy / path[1:]).mkdir(parents=True)
        join(process.pid, path, *hierarchies)
        forged = owner_of_pid(process.pid)
        assert forged is not None
        assert forged.container_id == made
        tenant = tenant_of_owner(forged)
        assert tenant == f"docker:{made}@uid1000"
        facts = described(runtimes, forged, tenant)
        assert (facts.labels, facts.cannot_act, facts.owner_key) == ((), None, tenant)
        runtime = runtimes.for_runtime("docker")
        assert runtime is not None
        target = Target(tenant=tenant, runtime="docker", cgroup=CgroupFs().locate(forged))
        with pytest.raises(Unsupported):
            runtime.restart_off(target)
        runtime.stop(target, grace_s)
        assert process.wait(10) < 0
        assert docker("inspect", "--format", "{{.State.Running}}", made) == "true"
        with pytest.raises(Refused):
            runtime.stop(Target(tenant=tenant, runtime="docker"), 0)


@pytest.mark.docker
def test_inner_container_dies_and_the_outer_one_lives(runtimes: HostRuntimes) -> None:
    """As a pod in a kind node: the group of the inner one lies below that of the outer one."""
    hierarchies = real_hierarchies()
    with container() as outer:
        owner = owner_of_pid(init_pid(outer))
        assert owner is not None
        path = f"{owner.cgroup_path}/kubepods/pod{UID}/{A}"
        made = [CGROUP_ROOT / hierarchy / path[1:] for hierarchy in hierarchies]
        with sleeper() as process:
            for directory in made:
                directory.mkdir(parents=True)
            join(process.pid, path, *hierarchies)
            inner = owner_of_pid(process.pid)
            assert inner is not None
            assert (inner.runtime, inner.cgroup_path) == ("kubernetes", path)
            tenant = tenant_of_owner(inner)
            assert tenant == f"pod:{UID}/{A}@{outer}"
            assert described(runtimes, inner, tenant).labels == ()
            runtime = runtimes.for_runtime("kubernetes")
            assert runtime is not None
            cgroup = CgroupFs().locate(inner)
            runtime.stop(Target(tenant=tenant, runtime="kubernetes", cgroup=cgroup), 0.0)
            assert process.wait(10) < 0
        assert docker("inspect", "--format", "{{.State.Running}}", outer) == "true"
        for directory in made:
            for one in (directory, directory.parent, directory.parent.parent):
                one.rmdir()


@pytest.mark.docker
def test_a_container_under_a_parent_of_its_own_is_docker_s(runtimes: HostRuntimes) -> None:
    with container(
        "--cgroup-parent", "/gpuwarden-test-parent", "--label", "gpuwarden.class=low"
    ) as made:
        owner = owner_of_pid(init_pid(made))
        assert owner is not None
        assert (owner.runtime, owner.container_id) == ("unknown", made)
        tenant = tenant_of_owner(owner)
        assert tenant == f"container:{made}"
        assert ("gpuwarden.class", "low") in described(runtimes, owner, tenant).labels
        runtime = runtimes.for_runtime("unknown")
        assert runtime is not None
        runtime.stop(Target(tenant=tenant, runtime="unknown"), 0)
        assert docker("inspect", "--format", "{{.State.Running}}", made) == "false"
    remove_empty_groups("gpuwarden-test-parent")
