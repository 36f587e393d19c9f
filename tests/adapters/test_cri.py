"""The CRI runtime. Debian packages no crictl, so a fake crictl answers here; its replies are shaped as
``crictl inspect`` and ``inspectp`` of containerd 1.7 print them.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of
from gpuwarden.adapters.cri import Cri
from gpuwarden.adapters.firstof import FirstOf
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import TenantId

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
B = "b15a5bdedd2e7645c3be271364324321b908314e4c77857bbfd32a041148c07f"
UID = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"
PATH = f"/kubepods/burstable/pod{UID}/{A}"
OWNER = owner_of(f"0::{PATH}\n")
POD_LABELS = {
    "io.kubernetes.pod.name": "web-5d9c7b-x2x9z",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": UID,
}
INSPECT = {
    "status": {
        "id": A,
        "state": "CONTAINER_RUNNING",
        "metadata": {"name": "app", "attempt": 0},
        "image": {"image": "registry/app:1"},
        "labels": {**POD_LABELS, "io.kubernetes.container.name": "app"},
        "annotations": {"io.kubernetes.container.restartCount": "0"},
    },
    "info": {"sandboxID": B, "pid": 0},
}
INSPECTP = {
    "status": {
        "id": B,
        "labels": {**POD_LABELS, "pod-template-hash": "5d9c7b", "gpuwarden.class": "low"},
        "annotations": {"gpuwarden.memory": "8GiB", "gpuwarden.class": "high"},
    }
}
TENANT = TenantId(f"pod:{UID}/{A}")


def fake(folder: Path, *, inspect: object = INSPECT, extra: Sequence[str] = ()) -> Cri:
    """A fake crictl: ``stop`` makes the container exited."""
    (folder / "inspect").write_text(json.dumps(inspect))
    (folder / "exited").write_text(json.dumps(inspect).replace("RUNNING", "EXITED"))
    (folder / "inspectp").write_text(json.dumps(INSPECTP))
    body = [
        "#!/bin/sh",
        f'echo "$*" >> {folder}/calls',
        *extra,
        f'[ "$1" != stop ] || {{ mv {folder}/exited {folder}/inspect; exit 0; }}',
        f'exec cat {folder}/"$1"',
    ]
    (folder / "crictl").write_text("\n".join(body) + "\n")
    (folder / "crictl").chmod(0o755)
    return Cri(
        Tool(name="crictl", clock=SystemClock(), timeout_s=5.0, path=f"{folder}:/usr/bin:/bin")
    )


def test_describe_with_the_labels_of_the_pod(tmp_path: Path) -> None:
    facts = fake(tmp_path).describe(OWNER)
    assert facts.tenant == TENANT
    assert (facts.name, facts.image) == ("shop/web-5d9c7b-x2x9z/app", "registry/app:1")
    assert facts.owner_key == "kubernetes:shop/web/app"
    assert facts.labels[:2] == (("gpuwarden.class", "low"), ("gpuwarden.memory", "8GiB"))


def test_stop_is_verified(tmp_path: Path) -> None:
    target = Target(tenant=TENANT, runtime="kubernetes")
    runtime = fake(tmp_path)
    runtime.stop(target, 7.0)
    assert f"stop --timeout=7 {A}" in (tmp_path / "calls").read_text()
    runtime.stop(target, 7.0)
    assert (tmp_path / "calls").read_text().count("stop") == 1
    stubborn = fake(tmp_path, extra=('[ "$1" != stop ] || exit 0',))
    with pytest.raises(Unavailable, match="still runs"):
        stubborn.stop(target, 0)
    with pytest.raises(Unsupported, match="kubelet"):
        runtime.restart_off(target)


def test_container_that_runs_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cgroup").write_text(f"0::/kubepods/pod{UID}/{B}\n")
    here = {**INSPECT, "info": {"sandboxID": B, "pid": 77}}
    tool = fake(tmp_path, inspect=here)._crictl
    with pytest.raises(Refused, match="not in /kubepods/burstable"):
        Cri(tool, proc=str(tmp_path / "proc")).describe(OWNER)


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        ("echo 'rpc error: code = NotFound desc = not found' >&2; exit 1", Refused),
        ("echo 'connect: no such file or directory' >&2; exit 1", Unavailable),
        ("echo '{'; exit 0", Unavailable),
        ("echo '[]'; exit 0", Unavailable),
        ("""echo '{"status": {"id": "x"}}'; exit 0""", Unavailable),
    ],
)
def test_answers_of_a_fake_crictl(tmp_path: Path, extra: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        fake(tmp_path, extra=(extra,)).describe(OWNER)


def test_nested_pods_are_not_the_host_s(tmp_path: Path) -> None:
    kind = owner_of(f"0::/docker/{B}/kubelet{PATH}\n")
    with pytest.raises(Refused, match="inside another owner"):
        fake(tmp_path).describe(kind)
    with pytest.raises(Refused, match="no container"):
        fake(tmp_path).describe(replace(OWNER, container_id="../x"))


def test_first_who_knows_it_answers(tmp_path: Path) -> None:
    for name in ("one", "two", "away"):
        (tmp_path / name).mkdir()
    unknown = fake(tmp_path / "one", extra=("echo 'not found' >&2; exit 1",))
    knows = fake(tmp_path / "two")
    away = fake(tmp_path / "away", extra=("exit 1",))
    absent = Cri(Tool(name="crictl", clock=SystemClock(), timeout_s=1.0, path="/nonexistent"))
    target = Target(tenant=TENANT, runtime="kubernetes")
    assert FirstOf((unknown, absent, knows)).describe(OWNER).described
    FirstOf((absent, knows)).stop(target, 0)
    with pytest.raises(Unavailable):
        FirstOf((away, knows)).stop(target, 0)
    with pytest.raises(Refused, match=r"not found.*no crictl"):
        FirstOf((unknown, absent)).stop(target, 0)
