"""``/proc/<pid>/cgroup`` -> who owns the process. Text in, ``CgroupOwner`` out; nothing is guessed.

A file has one line a hierarchy, and they disagree in the field: on hybrid hosts ``0::`` may name the
containerd service while the v1 lines name the pod, Slurm leaves ``pids`` and ``devices`` at
slurmd.service, old Docker kept ``memory`` at the root. So every line is read and the one that tells
most is believed; between equals the innermost, then memory, pids, name=systemd, ``0::``, the rest.
"""

import json
import re
from collections.abc import Iterator
from typing import TextIO

from gpuwarden.adapters import cgroup_path
from gpuwarden.adapters.cgroup_unit import Reading
from gpuwarden.model.owner import CgroupOwner

# 9:memory:/slurm/uid_2179/job_11811379/step_0/task_0
# 0::/kubepods-pod22949dce_fd8b_11ea_8ede_98f2b32c645c.slice:cri-containerd:b15a...c07f
_LINE = re.compile(r"[0-9]{1,10}:(?P<controllers>[^:]*):(?P<path>/.*)", re.ASCII)
_PREFERENCE = ("memory", "pids", "name=systemd", "")
_MAX_TEXT = 256 * 1024
_MAX_LINE = 4 * 1024 * 1024
_UNKNOWN = CgroupOwner(runtime="unknown", cgroup_path=None, leaf_path=None)


def owner_of(text: str) -> CgroupOwner:
    """The owner that the contents of a cgroup file name; ``runtime="unknown"`` where they do not tell.

    Never fails: lines that are no cgroup lines are skipped, and a file without one has no paths.
    """
    readings: dict[str, Reading] = {}
    best: tuple[tuple[int, int, int], Reading] | None = None
    for line in text[:_MAX_TEXT].split("\n"):
        match = _LINE.fullmatch(line.strip(" \t\r"))
        if match is None:
            continue
        path = match["path"]
        if path not in readings:
            readings[path] = cgroup_path.read(path)
        reading = readings[path]
        key = (reading.strength, reading.depth, -_preference(match["controllers"]))
        if best is None or key > best[0]:
            best = (key, reading)
    return best[1].owner if best else _UNKNOWN


def owner_of_bytes(raw: bytes) -> CgroupOwner:
    """As ``owner_of``; bytes that are no UTF-8 keep their identity as surrogates."""
    return owner_of(raw.decode("utf-8", "surrogateescape"))


def owner_of_pid(pid: int, proc: str = "/proc") -> CgroupOwner | None:
    """The owner of a process now; ``None`` when it is gone or cannot be read."""
    try:
        with open(f"{proc}/{pid}/cgroup", "rb") as file:
            return owner_of_bytes(file.read(_MAX_TEXT))
    except OSError:
        return None


def owner_of_cgroup_lines(stdin: TextIO, stdout: TextIO) -> int:
    """JSON lines ``{"text": ...}`` in, one JSON object a line out; 1 when a line was no such object.

    This is the agent's own code path made visible: ``gpuwarden debug owner-of-cgroup``.
    """
    status = 0
    for line in _lines(stdin):
        if not line.strip():
            continue
        answer = _answer(line)
        if "error" in answer:
            status = 1
        stdout.write(json.dumps(answer) + "\n")
        stdout.flush()
    return status


def _lines(stdin: TextIO) -> Iterator[str]:
    """Lines of at most ``_MAX_LINE`` characters; bytes that are no UTF-8 stop nothing."""
    raw = getattr(stdin, "buffer", None)
    while True:
        if raw is not None:
            line = raw.readline(_MAX_LINE).decode("utf-8", "surrogateescape")
        else:
            line = stdin.readline(_MAX_LINE)
        if not line:
            return
        yield line


def _preference(controllers: str) -> int:
    names = controllers.split(",")
    for rank, wanted in enumerate(_PREFERENCE):
        if wanted in names:
            return rank
    return len(_PREFERENCE)


def _answer(line: str) -> dict[str, str | None]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f'expected a JSON object with "text", got no JSON: {str(error)[:200]}'}
    if not isinstance(request, dict) or not isinstance(request.get("text"), str):
        return {"error": 'expected a JSON object with "text", a string'}
    owner = owner_of(request["text"])
    answer = {
        "runtime": owner.runtime,
        "container_id": owner.container_id,
        "pod_uid": owner.pod_uid,
        "cgroup_path": owner.cgroup_path,
    }
    for key in ("leaf_path", "unit", "job_id", "name"):
        value = getattr(owner, key)
        if value is not None:
            answer[key] = value
    return answer
