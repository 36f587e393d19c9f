"""The Slurm runtime against a real slurmctld and slurmd."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_pid
from gpuwarden.adapters.cgroupfs import CgroupFs
from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.adapters.slurm import Slurm
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner
from tests.adapters.trees import soon, wait_gone

WAIT_S = 60.0
needs_slurm = pytest.mark.slurm


def tool(name: str, timeout_s: float = 10.0, **env: str) -> Tool:
    env = {"SLURM_CONF": os.environ.get("SLURM_CONF", ""), **env}
    return Tool(name=name, clock=SystemClock(), timeout_s=timeout_s, env=env)


@pytest.fixture
def slurm() -> Slurm:
    return Slurm(tool("squeue"), tool("scancel"), SystemClock(), tool("scontrol"))


@contextmanager
def job(tmp_path: Path, script: str, *options: str) -> Iterator[tuple[str, int]]:
    """A running batch job: its id and the host pid that its script wrote down."""
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    batch = tmp_path / "batch.sh"
    batch.write_text(f"#!/bin/sh\n{script}\n")
    sbatch = ["sbatch", "--parsable", "--output=/dev/null", *options, str(batch), str(pipe)]
    made = subprocess.run(sbatch, capture_output=True, text=True, timeout=30, check=True)
    job_id = made.stdout.strip()
    try:
        read: list[str] = []
        reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
        reader.start()
        reader.join(WAIT_S)
        yield job_id, int(read[0])
    finally:
        subprocess.run(["scancel", "--signal=KILL", "--full", job_id], timeout=30, check=False)
        subprocess.run(["scancel", job_id], timeout=30, check=False)


SLEEP = 'echo $$ > "$1"; exec sleep 300'
STUBBORN = 'trap "" TERM; echo $$ > "$1"; while :; do sleep 1; done'


def owner(pid: int) -> CgroupOwner:
    found = owner_of_pid(pid)
    assert found is not None
    return found


def target_of(pid: int) -> Target:
    found = owner(pid)
    tenant = tenant_of_owner(found)
    assert tenant is not None
    return Target(tenant=tenant, runtime="slurm", cgroup=CgroupFs().locate(found))


@needs_slurm
def test_describe_a_job_of_an_odd_name(slurm: Slurm, tmp_path: Path) -> None:
    name = "train | v2 Account=evil"
    with job(tmp_path, SLEEP, "--job-name", name, "--account=research") as (job_id, pid):
        found = owner(pid)
        assert (found.runtime, found.job_id) == ("slurm", job_id)
        facts = slurm.describe(found)
        assert facts.tenant == f"slurm:{job_id}"
        assert (facts.name, facts.account, facts.user) == (name, "research", "root")
        assert facts.owner_key == f"slurm:root/research/{name}"
        assert facts.described


@needs_slurm
@pytest.mark.parametrize(("script", "grace_s"), [(SLEEP, 5.0), (STUBBORN, 1.0), (STUBBORN, 0.0)])
def test_stop(slurm: Slurm, tmp_path: Path, script: str, grace_s: float) -> None:
    with job(tmp_path, script) as (job_id, pid):
        slurm.stop(target_of(pid), grace_s)
        assert wait_gone(pid)
        state = subprocess.run(
            ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job_id}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert state.stdout.strip() in ("CANCELLED", "COMPLETING", "FAILED", "COMPLETED")
        slurm.stop(Target(tenant=TenantId(f"slurm:{job_id}"), runtime="slurm"), grace_s)


@needs_slurm
@pytest.mark.skipif(not Path("/sys/fs/cgroup/freezer").exists(), reason="jobs have no groups on v2")
def test_slurmstepd_in_the_job_s_own_group_is_spared(tmp_path: Path) -> None:
    cgroups, processes = CgroupFs(), ProcFs(None)
    with job(tmp_path, STUBBORN) as (_, pid):
        target = target_of(pid)
        assert target.cgroup is not None
        everybody = {
            int(one)
            for procs in Path("/sys/fs/cgroup/freezer" + target.cgroup.path).rglob("cgroup.procs")
            for one in procs.read_text().split()
        }
        tenants = set(cgroups.members(target.cgroup))
        monitors = everybody - tenants
        assert pid in tenants
        names = {one: facts.comm for one in monitors if (facts := processes.facts(one))}
        assert set(names.values()) == {"slurmstepd"}
        assert cgroups.kill(target.cgroup) >= 1
        with suppress(Refused):  # Slurm removes the group when the job is over
            group = target.cgroup
            assert soon(lambda: not cgroups.is_populated(group))
    processes.close()


@needs_slurm
def test_no_such_job(slurm: Slurm) -> None:
    nobody = CgroupOwner(
        runtime="slurm",
        cgroup_path="/slurm/uid_0/job_4000000000",
        leaf_path=None,
        job_id="4000000000",
    )
    with pytest.raises(Refused, match="no job"):
        slurm.describe(nobody)


@pytest.mark.parametrize(
    "tenant",
    ["slurm:7; reboot", "slurm:--all", "slurm:", "slurm:7@guest", "docker:7", "slurm:\u0667"],
)
def test_tenants_that_name_no_job(slurm: Slurm, tenant: str) -> None:
    with pytest.raises(Refused):
        slurm.stop(Target(tenant=TenantId(tenant), runtime="slurm"), 0)


def test_controller_that_is_away(tmp_path: Path) -> None:
    away = tool("squeue", 0.5, SLURM_CONF=str(tmp_path / "none.conf"))
    slurm = Slurm(away, tool("scancel"), SystemClock())
    expected = Unavailable if shutil.which("squeue") else Unsupported
    with pytest.raises(expected):
        slurm.stop(Target(tenant=TenantId("slurm:7"), runtime="slurm"), 0.1)


def test_slurm_chooses_devices_itself(slurm: Slurm) -> None:
    target = Target(tenant=TenantId("slurm:7"), runtime="slurm")
    assert slurm.restart_off(target) == {}
    with pytest.raises(Unsupported):
        slurm.relocate(target, DeviceId("GPU-x"), 1)


@needs_slurm
def test_restart_requeues_the_job_under_its_own_id(slurm: Slurm, tmp_path: Path) -> None:
    with job(tmp_path, SLEEP, "--requeue") as (job_id, pid):
        target = Target(tenant=TenantId(f"slurm:{job_id}"), runtime="slurm")
        slurm.restart(target, 0.0)
        assert wait_gone(pid)
        assert _restarts(job_id) == "1"
        with pytest.raises(Refused, match="is "):
            slurm.restart(target, 0.0)  # it waits in the queue


@needs_slurm
def test_restart_is_refused_where_the_job_may_not_be_requeued(slurm: Slurm, tmp_path: Path) -> None:
    with job(tmp_path, SLEEP, "--no-requeue") as (job_id, pid):
        target = Target(tenant=TenantId(f"slurm:{job_id}"), runtime="slurm")
        with pytest.raises(Refused, match="requeue"):
            slurm.restart(target, 0.0)
        assert Path(f"/proc/{pid}").exists()


def test_without_scontrol_nobody_can_requeue() -> None:
    clock = SystemClock()
    slurm = Slurm(tool("squeue"), tool("scancel"), clock)
    with pytest.raises(Unsupported, match="scontrol"):
        slurm.restart(Target(tenant=TenantId("slurm:1"), runtime="slurm"), 0.0)


def _restarts(job_id: str) -> str:
    shown = subprocess.run(
        ["scontrol", "show", "job", job_id], capture_output=True, text=True, timeout=30, check=True
    )
    return next(w.partition("=")[2] for w in shown.stdout.split() if w.startswith("Restarts="))
