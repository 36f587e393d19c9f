"""Runs as init of a pid namespace: reuses one pid again and again and counts wrong signals.

Prints one JSON object. Started by test_procfs.py through ``unshare --pid --fork --mount-proc``.
"""

import json
import os
import signal
import subprocess
import sys
import threading

from gpuwarden.adapters.procfs import ProcFs
from gpuwarden.errors import Refused


def start_as(pid: int) -> subprocess.Popen[bytes] | None:
    """A child with exactly this pid, if the kernel gives it."""
    with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as file:
        file.write(str(pid - 1))
    child = subprocess.Popen(["sleep", "60"])
    if child.pid == pid:
        return child
    child.kill()
    child.wait()
    return None


def main(rounds: int, has_pidfd: bool) -> None:
    processes = ProcFs(None, has_pidfd=has_pidfd)
    tick = threading.Event()
    counts = {"rounds": 0, "refused": 0, "wrong": 0, "confused": 0}
    for number in range(rounds):
        wanted = 300 + number % 20_000
        victim = start_as(wanted)
        assert victim is not None
        facts = processes.facts(wanted)
        assert facts is not None
        tick.wait(0.02)  # start times count in ticks of 10 ms
        victim.kill()
        victim.wait()
        heir = start_as(wanted)
        assert heir is not None
        counts["rounds"] += 1
        try:
            processes.signal(facts.pid, signal.SIGKILL)
        except Refused:
            counts["refused"] += 1
        now = processes.facts(wanted)
        is_told_apart = (
            now is not None
            and now.pid != facts.pid
            and not processes.is_alive(facts.pid)
            and processes.reread(facts.pid) is None
            and facts.pid in processes.exited()
        )
        counts["confused"] += not is_told_apart
        tick.wait(0.002)
        counts["wrong"] += heir.poll() is not None
        heir.kill()
        heir.wait()
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    assert os.getpid() == 1, "only as init of a pid namespace of its own"
    main(int(sys.argv[1]), sys.argv[2] == "pidfd")
