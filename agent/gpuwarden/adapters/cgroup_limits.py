"""Which files slow down or bound a group, and with what value, on cgroup v1 and v2. Pure.

Limits are only ever tightened: a container that was given less than the operator allows keeps it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Read = Callable[[str], str | None]
"""Current text of a file of the group, ``None`` where the kernel does not offer it."""

HIGH_SHARE = 0.9
"""``memory.high`` as a share of the quota: reclaim sets in before the limit (systemd's advice)."""
DEFAULT_PERIOD_US = 100_000
"""CFS period of the kernel (Documentation/scheduler/sched-bwc)."""
_MIN_QUOTA_US = 1_000
_V1_UNLIMITED = 2**62
_NUMBER = re.compile(r"[0-9]{1,20}\Z", re.ASCII)

RESTORABLE = re.compile(
    r"(?:cpu\.(?:weight|max|shares|cfs_quota_us|cfs_period_us)"
    r"|memory\.(?:high|max|limit_in_bytes|soft_limit_in_bytes))\Z"
)
SAFE_VALUE = re.compile(r"(?:max|-?[0-9]{1,20})(?: [0-9]{1,20})?\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One file to write. ``old`` is its text now."""

    name: str
    value: str
    old: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write, and the controllers that were asked for but are not offered."""

    writes: tuple[Write, ...] = ()
    missing: tuple[str, ...] = ()


def throttle_plan(read: Read, *, cpu_cores: float | None, memory_high_bytes: int | None) -> Plan:
    """Least CPU weight, at most ``cpu_cores``, reclaim above ``memory_high_bytes``."""
    writes: list[Write] = []
    missing: list[str] = []
    if cpu_cores is not None:
        cpu = [*_least_weight(read), *cpu_writes(read, cpu_cores)]
        writes += cpu
        if not _has_cpu(read):
            missing.append("cpu")
    if memory_high_bytes is not None:
        name = "memory.high" if read("memory.high") is not None else "memory.soft_limit_in_bytes"
        if read(name) is None:
            missing.append("memory")
        else:
            writes += _tighten(name, read, memory_high_bytes)
    return Plan(writes=tuple(writes), missing=tuple(missing))


def limit_plan(read: Read, *, cpu_cores: float | None, memory_bytes: int | None) -> Plan:
    """Memory reclaimed at 90 % and bounded at ``memory_bytes``, CPU bounded at ``cpu_cores``.

    ``memory.max`` is left alone while the group uses more than that: lowering it below current use
    calls the kernel's OOM killer at once, and a lowered quota must start the ladder, not a kill.
    """
    writes: list[Write] = []
    missing: list[str] = []
    if memory_bytes is not None:
        if read("memory.max") is not None:
            names = ("memory.high", "memory.max", "memory.current")
        else:
            names = (
                "memory.soft_limit_in_bytes",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        high, hard, usage = names
        if read(hard) is None:
            missing.append("memory")
        else:
            writes += _tighten(high, read, int(memory_bytes * HIGH_SHARE))
            if _bytes(read(usage)) <= memory_bytes:
                writes += _tighten(hard, read, memory_bytes)
    if cpu_cores is not None:
        writes += cpu_writes(read, cpu_cores)
        if not _has_cpu(read):
            missing.append("cpu")
    return Plan(writes=tuple(writes), missing=tuple(missing))


def cpu_writes(read: Read, cores: float) -> list[Write]:
    """The write that bounds CPU time to ``cores``, keeping the group's own period; none if tighter."""
    v2 = read("cpu.max")
    if v2 is not None:
        quota, _, period = v2.partition(" ")
        period_us = int(period) if _NUMBER.match(period) else DEFAULT_PERIOD_US
        wanted = max(_MIN_QUOTA_US, int(cores * period_us))
        if _NUMBER.match(quota) and int(quota) <= wanted:
            return []
        return [Write(name="cpu.max", value=f"{wanted} {period_us}", old=v2)]
    v1 = read("cpu.cfs_quota_us")
    if v1 is None:
        return []
    period = read("cpu.cfs_period_us") or ""
    period_us = int(period) if _NUMBER.match(period) else DEFAULT_PERIOD_US
    wanted = max(_MIN_QUOTA_US, int(cores * period_us))
    if _NUMBER.match(v1) and int(v1) <= wanted:
        return []
    return [Write(name="cpu.cfs_quota_us", value=str(wanted), old=v1)]


def is_as_written(name: str, wanted: str, found: str, page_bytes: int) -> bool:
    """Whether the file now says what was written; byte limits are rounded to pages by the kernel."""
    if name.startswith("memory.") and _NUMBER.match(wanted):
        return abs(_bytes(found) - int(wanted)) < page_bytes
    return found == wanted


def parse_pressure(resource: str, text: str) -> Mapping[str, float]:
    """PSI text -> ``memory_some_avg10`` and the like, in percent; what is not understood is left out."""
    values: dict[str, float] = {}
    # some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459
    for line in text.splitlines():
        kind, *fields = line.split()
        for field in fields:
            key, _, number = field.partition("=")
            if kind in ("some", "full") and re.fullmatch(r"avg[0-9]+", key):
                try:
                    values[f"{resource}_{kind}_{key}"] = float(number)
                except ValueError:
                    continue
    return values


def _has_cpu(read: Read) -> bool:
    return read("cpu.max") is not None or read("cpu.cfs_quota_us") is not None


def _least_weight(read: Read) -> list[Write]:
    # smallest values the kernel accepts: cpu.weight 1, cpu.shares 2
    for name, least in (("cpu.weight", 1), ("cpu.shares", 2)):
        old = read(name)
        if old is not None:
            return [Write(name=name, value=str(least), old=old)] if old != str(least) else []
    return []


def _tighten(name: str, read: Read, wanted: int) -> list[Write]:
    old = read(name)
    if old is None or _bytes(old) <= wanted:
        return []
    return [Write(name=name, value=str(wanted), old=old)]


def _bytes(text: str | None) -> int:
    """Bytes a limit stands for; ``max`` and v1's huge default are no limit."""
    return int(text) if text is not None and _NUMBER.match(text) else _V1_UNLIMITED
