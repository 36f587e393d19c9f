"""Who owns a process, by its cgroup file: recorded forms, forms of our own, hostile text."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.adapters.cgroup_owner import owner_of, owner_of_bytes, owner_of_cgroup_lines
from gpuwarden.adapters.cgroup_path import nested_in

RECORDED = Path(__file__).parent.parent / "data" / "cgroup_paths.jsonl"
A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
B = "b15a5bdedd2e7645c3be271364324321b908314e4c77857bbfd32a041148c07f"
UID = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"
UID_ = UID.replace("-", "_")
STATIC = "7260904bbd08e72e4dff95d9fccd2ee8"
KIND = f"/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"

# (path on the 0:: line, runtime, what is cut off behind the owner's group, further facts)
FORMS: list[tuple[str, str, str, dict[str, str | None]]] = [
    # Docker
    (f"/docker/{A}", "docker", "", {"container_id": A}),
    (f"/docker/{A}", "docker", "/init.scope", {"container_id": A}),
    (f"/docker/{A}", "docker", "/system.slice/nginx.service", {"container_id": A}),
    (f"/docker-ce/docker/{A}", "docker", "", {"container_id": A}),
    (f"/system.slice/docker-{A}.scope", "docker", "/a/b", {"container_id": A}),
    (f"/batch.slice/docker-{A}.scope", "docker", "", {"container_id": A}),
    (f"{USER}/user.slice/docker-{A}.scope", "docker", "", {"container_id": A}),
    (f"/system.slice:docker:{A}", "docker", "", {"container_id": A}),
    (f"/docker/{A}/docker/{B}", "docker", "", {"container_id": B}),
    (f"/moby/{A}", "docker", "", {"container_id": A}),
    (f"/actions_job/{A}", "unknown", "", {"container_id": A}),
    ("/docker/buildkit/m5a6vbk2yq9m1tqlfpxn3v0w7", "unknown", "", {"container_id": None}),
    (f"/kubepods.slice/kubepods-pod{UID_}.slice/docker-{A}.scope", "docker", "", {"pod_uid": UID}),
    # Podman
    (f"/machine.slice/libpod-{A}.scope", "podman", "/container", {"container_id": A}),
    (f"/machine.slice/libpod-{A}.scope", "podman", "/container/init.scope", {"container_id": A}),
    (f"/libpod_parent/libpod-{A}", "podman", "", {"container_id": A}),
    (f"/libpod_parent/{B}/libpod-{A}", "podman", "", {"container_id": A}),
    ("/libpod_parent/conmon", "unknown", "", {"container_id": None}),
    (
        f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
        "podman",
        "/container",
        {"container_id": A, "pod_uid": None},
    ),
    (f"/system.slice/job.service/libpod-payload-{A}", "podman", "/container", {"container_id": A}),
    (f"{USER}/user.slice/libpod-{A}.scope", "podman", "/container", {"container_id": A}),
    (f"{USER}/user.slice/libpod-conmon-{A}.scope", "podman-monitor", "", {"container_id": A}),
    (f"{USER}/user.slice/podman-4711.scope", "user-session", "", {"container_id": None}),
    # containerd, nerdctl, CRI
    (f"/default/{A}", "containerd", "", {"container_id": A}),
    ("/default/redis-1", "containerd", "", {"container_id": "redis-1"}),
    (f"/k8s.io/{A}", "containerd", "", {"container_id": A}),
    (f"/system.slice/nerdctl-{A}.scope", "containerd", "", {"container_id": A}),
    (f"{USER}/user.slice/nerdctl-{A}.scope", "containerd", "", {"container_id": A}),
    (
        f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}",
        "containerd",
        "",
        {"container_id": A, "pod_uid": UID},
    ),
    (
        f"/kubepods-pod{STATIC}.slice:cri-containerd:{A}",
        "containerd",
        "",
        {"container_id": A, "pod_uid": STATIC},
    ),
    # CRI-O
    (f"/kubepods/burstable/pod{UID}/crio-{A}", "crio", "", {"container_id": A, "pod_uid": UID}),
    (
        f"/kubepods/pod{UID}/crio-conmon-{A}",
        "crio-monitor",
        "",
        {"container_id": A, "pod_uid": UID},
    ),
    (f"/kubepods/pod{UID}/crio-conmon-{A}", "crio-monitor", "/x", {"pod_uid": UID}),
    # Kubernetes
    (f"/kubepods/pod{UID}/{A}", "kubernetes", "", {"container_id": A, "pod_uid": UID}),
    (f"/kubepods/besteffort/pod{STATIC}/{A}", "kubernetes", "/x", {"pod_uid": STATIC}),
    (f"/kubepods/kubepods/besteffort/pod{UID}/{A}", "kubernetes", "", {"pod_uid": UID}),
    (f"/podruntime/docker/kubepods/pod{UID}/{A}", "kubernetes", "", {"container_id": A}),
    (f"/kubepods/burstable/pod{UID}", "kubernetes", "", {"container_id": None, "pod_uid": UID}),
    (f"/kubepods/burstable/pod{UID}/kata_{A}", "kubernetes", "", {"container_id": A}),
    (
        f"/docker/{B}/kubelet/kubepods/burstable/pod{UID}/{A}",
        "kubernetes",
        "",
        {"container_id": A, "pod_uid": UID},
    ),
    (
        f"{KIND}/kubelet-kubepods-besteffort-pod{UID_}.slice/cri-containerd-{A}.scope",
        "containerd",
        "",
        {"container_id": A, "pod_uid": UID},
    ),
    (f"/docker/{B}/kubelet.slice/kubelet.service", "docker", "-", {"container_id": B}),
    (f"/kubepods/pod{UID}/{B}/docker/{A}", "docker", "", {"container_id": A, "pod_uid": UID}),
    (f"/system.slice/k3s.service/kubepods/pod{UID}/{A}", "kubernetes", "", {"container_id": A}),
    (f"/kubepods/burstable/{A}", "kubernetes", "", {"container_id": A, "pod_uid": None}),
    (f"/something/pod{UID}/{A}", "kubernetes", "", {"container_id": A, "pod_uid": UID}),
    (f"/../crio-{A}.scope", "crio", "", {"container_id": A, "pod_uid": None}),
    (f"/mesos/{UID}/mesos/{UID}/kubepods/pod{UID}/{A}", "kubernetes", "", {"container_id": A}),
    # ECS, Mesos, Nomad, garden
    (f"/ecs/55091c13-b8cf-4801-b527-f4601742204d/{A}", "ecs", "", {"container_id": A}),
    (f"/ecs/{STATIC}/{A}", "ecs", "", {"container_id": A}),
    (f"/ecs/prod/{STATIC}/{STATIC}-17", "ecs", "/x", {"container_id": f"{STATIC}-17"}),
    (
        f"/ecstasks.slice/ecstasks-{STATIC}.slice/docker-{A}.scope",
        "docker",
        "",
        {"container_id": A},
    ),
    (f"/mesos/{UID}", "mesos", "", {"container_id": UID}),
    (f"/mesos/{UID}/mesos/{UID}", "mesos", "", {"container_id": UID}),
    (f"/nomad.slice/{UID}.web.scope", "nomad", "", {"name": f"{UID}.web"}),
    (f"/nomad.slice/share.slice/{UID}.web.scope", "nomad", "", {"name": f"{UID}.web"}),
    (
        "/system.slice/garden.service/garden/6f265890-5165-7fab-6b52-18d1",
        "garden",
        "",
        {"container_id": "6f265890-5165-7fab-6b52-18d1"},
    ),
    # LXC, LXD, Incus, nspawn, machines
    ("/lxc/web", "lxc", "", {"name": "web"}),
    ("/lxc/101", "lxc", "/ns/system.slice/ssh.service", {"name": "101"}),
    ("/lxc/web", "lxc", "/init.scope", {"name": "web"}),
    ("/lxc.payload/web", "lxc", "/.lxc", {"name": "web"}),
    ("/lxc.payload.web", "lxc", "/system.slice/cron.service", {"name": "web"}),
    ("/lxc.payload.web/lxc.payload.inner", "lxc", "/init.scope", {"name": "inner"}),
    ("/system.slice/lxc.payload.web-01.scope", "lxc", "", {"name": "web-01"}),
    ("/lxc.monitor/web", "lxc-monitor", "", {"name": "web"}),
    (f"{USER}/lxc.payload.mine", "lxc", "", {"name": "mine"}),
    (f"/lxc/web/docker/{A}", "docker", "", {"container_id": A}),
    (f"/lxc/{A}", "docker", "", {"container_id": A}),
    ("/machine.slice/systemd-nspawn@web.service", "nspawn", "/payload/init.scope", {"name": "web"}),
    ("/machine.slice/systemd-nspawn@web.service/supervisor", "nspawn-monitor", "", {"name": "web"}),
    ("/machine.slice/machine-my\\x2dbox.scope", "nspawn", "/payload", {"name": "my-box"}),
    ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", "systemd-scope", "/libvirt/emulator", {}),
    # Slurm
    ("/slurm/uid_0/job_7", "slurm", "/step_batch/task_0", {"job_id": "7"}),
    ("/slurm_node-a/uid_0/job_7", "slurm", "/step_4294967291", {"job_id": "7"}),
    ("/system.slice/slurmstepd.scope/job_7", "slurm", "/step_batch/user/task_0", {"job_id": "7"}),
    ("/system.slice/n1_slurmstepd.scope/job_7", "slurm", "/step_0/user/task_1", {"job_id": "7"}),
    ("/slurm.slice/slurmstepd.scope/job_7", "slurm", "/step_extern/user/task_special", {}),
    ("/system.slice/slurmstepd.scope/job_77_3", "slurm", "/step_0", {"job_id": "77_3"}),
    ("/system.slice/slurmstepd.scope/job_7/step_0/slurm", "slurm-daemon", "", {"job_id": "7"}),
    ("/system.slice/slurmstepd.scope", "slurm-daemon", "", {"job_id": None}),
    ("/system.slice/slurmd.service", "systemd-service", "", {"unit": "slurmd.service"}),
    ("/home/slurm/uid_0/joblog", "unknown", "", {"job_id": None}),
    # systemd
    ("/system.slice/foo.service", "systemd-service", "/worker/3", {"unit": "foo.service"}),
    (
        "/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service",
        "systemd-service",
        "",
        {"unit": "serial-getty@ttyS0.service"},
    ),
    (
        "/custom.slice/custom-gpu.slice/train@7.service",
        "systemd-service",
        "",
        {"unit": "train@7.service"},
    ),
    ("/system.slice/_cpu.service", "systemd-service", "", {"unit": "cpu.service"}),
    ("/system.slice/run-u17.service", "systemd-service", "", {"unit": "run-u17.service"}),
    ("/qemu.slice/101.scope", "systemd-scope", "", {"unit": "101.scope"}),
    ("/init.scope", "init", "", {}),
    # sessions
    ("/user.slice/user-1000.slice/session-c2.scope", "user-session", "/sub", {}),
    (f"{USER}/init.scope", "user-session", "", {}),
    (f"{USER}/app.slice/app-train.service", "user-session", "/x", {"unit": "app-train.service"}),
    (f"{USER}/app.slice/run-r{STATIC}.scope", "user-session", "", {"container_id": None}),
    ("/user/root/0", "user-session", "", {}),
    ("/user.slice", "user-session", "", {}),
    # nothing to tell
    ("/", "unknown", "", {"container_id": None}),
    ("/process_api/e730b90f3de9b656e99ed1f7a68c79e7", "unknown", "", {"container_id": None}),
    (f"/kubepods/burstable/{UID}", "unknown", "", {"pod_uid": None}),
    (f"/docker/{A[:63]}", "unknown", "", {"container_id": None}),
    (f"/docker/{A}f", "unknown", "", {"container_id": None}),
    (f"/../{A}", "unknown", "", {"container_id": A}),
    (f"/../../pod{UID}/{A}", "kubernetes", "", {"pod_uid": UID}),
]


def recorded() -> list[dict[str, object]]:
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def ask(*requests: str) -> tuple[int, list[dict[str, object]]]:
    out = io.StringIO()
    status = owner_of_cgroup_lines(io.StringIO("".join(f"{one}\n" for one in requests)), out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("case", recorded(), ids=lambda case: str(case["source"])[:60])
def test_recorded_form(case: dict[str, object]) -> None:
    expect = case["expect"]
    assert isinstance(expect, dict)
    owner = owner_of(str(case["text"]))
    assert {key: getattr(owner, key) for key in expect} == expect
    if "pod_uid" not in expect:
        assert owner.pod_uid is None
    if "leaf_path" not in expect:
        assert owner.leaf_path == owner.cgroup_path


@pytest.mark.parametrize(("path", "runtime", "below", "facts"), FORMS)
def test_form(path: str, runtime: str, below: str, facts: dict[str, str | None]) -> None:
    if below == "-":
        path, below = path[: path.index("/", 8)], path[path.index("/", 8) :]
    owner = owner_of(f"0::{path}{below}\n")
    assert (owner.runtime, owner.cgroup_path, owner.leaf_path) == (runtime, path, path + below)
    assert {key: getattr(owner, key) for key in facts} == facts
    for controllers in ("4:memory", "1:name=systemd", "7:cpu,cpuacct"):
        assert owner_of(f"9:devices:/\n{controllers}:{path}{below}\n3:freezer:/\n") == owner
    assert owner_of(f"0::{path}{below} (deleted)\n").cgroup_path == path


@pytest.mark.parametrize(
    ("path", "is_never"),
    [
        ("/lxc.monitor.web", True),
        (f"/machine.slice/libpod-conmon-{A}.scope", True),
        ("/machine.slice/systemd-nspawn@web.service/supervisor", True),
        ("/system.slice/slurmstepd.scope/system", True),
        ("/system.slice/slurmstepd.scope/job_7/step_0/slurm", True),
        ("/init.scope", True),
        (f"{USER}/init.scope", True),
        ("/system.slice/docker.service", True),
        ("/system.slice/ssh.service", True),
        ("/system.slice/nvidia-persistenced.service", True),
        ("/system.slice/gpuwarden-agent.service", True),
        ("/system.slice/train.service", False),
        ("/system.slice/docker-registry.service", False),
        (f"/docker/{A}/system.slice/ssh.service", False),
        ("/lxc.payload.web/init.scope", False),
        (f"/docker/{A}", False),
        ("/slurm/uid_0/job_7", False),
        ("/user.slice/user-1000.slice/session-3.scope", False),
    ],
)
def test_never_victims_are_flagged(path: str, is_never: bool) -> None:
    assert owner_of(f"0::{path}").is_never_victim is is_never


@pytest.mark.parametrize(
    ("path", "outer"),
    [
        (f"/docker/{A}", None),
        (f"/kubepods/burstable/pod{UID}/{A}", None),
        (f"/docker/{B}/docker/{A}", B),
        (f"/docker/{B}/kubelet/kubepods/pod{UID}/{A}", B),
        (f"/kubepods/pod{UID}/{B}/docker/{A}", B),
        (f"{USER}/user.slice/libpod-{A}.scope", "uid1000"),
        (f"/slurm/uid_0/job_7/step_0/libpod-{A}", "7"),
        (f"/lxc.payload.guest/docker/{A}", "guest"),
    ],
)
def test_what_an_owner_is_nested_in(path: str, outer: str | None) -> None:
    assert nested_in(path) == outer


def test_hybrid_lines_that_disagree() -> None:
    text = f"1:name=systemd:/\n0::/system.slice/docker-{A}.scope\n"
    assert owner_of(text).container_id == A
    text = f"5:memory:/docker/{A}\n3:pids:/docker/{A}/docker/{B}\n0::/system.slice/docker.service\n"
    assert owner_of(text).container_id == B, "the innermost owns"
    text = f"9:devices:/docker/{A}\n5:memory:/docker/{B}\n"
    assert owner_of(text).container_id == B, "memory is preferred"
    text = "5:memory:/user.slice\n3:pids:/user.slice/user-1.slice/session-2.scope\n0::/\n"
    assert owner_of(text).cgroup_path == "/user.slice/user-1.slice/session-2.scope"


def test_roots_of_all_kinds_tell_nothing() -> None:
    owner = owner_of("9:devices:/\n0::/../..\n")
    assert (owner.runtime, owner.container_id, owner.is_never_victim) == ("unknown", None, False)


@pytest.mark.parametrize(
    "text", ["", "\n", "garbage", "0:", "0::", "0::relative", "::/x", "x::/docker/1"]
)
def test_text_without_a_cgroup_line(text: str) -> None:
    owner = owner_of(text)
    assert (owner.runtime, owner.cgroup_path, owner.leaf_path) == ("unknown", None, None)


@pytest.mark.parametrize(
    "text", ["    13:name=systemd:{}    ", "\r\n13:name=systemd:{}\r\n", "13::{}"]
)
def test_blanks_around_a_line_are_nothing(text: str) -> None:
    owner = owner_of(text.format(f"/docker/{A}"))
    assert (owner.runtime, owner.cgroup_path) == ("docker", f"/docker/{A}")


@pytest.mark.parametrize("text", ["a:name=systemd:{}", ":name=systemd:{}", "13:{}"])
def test_lines_of_another_shape_are_skipped(text: str) -> None:
    assert owner_of(text.format(f"/docker/{A}")).runtime == "unknown"


def test_unreadable_lines_hide_nothing() -> None:
    raw = f"\xff\xfe garbage\n0::/\n\n12:::\n4:memory:/docker/{A}\r\ntrailing".encode("latin-1")
    assert owner_of_bytes(raw).container_id == A


@given(st.text(max_size=300))
def test_any_text_has_an_owner(text: str) -> None:
    owner_of(text)
    assert owner_of(f"0::/{text}").runtime


@given(
    st.lists(st.sampled_from([A, "docker", f"pod{UID}", "lxc", "system.slice", "x.service", ".."]))
)
def test_an_owner_is_above_its_leaf(segments: list[str]) -> None:
    owner = owner_of("0::/" + "/".join(segments))
    assert owner.leaf_path is not None
    assert owner.cgroup_path is not None
    assert (owner.leaf_path + "/").startswith(owner.cgroup_path)


def test_verb_answers_line_by_line() -> None:
    status, answers = ask(
        json.dumps({"text": f"0::/docker/{A}/x\n"}), "", json.dumps({"text": "0::/\n"})
    )
    assert status == 0
    assert answers[0] == {
        "runtime": "docker",
        "container_id": A,
        "pod_uid": None,
        "cgroup_path": f"/docker/{A}",
        "leaf_path": f"/docker/{A}/x",
    }
    assert answers[1]["runtime"] == "unknown"


def test_verb_survives_bad_lines() -> None:
    good = json.dumps({"text": "4:memory:/slurm/uid_0/job_7\n", "source": "x"})
    bad = ["{", "[]", "7", '{"text": 7}', '{"txt": ""}', "[" * 100_000, '"\\ud800"', "nul\x00"]
    status, answers = ask(*bad, good)
    assert status == 1
    assert [set(answer) for answer in answers[: len(bad)]] == [{"error"}] * len(bad)
    assert (answers[-1]["runtime"], answers[-1]["job_id"]) == ("slurm", "7")


def test_verb_reads_bytes_that_are_no_text() -> None:
    raw = io.BytesIO(b'\xff\xfe\n{"text": "0::/docker/\xff"}\n')
    out = io.StringIO()
    assert owner_of_cgroup_lines(io.TextIOWrapper(raw, encoding="utf-8"), out) == 1
    assert json.loads(out.getvalue().splitlines()[1])["runtime"] == "unknown"
