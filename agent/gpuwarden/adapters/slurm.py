"""The ``Runtime`` port for Slurm jobs: squeue tells, scancel stops."""

import re
from collections.abc import Mapping

from gpuwarden.adapters.tenancy import is_nested, key_of, tenant_of_owner
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import Target
from gpuwarden.model.ids import DeviceId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts

_JOB = re.compile(r"[0-9]{1,20}(?:[_+][0-9]{1,20})?\Z", re.ASCII)
# 7|research|alice|RUNNING|test|train the model|v2
_FORMAT = "%A|%a|%u|%T|%P|%j"
_LIVE = frozenset(
    {"PENDING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"}
)
_POLL_S = 0.2


class Slurm:
    """Implements ``ports.Runtime``. A job is gone when Slurm lists it no more or as completing."""

    def __init__(
        self, squeue: Tool, scancel: Tool, clock: Clock, scontrol: Tool | None = None
    ) -> None:
        self._scontrol = scontrol
        self._squeue = squeue
        self._scancel = scancel
        self._clock = clock

    def describe(self, owner: CgroupOwner) -> RuntimeFacts:
        tenant = tenant_of_owner(owner)
        if tenant is None:
            raise Refused("it has no job id")
        job = _job_of(tenant)
        row = self._row(job)
        if row is None:
            raise Refused(f"Slurm has no job {job}")
        account, user, _, partition, name = row
        if self._scancel.where() is None:
            raise Unsupported("no scancel here: nobody can stop a job")
        return RuntimeFacts(
            tenant=tenant,
            described=True,
            name=name or f"job {job}",
            labels=(("slurm.partition", partition),),
            user=user or None,
            account=None if account in ("", "(null)") else account,
            owner_key=f"slurm:{user}/{account}/{name}",
        )

    def restart_off(self, target: Target) -> Mapping[str, str]:
        """A cancelled job is not requeued: there is nothing to switch off."""
        return {}

    def restart_back(self, target: Target, old: Mapping[str, str]) -> None:
        return

    def stop(self, target: Target, grace_s: float) -> None:
        """TERM to every process of the job, ``grace_s``, KILL, then the job is cancelled for Slurm."""
        job = _job_of(target.tenant)
        if grace_s > 0:
            self._cancel("--signal=TERM", "--full", job)
            if self._wait_gone(job, grace_s):
                return
        self._cancel("--signal=KILL", "--full", job)
        self._cancel(job)
        if not self._wait_gone(job, self._scancel.timeout_s):
            raise Unavailable(f"scancel was taken but job {job} is still there")

    def restart(self, target: Target, grace_s: float) -> None:
        """``scontrol requeue``: the job goes back to the queue under its own id and starts where Slurm lets
        it. ``Refused`` where it does not run, or was submitted with --no-requeue."""
        job = _job_of(target.tenant)
        if self._scontrol is None or self._scontrol.where() is None:
            raise Unsupported("no scontrol here: nobody can requeue a job")
        row = self._row(job)
        if row is None or row[2] != "RUNNING":
            raise Refused(f"job {job} is {row[2] if row is not None else 'gone'}")
        answer = self._scontrol.run("requeue", job)
        if answer.status != 0:
            if "disabled" in answer.why or "Access/permission" in answer.why:
                raise Refused(f"scontrol requeue: {answer.why}")
            raise Unavailable(f"scontrol requeue: {answer.why}")

    def relocate(self, target: Target, device: DeviceId, index: int) -> str:
        raise Unsupported("Slurm itself chooses the device of a job")

    def _row(self, job: str) -> list[str] | None:
        """Account, user, state, partition and name (last: it may hold anything), ``None``: no such job."""
        answer = self._squeue.run(
            "--noheader", "--states=all", f"--jobs={job}", f"--format={_FORMAT}"
        )
        if answer.status != 0:
            if "Invalid job id" in answer.err:
                return None
            raise Unavailable(f"squeue: {answer.why}")
        for line in answer.out.splitlines():
            fields = line.split("|", 5)
            if len(fields) == 6 and fields[0].strip() == job.partition("_")[0].partition("+")[0]:
                return [part.strip()[:256] for part in fields[1:]]
        return None

    def _wait_gone(self, job: str, seconds: float) -> bool:
        until = self._clock.now() + seconds
        while True:
            row = self._row(job)
            if row is None or row[2] not in _LIVE:
                return True
            if self._clock.now() >= until:
                return False
            self._clock.sleep(min(_POLL_S, max(0.01, until - self._clock.now())))

    def _cancel(self, *args: str) -> None:
        answer = self._scancel.run(*args)
        if answer.status != 0 and "Invalid job id" not in answer.err:
            raise Unavailable(f"scancel: {answer.why}")


def _job_of(tenant: TenantId) -> str:
    key = key_of(tenant)
    if is_nested(tenant):
        raise Refused("the job stands inside another owner: the host's Slurm does not know it")
    if not tenant.startswith("slurm:") or not _JOB.match(key):
        raise Refused(f"{tenant} names no job")
    return key
