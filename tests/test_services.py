"""The private daemons of scripts/services are real ones: containers and jobs run in control groups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "gpuwarden-test:busybox"
CALL_TIMEOUT_S = 30


def run(*command: str | Path) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=CALL_TIMEOUT_S
    ).stdout


@pytest.fixture
def sleeper(variable: str) -> Iterator[Container]:
    """A container that runs until the test ends, at the daemon whose address the variable holds."""
    client = docker.DockerClient(base_url=os.environ[variable], timeout=CALL_TIMEOUT_S)
    container = client.containers.run(IMAGE, ["sleep", "600"], detach=True)
    try:
        container.reload()
        yield container
    finally:
        container.remove(force=True)
        client.close()


@pytest.mark.parametrize(
    "variable",
    [
        pytest.param("DOCKER_HOST", marks=pytest.mark.docker),
        pytest.param("PODMAN_HOST", marks=pytest.mark.podman),
    ],
)
def test_containers_are_processes_of_this_host_in_groups_of_their_own(sleeper: Container) -> None:
    pid = sleeper.attrs["State"]["Pid"]
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x00600\x00"
    assert str(sleeper.id) in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")


@pytest.mark.docker
def test_private_docker_shows_nothing_of_this_machine() -> None:
    assert os.environ["DOCKER_HOST"].startswith("unix://")
    assert os.environ["DOCKER_HOST"] != "unix:///var/run/docker.sock"
    client = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], timeout=CALL_TIMEOUT_S)
    assert client.info()["DockerRootDir"] == str(ROOT / ".services" / "docker" / "data")
    client.close()


@pytest.mark.containerd
def test_private_containerd_shows_nothing_of_this_machine() -> None:
    address = os.environ["CONTAINERD_ADDRESS"]
    assert os.environ["CONTAINER_RUNTIME_ENDPOINT"] == f"unix://{address}"
    assert address != "/run/containerd/containerd.sock"
    images = run("ctr", "--address", address, "--namespace=k8s.io", "images", "list", "--quiet")
    named = {line for line in images.splitlines() if not line.startswith("sha256:")}
    assert named == {
        "docker.io/library/gpuwarden-test:busybox",
        "docker.io/library/gpuwarden-test:pause",
    }


@pytest.mark.slurm
def test_slurm_runs_a_job_and_cancels_it(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    job = run(
        "sbatch", "--parsable", "--output=/dev/null", f"--wrap=echo $$ > {started}; sleep 600"
    ).strip()
    # Opening the other end of the pipe waits for the job; pytest-timeout is its deadline.
    pid = int(started.read_text(encoding="utf-8"))
    assert b"slurm_script" in Path(f"/proc/{pid}/cmdline").read_bytes()
    run("scancel", job)
    deadline = time.monotonic() + CALL_TIMEOUT_S
    while state := run("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip():
        assert time.monotonic() < deadline, f"job {job} is still {state}"
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.promtool
def test_promtool_judges_metrics() -> None:
    asked = subprocess.run(
        ["promtool", "check", "metrics"],
        input="# TYPE gpuwarden_up gauge\ngpuwarden_up 1\n",
        capture_output=True,
        text=True,
        timeout=CALL_TIMEOUT_S,
        check=False,
    )
    assert asked.returncode == 3
    assert "no help text" in asked.stderr


@pytest.mark.lxc
def test_lxc_starts_a_container_in_a_group_of_its_own(tmp_path: Path) -> None:
    name = f"gw{os.getpid()}"
    at = (f"--lxcpath={tmp_path}", f"--name={name}")
    run("lxc-create", *at, "--template=busybox")
    config = tmp_path / name / "config"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("lxc.net.")]
    config.write_text("\n".join([*kept, "lxc.net.0.type = empty", ""]), encoding="utf-8")
    run("lxc-start", *at)
    try:
        pid = run("lxc-info", *at, "--pid", "--no-humanize").strip()
        assert name in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    finally:
        run("lxc-stop", *at, "--kill")
        run("lxc-destroy", *at)
        for left in Path("/sys/fs/cgroup").glob("*/lxc.pivot"):
            with contextlib.suppress(OSError):  # not empty: another container's monitor is in it
                left.rmdir()
