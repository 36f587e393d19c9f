"""Real containers on the private dockerd of scripts/services, for tests marked ``docker``."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

IMAGE = "gpuwarden-test:busybox"
MARK = "gpuwarden.test=1"


def docker(*args: str, timeout_s: float = 60.0) -> str:
    """The docker CLI against the tests' own daemon; its output without the last line break."""
    done = subprocess.run(
        ["docker", *args], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def host() -> str:
    return os.environ["DOCKER_HOST"]


@contextmanager
def container(*options: str, command: tuple[str, ...] = ("sleep", "300")) -> Iterator[str]:
    """A running container; its full id. Removed afterwards together with what replaced it."""
    name = f"gw-{uuid.uuid4().hex[:10]}"
    made = docker("run", "--detach", "--label", MARK, "--name", name, *options, IMAGE, *command)
    try:
        yield made
    finally:
        same = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"name={name}")
        for one in {made, *same.split()}:
            subprocess.run(["docker", "unpause", one], capture_output=True, check=False, timeout=60)
            subprocess.run(
                ["docker", "rm", "--force", one], capture_output=True, check=False, timeout=60
            )


def inspect(container_id: str, form: str) -> str:
    return docker("inspect", "--format", "{{" + form + "}}", container_id)


def init_pid(container_id: str) -> int:
    return int(inspect(container_id, ".State.Pid"))
