"""Which tenant a process belongs to."""

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of
from gpuwarden.adapters.tenancy import is_nested, key_of, tenant_id
from gpuwarden.model.ids import Pid, TenantId
from gpuwarden.model.owner import ProcessFacts

A = "3ccfa00432798ff38f85839de1e396f771b4acbe9f4ddea0a761c39b9790a782"
B = "b15a5bdedd2e7645c3be271364324321b908314e4c77857bbfd32a041148c07f"
UID = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"
USER = "/user.slice/user-1000.slice/user@1000.service"


def facts(path: str, pgrp_start: int = 0) -> ProcessFacts:
    return ProcessFacts(
        pid=Pid(pid=42, start=900),
        ppid=1,
        pgrp=40,
        session=40,
        state="S",
        comm="python",
        uid=1000,
        owner=owner_of(f"0::{path}\n"),
        cgroup=None,
        pgrp_start=pgrp_start,
    )


@pytest.mark.parametrize(
    ("path", "tenant", "key"),
    [
        (f"/docker/{A}", f"docker:{A}", A),
        (f"/docker/{A}/inner", f"docker:{A}", A),
        (f"/docker/{B}/docker/{A}", f"docker:{A}@{B}", A),
        (f"/machine.slice/libpod-{A}.scope/container", f"podman:{A}", A),
        (f"{USER}/user.slice/libpod-{A}.scope", f"podman:{A}@uid1000", A),
        (f"/default/{A}", f"cri:{A}", A),
        (f"/kubepods/pod{UID}/{A}", f"pod:{UID}/{A}", A),
        (f"/kubepods/pod{UID}/crio-{A}", f"pod:{UID}/{A}", A),
        (f"/kubepods/pod{UID}/docker-{A}.scope", f"docker:{A}", A),
        (f"/docker/{B}/kubepods/pod{UID}/{A}", f"pod:{UID}/{A}@{B}", A),
        (f"/kubepods/pod{UID}", f"pod:{UID}", UID),
        ("/slurm/uid_0/job_7/step_0/task_0", "slurm:7", "7"),
        ("/system.slice/train@gpu0.service", "unit:train@gpu0.service", "train@gpu0.service"),
        ("/system.slice/run-u3.scope", "unit:run-u3.scope", "run-u3.scope"),
        ("/lxc.payload.web/init.scope", "lxc:web", "web"),
        ("/machine.slice/systemd-nspawn@web.service/payload", "nspawn:web", "web"),
        (f"/actions_job/{A}", f"container:{A}", A),
        (f"/machine.slice/libpod-conmon-{A}.scope", f"podman-monitor:{A}", A),
        ("/user.slice/user-1000.slice/session-3.scope", "pgrp:40@900", "40"),
        ("/init.scope", "pgrp:40@900", "40"),
        ("/", "pgrp:40@900", "40"),
        ("/system.slice/slurmstepd.scope/system", "pgrp:40@900", "40"),
    ],
)
def test_tenant(path: str, tenant: str, key: str) -> None:
    assert tenant_id(facts(path)) == tenant
    assert key_of(TenantId(tenant)) == key
    assert is_nested(TenantId(tenant)) is ("@" in tenant and tenant[:5] not in ("pgrp:", "unit:"))


def test_group_is_named_by_its_leader() -> None:
    assert tenant_id(facts("/", pgrp_start=17)) == "pgrp:40@17"
