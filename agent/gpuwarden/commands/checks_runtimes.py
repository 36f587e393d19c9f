"""The doctor on runtimes that are asked through their own tools: Podman, LXC, Slurm."""

from dataclasses import dataclass

from gpuwarden.adapters.tool import SAFE_PATH, Tool
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Check, Result
from gpuwarden.commands.words import plain
from gpuwarden.config import Config
from gpuwarden.errors import GpuwardenError

DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runtime:
    name: str
    tool: str
    ask: tuple[str, ...]
    also: tuple[str, ...]
    """Tools without which its tenants cannot be stopped."""
    fix: str


_RUNTIMES = (
    _Runtime(
        name="podman",
        tool="podman",
        ask=("version", "--format", "Podman {{.Client.Version}}"),
        also=(),
        fix="podman info says more",
    ),
    _Runtime(
        name="lxc",
        tool="lxc-info",
        ask=("--version",),
        also=("lxc-stop",),
        fix="apt install lxc (lxc-info and lxc-stop)",
    ),
    _Runtime(
        name="slurm",
        tool="scontrol",
        ask=("ping",),
        also=("squeue", "scancel"),
        fix="systemctl status munge slurmd; scontrol ping",
    ),
)


def check_runtimes(config: Config, path: str = SAFE_PATH) -> list[Check]:
    """One line a runtime: its tenants have names, and are stopped by it, only where it answers."""
    return [_check(runtime, config, path) for runtime in _RUNTIMES]


def _check(runtime: _Runtime, config: Config, path: str) -> Check:
    tool = Tool(name=runtime.tool, clock=SystemClock(), timeout_s=DEADLINE_S, path=path)
    if tool.where() is None:
        if runtime.name == "slurm" and config.cordon.slurm is not None:
            return Check(
                name=runtime.name,
                result=Result.FAILED,
                seen="[cordon.slurm] is set, and there is no scontrol",
                fix="apt install slurm-client",
            )
        return Check(name=runtime.name, result=Result.OK, seen=f"not here (no {runtime.tool})")
    try:
        answer = tool.run(*runtime.ask)
    except GpuwardenError as error:
        return _trouble(runtime, plain(str(error)))
    said = plain(" ".join(answer.out.split()))[:200]
    if answer.status != 0 or (runtime.name == "slurm" and " is DOWN" in said):
        return _trouble(runtime, said or plain(answer.why))
    lacks = [
        each
        for each in runtime.also
        if Tool(name=each, clock=SystemClock(), timeout_s=DEADLINE_S, path=path).where() is None
    ]
    if lacks:
        return _trouble(runtime, f"{said}; no {', '.join(lacks)}: nobody can be stopped by it")
    return Check(name=runtime.name, result=Result.OK, seen=said or f"{runtime.tool} answers")


def _trouble(runtime: _Runtime, seen: str) -> Check:
    return Check(name=runtime.name, result=Result.WARNING, seen=seen, fix=runtime.fix)
