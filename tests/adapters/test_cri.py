"""The CRI runtime against one that is ill, hostile or another than containerd; the real one has a file of
its own."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of
from gpuwarden.adapters.cri import Cri
from gpuwarden.adapters.cri_door import MAX_REPLY_BYTES
from gpuwarden.adapters.firstof import FirstOf
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import CgroupId, DeviceId, TenantId
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb
from tests.adapters.fake_cri import FakeCri, runtime_at, served

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
B = "b15a5bdedd2e7645c3be271364324321b908314e4c77857bbfd32a041148c07f"
C = "95cbe853416f52d927dec41f1406dd75015ea131244a1ca875a7cd4ebe927ac8"
UID = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"
POD = f"/kubepods/burstable/pod{UID}"
OWNER = owner_of(f"0::{POD}/{A}\n")
TENANT = TenantId(f"pod:{UID}/{A}")
TARGET = Target(tenant=TENANT, runtime="kubernetes", cgroup=CgroupId(path=f"{POD}/{A}", inode=1))


@pytest.fixture
def cri() -> FakeCri:
    """One pod of one container."""
    made = FakeCri()
    made.pod(B, UID)
    made.container(A, B)
    return made


@pytest.fixture
def path(tmp_path: Path, cri: FakeCri) -> Iterator[str]:
    with served(tmp_path, cri) as path:
        yield path


@pytest.fixture
def runtime(path: str, tmp_path: Path) -> Cri:
    return runtime_at(path, proc=str(tmp_path / "proc"))


def live(tmp_path: Path, cri: FakeCri, ident: str, group: str) -> None:
    """A first process of a container or a pod, in a group."""
    cri.pids[ident] = 77
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cgroup").write_text(f"0::{group}\n")


def test_who_runs_elsewhere_is_another(runtime: Cri, tmp_path: Path, cri: FakeCri) -> None:
    live(tmp_path, cri, A, f"/kubepods/pod{UID}/{C}")
    for act in (lambda: runtime.describe(OWNER), lambda: runtime.stop(TARGET, 1.0)):
        with pytest.raises(Refused, match=f"not in {POD}/{A}"):
            act()
    assert cri.calls == []


def test_a_longer_id_is_another_container(runtime: Cri, cri: FakeCri) -> None:
    cri.containers = {f"{A}0": cri.containers[A]}
    cri.containers[f"{A}0"].id = f"{A}0"
    with pytest.raises(Refused, match="does not know it"):
        runtime.stop(TARGET, 0)
    assert cri.calls == []


def test_an_answer_about_another_container_is_none(runtime: Cri, cri: FakeCri) -> None:
    cri.answers_as = C
    for act in (lambda: runtime.describe(OWNER), lambda: runtime.stop(TARGET, 0)):
        with pytest.raises(Unavailable, match="another container"):
            act()
    assert cri.calls == []


@pytest.mark.parametrize("info", ["", "{", "[" * 90_000, "[]", '{"pid": "7"}', '{"pid": true}'])
def test_without_a_pid_the_id_counts(runtime: Cri, cri: FakeCri, info: str) -> None:
    cri.info = info
    assert runtime.describe(OWNER).name == "shop/web/app"
    runtime.stop(TARGET, 0.2)
    assert cri.calls == [f"stop {A} 1"], "a part of a second is a whole one"


def test_a_stop_that_does_nothing_is_told(path: str, cri: FakeCri) -> None:
    cri.is_deaf = True
    with pytest.raises(Unavailable, match="still runs"):
        runtime_at(path, timeout_s=0.5).stop(TARGET, 0)


def test_a_runtime_may_hear_of_the_end_a_moment_later(runtime: Cri, cri: FakeCri) -> None:
    """containerd answers the stop of who has just died by himself before it knows."""
    cri.late = 3
    runtime.stop(TARGET, 0)
    assert (cri.late, cri.calls) == (0, [f"stop {A} 0"])


def test_a_stop_that_fails_because_it_is_over_is_done(runtime: Cri, cri: FakeCri) -> None:
    cri.loses_shim, cri.late = True, 3
    runtime.stop(TARGET, 0)
    assert (cri.late, cri.calls) == (0, [f"stop {A} 0"])


def test_a_stop_that_fails_and_does_nothing_is_told(path: str, cri: FakeCri) -> None:
    cri.loses_shim = cri.is_deaf = True
    with pytest.raises(Unavailable, match="StopContainer: failed to stop container: ttrpc"):
        runtime_at(path, timeout_s=0.5).stop(TARGET, 0)


def test_what_has_ended_is_not_stopped_again(runtime: Cri, cri: FakeCri) -> None:
    cri.containers[A].state = pb.CONTAINER_EXITED
    runtime.stop(TARGET, 0)
    assert cri.calls == []
    cri.containers[A].state = pb.CONTAINER_UNKNOWN
    runtime.stop(TARGET, 0)
    assert cri.calls == [f"stop {A} 0"], "it may still have processes"


# --- pods as a whole ---


def test_a_virtual_machine_s_process_is_the_pod(runtime: Cri, tmp_path: Path, cri: FakeCri) -> None:
    """Kata: the machine of all containers lives in the pod's own group."""
    cri.container(C, B, "second")
    live(tmp_path, cri, B, f"{POD}/{B}")
    owner = owner_of(f"0::{POD}/kata_{UID}\n")
    assert (owner.pod_uid, owner.container_id) == (UID, None)
    facts = runtime.describe(owner)
    assert (facts.tenant, facts.name) == (f"pod:{UID}", "shop/web")
    target = Target(
        tenant=TenantId(f"pod:{UID}"), runtime="kubernetes", cgroup=CgroupId(path=POD, inode=1)
    )
    runtime.stop(target, 3.0)
    assert sorted(cri.calls[:2]) == sorted([f"stop {A} 3", f"stop {C} 3"])
    assert cri.calls[2:] == [f"stop pod {B}"]
    with pytest.raises(Refused, match="does not know it"):
        runtime.stop(target, 3.0)


def test_a_sandbox_that_runs_all_is_the_pod(runtime: Cri, cri: FakeCri) -> None:
    """gVisor: all containers of a pod are one process in the sandbox's group."""
    owner = owner_of(f"0::{POD}/{B}\n")
    assert runtime.describe(owner).name == "shop/web"
    target = Target(tenant=TenantId(f"pod:{UID}/{B}"), runtime="kubernetes")
    runtime.stop(target, 0)
    assert cri.calls == [f"stop {A} 0", f"stop pod {B}"]
    runtime.stop(target, 0)
    assert len(cri.calls) == 2
    cri.pods[B].state = pb.SANDBOX_READY
    cri.is_deaf = True
    with pytest.raises(Unavailable, match="still there"):
        runtime.stop(target, 0)


@pytest.mark.parametrize("group", [f"/kubepods/pod{UID}/{B}", f"{POD}x/{B}", f"{POD}/{C}/x", "/"])
def test_a_pod_of_another_place_is_refused(
    runtime: Cri, tmp_path: Path, cri: FakeCri, group: str
) -> None:
    live(tmp_path, cri, B, group)
    target = Target(
        tenant=TenantId(f"pod:{UID}/{B}"),
        runtime="kubernetes",
        cgroup=CgroupId(path=f"{POD}/{B}", inode=1),
    )
    with pytest.raises(Refused, match="runs this pod in"):
        runtime.stop(target, 0)
    assert cri.calls == []


def test_two_sandboxes_of_one_uid_are_refused(runtime: Cri, cri: FakeCri) -> None:
    cri.pod(C, UID)
    with pytest.raises(Refused, match="2 sandboxes"):
        runtime.stop(Target(tenant=TenantId(f"pod:{UID}"), runtime="kubernetes"), 0)


# --- CRIs that are away, ill or several ---


def test_no_cri_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=rf"cri\.endpoint; looked at {tmp_path}/a, {tmp_path}/b"):
        runtime_at(f"{tmp_path}/a", f"{tmp_path}/b").stop(TARGET, 0)


def test_one_that_was_there_is_down(tmp_path: Path, cri: FakeCri) -> None:
    with served(tmp_path, cri) as path:
        runtime = runtime_at(path)
        runtime.describe(OWNER)
    Path(path).unlink(missing_ok=True)
    with pytest.raises(Unavailable, match="is gone"):
        runtime.describe(OWNER)


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))
    with pytest.raises(Unavailable, match="ListContainers"):
        runtime_at(str(tmp_path / "s")).stop(TARGET, 0)


def test_a_cri_that_hangs(path: str, cri: FakeCri) -> None:
    cri.hangs.clear()
    with pytest.raises(Unavailable, match="did not answer ListContainers in time"):
        runtime_at(path, timeout_s=0.3).stop(TARGET, 0)


def test_a_cri_that_dies_in_mid_call(tmp_path: Path, cri: FakeCri) -> None:
    cri.hangs.clear()
    with ThreadPoolExecutor(1) as pool:
        with served(tmp_path, cri) as path:
            stopped = pool.submit(runtime_at(path, timeout_s=30.0).stop, TARGET, 0)
            assert cri.is_asked.wait(30)
        with pytest.raises(Unavailable, match="ListContainers"):
            stopped.result(30)


def test_a_socket_that_takes_and_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(8)
        with pytest.raises(Unavailable, match="did not answer"):
            runtime_at(str(tmp_path / "s"), timeout_s=0.3).stop(TARGET, 0)


def test_a_containerd_without_its_cri(tmp_path: Path) -> None:
    with served(tmp_path, None) as path, pytest.raises(Unsupported, match="no CRI v1 at"):
        runtime_at(path).describe(OWNER)


def test_an_answer_beyond_every_bound(runtime: Cri, cri: FakeCri) -> None:
    cri.padding = MAX_REPLY_BYTES
    with pytest.raises(Unavailable, match="ContainerStatus"):
        runtime.describe(OWNER)


def test_of_several_the_one_that_knows_it_answers(tmp_path: Path, cri: FakeCri) -> None:
    for name in ("empty", "other", "knows"):
        (tmp_path / name).mkdir()
    with (
        served(tmp_path / "empty", FakeCri()) as empty,
        served(tmp_path / "other", None) as other,
        served(tmp_path / "knows", cri) as knows,
    ):
        away = str(tmp_path / "away")
        runtime_at(away, empty, other, knows).stop(TARGET, 0)
        assert cri.calls == [f"stop {A} 0"]
        with pytest.raises(Refused, match="does not know it"):
            runtime_at(away, other, empty).stop(TARGET, 0)
    with served(tmp_path / "empty", FakeCri()) as empty:
        ill = tmp_path / "ill"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(ill))
        with pytest.raises(Unavailable):  # it may be the one that knows
            runtime_at(str(ill), empty).stop(TARGET, 0)


@pytest.mark.parametrize(
    "tenant",
    ["pod:x", f"pod:{UID}/..", f"pod:{UID}/{A}x", "cri:redis", "pod:", f"pod:{UID}/{A}@{B}", ":"],
)
def test_names_of_no_container(tenant: str, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        runtime_at(str(tmp_path / "none")).stop(replace(TARGET, tenant=TenantId(tenant)), 0)


def test_nested_pods_are_not_the_host_s(runtime: Cri) -> None:
    kind = owner_of(f"0::/docker/{B}/kubelet{POD}/{A}\n")
    with pytest.raises(Refused, match="inside another owner"):
        runtime.describe(kind)


def test_what_only_kubernetes_can_do(runtime: Cri) -> None:
    with pytest.raises(Unsupported, match="kubelet"):
        runtime.restart_off(TARGET)
    runtime.restart_back(TARGET, {"restart_policy": "always"})
    with pytest.raises(Unsupported, match="Kubernetes"):
        runtime.relocate(TARGET, DeviceId("GPU-x"), 1)


# --- who answers first ---


def test_first_who_knows_it_answers(tmp_path: Path, cri: FakeCri) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with served(tmp_path / "one", FakeCri()) as one, served(tmp_path / "two", cri) as two:
        unknown, knows, absent = runtime_at(one), runtime_at(two), runtime_at("/nonexistent")
        assert FirstOf((unknown, absent, knows)).describe(OWNER).described
        FirstOf((absent, knows)).stop(TARGET, 0)
        with pytest.raises(Refused, match=r"does not know it.*no CRI here"):
            FirstOf((unknown, absent)).stop(TARGET, 0)
        with suppress(FileNotFoundError):
            Path(one).unlink()
        with pytest.raises(Unavailable, match="is gone"):
            FirstOf((unknown, knows)).stop(TARGET, 0)
