"""The doctor on systemd: is the agent's unit there, enabled, well, and does it have what its mode needs."""

from collections.abc import Mapping

from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Check, Result, Roots
from gpuwarden.commands.words import plain
from gpuwarden.errors import GpuwardenError

UNIT = "gpuwarden-agent.service"
DEADLINE_S = 5.0
PROPERTIES = (
    *("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts"),
    *("NeedDaemonReload", "StatusText", "DropInPaths", "CapabilityBoundingSet", "MainPID"),
)
ENFORCEMENT = "50-enforcement.conf"
"""The drop-in that ``gpuwarden enable-enforcement`` installs."""
RELOAD_WARNING = "(look at `device loss` first: it may take GPUs from running containers)"


def unit_state(unit: str = UNIT) -> Mapping[str, str] | str:
    """What systemd says of a unit, or why it does not."""
    tool = Tool(name="systemctl", clock=SystemClock(), timeout_s=DEADLINE_S)
    try:
        answer = tool.run("show", unit, f"--property={','.join(PROPERTIES)}")
    except GpuwardenError as error:
        return str(error)
    if answer.status != 0:
        return answer.why
    pairs = (line.partition("=") for line in answer.out.splitlines())
    return {key: value for key, _, value in pairs}


def check_unit(roots: Roots, state: Mapping[str, str] | str | None = None) -> Check:
    """Whether systemd starts the agent with the host, and whether it runs."""
    name = "unit"
    if not roots.systemd.is_dir():
        return Check(name=name, result=Result.OK, seen="this host does not run systemd")
    state = unit_state() if state is None else state
    if isinstance(state, str):
        return Check(name=name, result=Result.UNKNOWN, seen=plain(state))
    load, file = state.get("LoadState", ""), state.get("UnitFileState", "")
    active, sub = state.get("ActiveState", ""), state.get("SubState", "")
    seen = f"{UNIT} is {file or load}, {active} ({sub})"
    if load == "not-found":
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{UNIT} is not installed",
            fix="install the package gpuwarden",
        )
    if load == "masked" or file.startswith("masked"):
        fix = f"systemctl unmask {UNIT}; systemctl enable --now {UNIT}"
        return Check(name=name, result=Result.WARNING, seen=f"{UNIT} is masked", fix=fix)
    if active == "failed":
        return Check(
            name=name,
            result=Result.FAILED,
            seen=f"{seen}: {state.get('Result', '')}, started again {state.get('NRestarts', '?')} times",
            fix=f"journalctl -u {UNIT} -n 50; then: systemctl reset-failed {UNIT}; systemctl start {UNIT}",
        )
    if active not in ("active", "reloading"):
        verb = "start" if file.startswith("enabled") else "enable --now"
        result = Result.FAILED if file.startswith("enabled") else Result.WARNING
        return Check(name=name, result=result, seen=seen, fix=f"systemctl {verb} {UNIT}")
    if not file.startswith("enabled"):
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{seen}: it runs, and is not started with the host",
            fix=f"systemctl enable {UNIT}",
        )
    if state.get("NeedDaemonReload") == "yes":
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"{seen}; its files have changed since systemd read them",
            fix=f"systemctl daemon-reload {RELOAD_WARNING}",
        )
    said = plain(state.get("StatusText", ""))
    return Check(name=name, result=Result.OK, seen=f"{seen}{f': {said}' if said else ''}")


def check_enforcement(
    roots: Roots, mode: str, state: Mapping[str, str] | str | None = None
) -> Check:
    """A unit that may only watch cannot enforce; one that may do more should have a reason."""
    name = "enforcement"
    if not roots.systemd.is_dir():
        return Check(name=name, result=Result.OK, seen=f"mode {mode}; no systemd unit to look at")
    state = unit_state() if state is None else state
    if isinstance(state, str) or state.get("LoadState") != "loaded":
        return Check(name=name, result=Result.UNKNOWN, seen=f"mode {mode}; no unit to look at")
    paths = state.get("DropInPaths", "").split()
    has_it = any(path.endswith(f"/{ENFORCEMENT}") for path in paths)
    may = "cap_dac_override" in state.get("CapabilityBoundingSet", "")
    if mode == "enforce" and not (has_it or may):
        return Check(
            name=name,
            result=Result.FAILED,
            seen=f"mode is enforce, and {UNIT} may only watch: what it orders will be refused",
            fix="gpuwarden enable-enforcement",
        )
    if mode != "enforce" and has_it:
        return Check(
            name=name,
            result=Result.WARNING,
            seen=f"mode is {mode}, and the unit has the rights of enforcement",
            fix="gpuwarden enable-enforcement --undo",
        )
    what = "with the rights it needs" if mode == "enforce" else "and the unit may only watch"
    return Check(name=name, result=Result.OK, seen=f"mode {mode}, {what}")
