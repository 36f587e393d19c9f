"""The CRI runtime against real pods of a real containerd: attribution, labels, the stop, and its troubles."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.cri import Cri
from gpuwarden.adapters.cri_door import CriDoor
from gpuwarden.adapters.runtimes import HostRuntimes
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Result
from gpuwarden.commands.checks_pods import check_pods
from gpuwarden.config import Config, CriConfig
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId
from tests.adapters.kubelet import (
    Kubelet,
    daemon_pid,
    endpoint,
    group_of,
    kubelet,
    owner_of,
    pids_of,
    target_of,
)
from tests.adapters.trees import CGROUP_ROOT, join, real_hierarchies, sleeper, soon, wait_gone

pytestmark = [pytest.mark.containerd, pytest.mark.root]

STUBBORN = ("sh", "-c", "trap '' TERM; sleep 300 & while :; do sleep 1; done")
MEEK = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
def kube() -> Iterator[Kubelet]:
    with kubelet() as made:
        yield made


def runtime_within(timeout_s: float) -> Cri:
    return Cri([CriDoor(endpoint(), timeout_s, SystemClock())], CgroupFs())


@pytest.fixture
def runtime() -> Cri:
    return runtime_within(20.0)


@contextmanager
def hung_containerd() -> Iterator[None]:
    pid = daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# --- who it is ---


def test_attribution_and_description(kube: Kubelet, runtime: Cri) -> None:
    pod = kube.pod(
        name="web-5d9c7b-x2x9z",
        labels={"gpuwarden.class": "low", "pod-template-hash": "5d9c7b"},
        annotations={"gpuwarden.memory": "8GiB", "gpuwarden.class": "high"},
    )
    made = kube.container(pod, annotations={"gpuwarden.grace": "3s"})
    owner = owner_of(pod, made)
    assert (owner.runtime, owner.pod_uid, owner.container_id) == ("kubernetes", pod.uid, made)
    assert owner.cgroup_path == group_of(pod, made)
    facts = runtime.describe(owner)
    assert facts.tenant == tenant_of_owner(owner) == f"pod:{pod.uid}/{made}"
    assert facts.name == "shop/web-5d9c7b-x2x9z/app"
    assert facts.image == "docker.io/library/gpuwarden-test:busybox"
    assert facts.owner_key == "kubernetes:shop/web/app"
    assert facts.labels[:3] == (
        ("gpuwarden.class", "low"),
        ("gpuwarden.grace", "3s"),
        ("gpuwarden.memory", "8GiB"),
    )
    started = facts.started_wall
    assert started is not None
    assert abs(SystemClock().wall() - started) < 3600, "Unix seconds, of now"


def test_the_whole_agent_s_dispatcher_knows_it(kube: Kubelet) -> None:
    pod = kube.pod(labels={"gpuwarden.class": "low"})
    owner = owner_of(pod, kube.container(pod))
    tenant = tenant_of_owner(owner)
    assert tenant is not None
    runtimes = HostRuntimes(Config(cri=CriConfig(endpoint=endpoint())), SystemClock(), environ={})
    assert soon(lambda: runtimes.facts(owner, tenant, None).described)
    assert ("gpuwarden.class", "low") in runtimes.facts(owner, tenant, None).labels
    assert runtimes.for_runtime("kubernetes") is not None
    runtimes.close()


def test_doctor_names_it() -> None:
    check = check_pods(CriConfig(endpoint=endpoint()))
    assert (check.result, check.seen.split()[0]) == (Result.OK, "containerd")
    away = check_pods(CriConfig(endpoint="unix:///nonexistent/cri.sock"))
    assert (away.result, "cri.endpoint" in away.fix) == (Result.WARNING, True)


# --- the stop ---


@pytest.mark.parametrize(("command", "grace_s"), [(MEEK, 30.0), (STUBBORN, 1.0), (STUBBORN, 0.0)])
def test_stop(kube: Kubelet, runtime: Cri, command: tuple[str, ...], grace_s: float) -> None:
    pod = kube.pod()
    made, beside = kube.container(pod, *command), kube.container(pod, name="beside")
    target = target_of(owner_of(pod, made))
    pids = pids_of(pod, made)
    runtime.stop(target, grace_s)
    assert all(wait_gone(pid) for pid in pids)
    assert pids_of(pod, beside), "its neighbour in the pod lives"
    assert pids_of(pod, pod.id), "and so does the pod"
    runtime.stop(replace(target, cgroup=None), grace_s)


def test_a_frozen_container_dies_as_it_stands(kube: Kubelet, runtime: Cri) -> None:
    pod = kube.pod()
    made = kube.container(pod, *MEEK)
    target = target_of(owner_of(pod, made))
    assert target.cgroup is not None
    pids = pids_of(pod, made)
    CgroupFs().freeze(target.cgroup)
    runtime.stop(target, 3600.0)
    assert all(wait_gone(pid) for pid in pids)


def test_what_lives_in_the_pod_s_own_group_ends_with_the_pod(kube: Kubelet, runtime: Cri) -> None:
    """As a virtual machine of Kata does; here it is a process put there by hand."""
    pod = kube.pod()
    made = kube.container(pod, *STUBBORN)
    hierarchies = [h for h in real_hierarchies() if (CGROUP_ROOT / h / group_of(pod)[1:]).is_dir()]
    with sleeper() as machine:
        join(machine.pid, group_of(pod), *hierarchies)
        owner = owner_of_pid(machine.pid)
        assert owner is not None
        assert (owner.pod_uid, owner.container_id) == (pod.uid, None)
        facts = runtime.describe(owner)
        assert (facts.tenant, facts.name) == (f"pod:{pod.uid}", f"shop/{pod.name}")
        pids = [*pids_of(pod, made), *pids_of(pod, pod.id)]
        target = target_of(owner)
        runtime.stop(target, 1.0)
        assert all(wait_gone(pid) for pid in pids)
        with pytest.raises(Refused, match="does not know it"):
            runtime.stop(target, 1.0)


# --- identity ---


def test_a_name_that_is_used_again_is_another_container(kube: Kubelet, runtime: Cri) -> None:
    """The kubelet gives a pod's container its name again, and never its id."""
    pod = kube.pod()
    first = kube.container(pod)
    owner = owner_of(pod, first)
    target, key = target_of(owner), runtime.describe(owner).owner_key
    runtime.stop(target, 0)
    second = kube.container(pod, attempt=1)
    runtime.stop(target, 0)
    kube.remove_container(first)
    for act in (lambda: runtime.stop(target, 0), lambda: runtime.describe(owner)):
        with pytest.raises(Refused, match="does not know it"):
            act()
    assert pids_of(pod, second), "who bears the name now lives"
    again = runtime.describe(owner_of(pod, second))
    assert again.owner_key == key, "it is the same owner's"
    assert again.tenant != target.tenant


def test_a_pod_of_the_same_name_is_another_pod(kube: Kubelet, runtime: Cri) -> None:
    first = kube.pod(name="db-0")
    made = kube.container(first)
    target = target_of(owner_of(first, made))
    kube.remove(first)
    second = kube.pod(name="db-0")
    other = kube.container(second)
    with pytest.raises(Refused, match="does not know it"):
        runtime.stop(target, 0)
    assert pids_of(second, other)


def test_a_container_of_another_group_is_refused(kube: Kubelet, runtime: Cri) -> None:
    """A group may bear the name of a container that is not in it."""
    pod = kube.pod()
    made = kube.container(pod)
    owner = owner_of(pod, made)
    forged = replace(owner, cgroup_path=f"/elsewhere/pod{pod.uid}/{made}")
    with pytest.raises(Refused, match="not in /elsewhere"):
        runtime.describe(forged)
    target = target_of(owner)
    assert target.cgroup is not None
    elsewhere = replace(target, cgroup=replace(target.cgroup, path=f"/elsewhere/{made}"))
    with pytest.raises(Refused, match="not in /elsewhere"):
        runtime.stop(elsewhere, 0)
    assert pids_of(pod, made)


# --- containerd hangs or is away ---


def test_containerd_that_hangs(kube: Kubelet) -> None:
    pod = kube.pod()
    made = kube.container(pod)
    owner, runtime = owner_of(pod, made), runtime_within(0.5)
    target = target_of(owner)
    with hung_containerd():
        for act in (lambda: runtime.describe(owner), lambda: runtime.stop(target, 0.2)):
            with pytest.raises(Unavailable, match="did not answer ListContainers in time"):
                act()
    assert pids_of(pod, made)
    assert runtime_within(20.0).describe(owner).described


def test_containerd_that_hangs_in_the_middle_of_a_stop(kube: Kubelet) -> None:
    """It took the stop and says no more: the caller is told in time, and a second try ends it."""
    pod = kube.pod()
    made = kube.container(
        pod, "sh", "-c", "trap 'touch /tmp/termed' TERM; while :; do sleep 0.1; done"
    )
    target, pids = target_of(owner_of(pod, made)), pids_of(pod, made)
    termed = Path(f"/proc/{pids[0]}/root/tmp/termed")
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(runtime_within(2.0).stop, target, 3.0)
        assert soon(termed.exists)
        with hung_containerd(), pytest.raises(Unavailable, match="StopContainer in time"):
            stopped.result(60)
    assert pids_of(pod, made)
    runtime_within(20.0).stop(target, 0)
    assert all(wait_gone(pid) for pid in pids)


def test_nobody_at_the_socket(tmp_path: Path) -> None:
    missing = Target(tenant=TenantId(f"pod:{'a' * 32}/{'b' * 64}"), runtime="kubernetes")
    door = CriDoor(f"unix://{tmp_path}/none.sock", 1.0, SystemClock())
    door.was_there = True
    with pytest.raises(Unavailable, match="is gone"):
        Cri([door]).stop(missing, 0)
