"""Reliability case 47: out of memory, of descriptors, of threads. It comes back by systemd, in no loop, and jobs run on."""

from __future__ import annotations

from place import write
from steps import must
from unit_life import UnitLife

STARTS_MOST = 5
"""In ten minutes: then systemd has given it up, and people are told."""


def few_descriptors(life: UnitLife, jobs: str) -> None:
    with life.steps.step(life.place.name, "64 descriptors: it runs and answers") as notes:
        _limited(life, "LimitNOFILE=64")
        life.do(f"systemctl restart {life.unit}")
        life.until("it answers", lambda: life.ask("status"))
        pid = life.pid()
        life.do("sleep 5")
        must(life.pid() == pid, "it does not stay up")
        must(_jobs(life) == jobs, "a job is not what it was")
        used = life.do(f"ls /proc/{pid}/fd | wc -l")
        notes.append(f"{used} in use")
        _unlimited(life)


def out_of_memory(life: UnitLife, jobs: str) -> None:
    """The kernel's own killer, in the unit's group; the next start has a group of its own, with the unit's limit."""
    with life.steps.step(life.place.name, "killed for memory: systemd starts it again") as notes:
        pid = life.pid()
        group = f"/sys/fs/cgroup{life.shown('ControlGroup')}"
        life.do(f"echo 4M >{group}/memory.max || :", 120)
        life.until("another process is active", lambda: life.is_another(pid))
        life.until("it answers", lambda: life.ask("status"))
        must(_jobs(life) == jobs, "a job is not what it was")
        said = life.do("dmesg | grep -i 'memory cgroup out of memory' | tail -1")
        must(said, "the kernel killed nothing")
        notes.append(said[-80:])


def few_threads(life: UnitLife, jobs: str) -> None:
    with life.steps.step(
        life.place.name,
        f"3 threads: not more than {STARTS_MOST} starts, and back without the limit",
    ) as notes:
        _limited(life, "TasksMax=3")
        before = _tries(life)
        life.do(f"systemctl restart {life.unit} || :", 120)
        life.until(
            "it is given up, or up", lambda: life.shown("ActiveState") in ("failed", "active"), 120
        )
        life.do("sleep 10")
        tries = _tries(life) - before
        must(tries <= STARTS_MOST, f"it was started {tries} times")
        must(_jobs(life) == jobs, "a job is not what it was")
        notes.append(f"{life.shown('ActiveState')} after {tries} starts")
        _unlimited(life)
        life.until("it answers", lambda: life.ask("status"))


def _tries(life: UnitLife) -> int:
    said = life.do(f"journalctl --no-pager -o cat -u {life.unit} | grep -c '^Starting ' || :")
    return int(said or 0)


def _jobs(life: UnitLife) -> str:
    return life.do("ps -C workload -o pid=,lstart=,args= | sort")


def _limited(life: UnitLife, setting: str) -> None:
    # On an emulated machine five starts take longer than the interval in which five are too many.
    interval_s = 300 * life.place.slow
    write(
        life.place,
        f"/run/systemd/system/{life.unit}.d/scarce.conf",
        f"[Unit]\nStartLimitIntervalSec={interval_s:g}\n[Service]\n{setting}\n",
    )
    life.do("systemctl daemon-reload")


def _unlimited(life: UnitLife) -> None:
    life.do(
        f"rm /run/systemd/system/{life.unit}.d/scarce.conf; systemctl daemon-reload;"
        f" systemctl reset-failed {life.unit}; systemctl restart {life.unit}"
    )
    life.until("it is active again", life.is_active)
