"""The check of ``doctor`` that asks the runtimes of pods."""

from gpuwarden.adapters.cri_door import CriDoor, doors
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Check, Result
from gpuwarden.commands.words import plain
from gpuwarden.config import CriConfig
from gpuwarden.errors import GpuwardenError, Unsupported


def check_pods(cfg: CriConfig) -> Check:
    """Whether a CRI answers: without it pods have no labels, and are not stopped by their runtime."""
    here = [door for door in doors(cfg, SystemClock()) if door.is_there()]
    if not here and cfg.endpoint is None:
        return Check(name="pods", result=Result.OK, seen="no CRI here: no pods either")
    asked = [_ask(door) for door in here] or [(Result.WARNING, f"{cfg.endpoint}: no such socket")]
    worst = Result.WARNING if any(result is not Result.OK for result, _ in asked) else Result.OK
    fix = "start the runtime, or set cri.endpoint to the kubelet's --container-runtime-endpoint"
    return Check(
        name="pods",
        result=worst,
        seen="; ".join(seen for _, seen in asked),
        fix="" if worst is Result.OK else fix,
    )


def _ask(door: CriDoor) -> tuple[Result, str]:
    """A containerd whose CRI is switched off is that of a Docker, and runs no pods."""
    if not door.may_be_asked():
        return Result.UNKNOWN, f"no permission for {plain(door.path)}"
    try:
        with door.call() as calls:
            return Result.OK, f"{plain(calls.version())} at {plain(door.path)}"
    except Unsupported as error:
        return Result.OK, plain(str(error))
    except GpuwardenError as error:
        return Result.WARNING, plain(str(error))
