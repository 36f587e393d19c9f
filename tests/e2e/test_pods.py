"""Pods of a real containerd over quota; the test is their kubelet, and starts again what was stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuwarden.model.action import Kind, Result
from gpuwarden.model.tenant import Tenant, TenantClass
from gpuwarden.sim.host import SimHost
from tests.adapters.kubelet import Kubelet, Pod, daemon_pid, endpoint, kubelet, pids_of
from tests.e2e.agent import ROOT, Agent, MakeAgent
from tests.e2e.containers import bytes_on

pytestmark = [pytest.mark.containerd, pytest.mark.root]

POLICY = """
[cri]
endpoint = "{endpoint}"
timeout_s = "{timeout}"
[nvml]
limiter = "none"
[quota]
warmup_s = "100ms"
[ladder]
tombstone_window_s = "{window}"
[sampling]
list_every_s = "500ms"
[default]
memory = "8GiB"
[[tenant]]
match = {{name = "bank/risk-*"}}
class = "protected"
memory = "2GiB"
"""

Run = Callable[..., str]
Watch = Callable[..., Agent]


@pytest.fixture
def kube() -> Iterator[Kubelet]:
    with kubelet() as made:
        yield made


@pytest.fixture
def run(host: SimHost, kube: Kubelet) -> Run:
    """Starts a workload in a pod's container; its id."""

    def start(pod: Pod, *words: str, name: str = "app", attempt: int = 0) -> str:
        return kube.container(
            pod,
            str(host.built.workload),
            *words,
            name=name,
            attempt=attempt,
            mounts=(host.folder, host.built.folder),
            env={"GPUWARDEN_SIM_DIR": str(host.folder), "NVIDIA_VISIBLE_DEVICES": "0"},
        )

    return start


@pytest.fixture
def watch(host: SimHost, make_agent: MakeAgent) -> Watch:
    """An agent that runs and sees."""

    def start(*, window: str = "2s", timeout: str = "3s", at: str = "", **env: str) -> Agent:
        config = POLICY.format(endpoint=at or endpoint(), window=window, timeout=timeout)
        agent = make_agent(host, config, env={**os.environ, **env}).start()
        agent.until_seen(2)
        return agent

    return start


HOG = ("hog", "--size", "12GiB", "--rate", "30GiB/s")
GRACE = {"gpuwarden.grace": "3s"}


def named(agent: Agent, name: str) -> Tenant:
    """The tenant, once its runtime has told who it is."""

    def described() -> Tenant | None:
        tenant = agent.tenant(name)
        return tenant if tenant is not None and tenant.is_described else None

    tenant = agent.until(f"{name} is described", described)
    assert tenant is not None
    return tenant


def until_gone(agent: Agent, pod: Pod, container_id: str) -> None:
    agent.until(f"{container_id[:8]} is dead", lambda: pids_of(pod, container_id) == [])


@pytest.mark.parametrize("more", [(), ("--ignore-term",)])
def test_a_pod_s_container_is_evicted_and_no_other(
    host: SimHost, kube: Kubelet, run: Run, watch: Watch, more: tuple[str, ...]
) -> None:
    agent = watch()
    low = kube.pod(name="train-0", labels={"gpuwarden.class": "low"}, annotations=GRACE)
    risk = kube.pod(name="risk-0", namespace="bank")
    safe = run(risk, "hold", "--size", "6GiB")
    within = run(low, "hold", "--size", "7GiB", name="beside")
    assert named(agent, "bank/risk-0/app").cls is TenantClass.PROTECTED
    named(agent, "shop/train-0/beside")
    hog = run(low, *HOG, *more)
    until_gone(agent, low, hog)
    agent.until_closed()
    (incident,) = [i for i in agent.view().incidents if i.tenant_name == "shop/train-0/app"]
    assert incident.tenant == f"pod:{low.uid}/{hog}"
    agent.until_done(Kind.STOP)  # its runtime knows that it was ended; it may say so later
    kinds = [step.kind for step in incident.steps if step.result == Result.DONE]
    assert (Kind.KILL in kinds) == bool(more)
    assert bytes_on(host) == 13 * 2**30
    assert pids_of(risk, safe)
    assert pids_of(low, within)
    assert pids_of(low, low.id), "the pod itself lives"


def test_what_annotations_claim_is_capped(kube: Kubelet, run: Run, watch: Watch) -> None:
    agent = watch()
    claims = {"gpuwarden.memory": "4GiB", "gpuwarden.class": "protected", **GRACE}
    pod = kube.pod(name="train-0", annotations=claims)
    hold = run(pod, "hold", "--size", "6GiB")
    until_gone(agent, pod, hold)
    told = [f.summary for f in agent.view().findings if f.rule == "labels"]
    (incident,) = [i for i in agent.view().incidents if i.rule == "quota"]
    assert incident.quota_bytes == 4 * 2**30
    assert told == [] or "shop/train-0/app" in told[0]


def test_what_the_kubelet_starts_again_and_again_is_held(
    kube: Kubelet, run: Run, watch: Watch
) -> None:
    """No restart policy can be switched off here: the owner's name across restarts has to do."""
    agent = watch(window="60s")
    pod = kube.pod(name="train-0", annotations=GRACE)
    for attempt in range(3):
        hog = run(pod, *HOG, attempt=attempt)
        until_gone(agent, pod, hog)
        agent.until_closed(attempt + 1)
        kube.remove_container(hog)
    assert agent.diary.outcomes(Kind.RESTART_OFF) == []
    meek = run(pod, "hold", "--size", "1GiB", attempt=3)
    until_gone(agent, pod, meek)
    agent.until_closed(4)
    (stone,) = agent.view().tombstones
    assert (stone.owner_key, stone.is_paged) == ("kubernetes:shop/train-0/app", True)
    held = [i for i in agent.view().incidents if i.rule == "tombstone"]
    assert [i.tenant for i in held] == [f"pod:{pod.uid}/{meek}"]


def test_containerd_hangs_in_mid_eviction(
    host: SimHost, kube: Kubelet, run: Run, watch: Watch
) -> None:
    agent = watch(timeout="500ms")
    pod = kube.pod(name="train-0", annotations=GRACE)
    fuse = host.folder / "grow"
    hog = run(pod, *HOG, "--ignore-term", "--start-size", "1GiB", "--start-when", str(fuse))
    named(agent, "shop/train-0/app")
    pids, daemon = pids_of(pod, hog), daemon_pid()
    os.kill(daemon, signal.SIGSTOP)
    try:
        fuse.touch()
        agent.until("its processes are gone", lambda: not any(map(_is_there, pids)))
        agent.until("its bytes are back", lambda: bytes_on(host) == 0)
        agent.until(
            "that the CRI hangs is told",
            lambda: any(
                "did not answer" in o.detail
                for o in agent.diary.outcomes(Kind.STOP, result=Result.FAILED)
            ),
        )
    finally:
        os.kill(daemon, signal.SIGCONT)
    agent.until("it is settled", lambda: not agent.view().cases)
    assert agent.diary.outcomes(Kind.KILL, result=Result.DONE)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_where_no_cri_is_found_it_says_why_it_cannot_act(
    host: SimHost, kube: Kubelet, run: Run, watch: Watch, folder: Path
) -> None:
    nowhere = f"{folder}/none.sock"
    agent = watch(at=f"unix://{nowhere}", CONTAINERD_ADDRESS=nowhere)
    pod = kube.pod(name="train-0")
    hog = run(pod, *HOG)
    tenant = f"pod:{pod.uid}/{hog}"
    why = agent.until("why is told", lambda: _cannot_act(agent, tenant))
    assert f"no CRI here (cri.endpoint; looked at {nowhere})" in why
    assert f"no containerd at {nowhere}" in why
    held = agent.until("that it is withheld is told", lambda: agent.diary.withheld("cannot-act"))
    assert (held[0].tenant, held[0].detail) == (tenant, why)
    assert pids_of(pod, hog)
    assert agent.diary.actions(Kind.TERM, Kind.KILL, Kind.STOP) == []
    explained = gpuwarden(agent, "explain", "last")
    assert "no CRI here" in explained
    assert "gpuwarden cannot stop this kind of owner here: end the job by hand." in explained
    assert "no CRI here" in gpuwarden(agent, "tenants")


def _cannot_act(agent: Agent, tenant: str) -> str:
    found = agent.tenant(tenant)
    return (found.cannot_act or "") if found is not None else ""


def gpuwarden(agent: Agent, *words: str) -> str:
    """What a person reads, line breaks of the tables taken out."""
    done = subprocess.run(
        [sys.executable, "-m", "gpuwarden", *words, "--socket", agent.run_dir / "gpuwarden.sock"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent"), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr
