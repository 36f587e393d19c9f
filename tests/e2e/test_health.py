"""Faults injected into a running simulated host: the agent finds them, says so, and lets go of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.gpu_tasks import INITIAL_NAMESPACE
from gpuwarden.adapters.run_claim import SOCKET_NAME
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.finding import Finding, Scope
from gpuwarden.sim import holder
from gpuwarden.sim.host import SimHost
from tests.adapters.host_tree import HostTree
from tests.commands.cli_run import run
from tests.e2e.agent import Agent, MakeAgent, MakeHost

pytestmark = [pytest.mark.serial, pytest.mark.timeout(240)]

HOLDER = Path(holder.__file__)
QUICK = "".join(
    f'[health.{rule}]\ngrace_s = "1s"\nprobation_s = "1s"\n'
    for rule in (
        *("remap", "throttle", "thermal", "power", "persistence", "fabric"),
        *("mismatch", "dstate", "zombie", "services", "count"),
    )
)
HASTE = f"""
[agent]
mode = "observe"
[health]
window_s = "2s"
surroundings_every_s = "500ms"
root = "{{root}}"
{QUICK}
[health.nvlink]
down_grace_s = "1s"
probation_s = "1s"
[health.pcie]
link_grace_s = "1s"
probation_s = "1s"
[health.ecc]
probation_s = "1s"
[ladder]
page_after_s = "500ms"
"""
CLASS_S = 40.0
"""Beyond a period of the 15 s class and what has to last."""
LINK_S = 100.0
"""Beyond a period of the 60 s class."""


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(devices=2, profile="H100-80")


@pytest.fixture
def tree(folder: Path) -> HostTree:
    """A host whose driver, library and fabric manager are as they should be."""
    tree = HostTree(folder / "root")
    tree.write("dev/null", "")
    tree.write("sys/module/nvidia/version", "580.95.05\n")
    library = "usr/lib/x86_64-linux-gnu"
    tree.write(f"{library}/libnvidia-ml.so.580.95.05", b"\x7fELF")
    tree.link(f"{library}/libnvidia-ml.so.1", "libnvidia-ml.so.580.95.05")
    tree.unit("nvidia-fabricmanager.service", enabled=True)
    tree.process(300, "nv-fabricmanage")
    tree.gpu("0000:c1:00.0", kind="0x068000", driver="nvidia-nvswitch")
    return tree


def started(make_agent: MakeAgent, host: SimHost, root: Path) -> Agent:
    agent = make_agent(host, HASTE.format(root=root)).start()
    agent.until_seen(2)
    agent.until("health is told", lambda: all(d.health for d in agent.view().snapshot.devices))
    return agent


def standing(agent: Agent) -> dict[str, Finding]:
    """Faults that stand now, by key; what the simulated driver's own version makes is left out."""
    found = {f.key: f for f in agent.view().findings if f.fault}
    return {key: f for key, f in found.items() if f.rule not in ("wallclock",)}


def faults(agent: Agent) -> set[str]:
    return {f.fault for f in standing(agent).values()}


def shown(agent: Agent, *words: str) -> str:
    answer = run(*words, "--socket", str(agent.run_dir / SOCKET_NAME), width=160)
    return answer.output


def test_boards_that_fall_ill_and_get_well(
    host: SimHost, make_agent: MakeAgent, folder: Path
) -> None:
    agent = started(make_agent, host, folder / "nothing")
    first, second = agent.device(0).id, agent.device(1).id
    assert standing(agent) == {}
    host.control("remap", device=0, pending=1)
    host.control("ecc", device=0, uncorrected=True)
    host.control("nvlink", device=1, link=5, up=0)
    host.control("thermal", device=1, reasons=0x48)
    host.control("pcie", device=1, width=4)
    wanted = {
        f"row-remap-pending {first}": Scope.GPU,
        f"ecc-uncorrected {first}": Scope.GPU,
        f"nvlink-down {second}": Scope.LINK,
        f"throttle-heat {second}": Scope.GPU,
        f"pcie-width {second}": Scope.LINK,
    }
    agent.until(
        "all of it is found", lambda: wanted.keys() <= standing(agent).keys(), within_s=LINK_S
    )
    assert {key: f.scope for key, f in standing(agent).items()} == wanted
    status = shown(agent, "status")
    for words in (
        "GPU 0 has a row of memory to be remapped",
        "GPU 1 has lost NVLink 5",
        "GPU 1 has a PCIe link of 4 lanes, 16 are possible",
    ):
        assert words in status
    mine = [i for i in agent.view().incidents if i.device == first]
    assert len(mine) == 1, "one device, one incident"
    story = shown(agent, "explain", mine[0].id)
    assert "uncorrected ECC errors" in story
    assert "remap" in story
    # All but the remap, which waits for the next reset; what was found last is told a moment later.
    agent.until("they are told of", lambda: len(agent.diary.actions(Kind.PAGE)) == 4)
    pages = agent.diary.actions(Kind.PAGE)
    assert agent.diary.actions(*HARMFUL) == []
    host.control("remap", device=0, pending=0)
    host.control("reset", device=0)
    host.control("nvlink", device=1, link=5, up=1)
    host.control("thermal", device=1, reasons=0)
    host.control("pcie", device=1, width=16)
    agent.until("all of it is over", lambda: not standing(agent), within_s=LINK_S)
    agent.until_closed(2)
    assert len(agent.diary.actions(Kind.PAGE)) == len(pages)


def test_the_fabric_manager_ends_and_the_library_is_upgraded(
    host: SimHost, make_agent: MakeAgent, tree: HostTree
) -> None:
    agent = started(make_agent, host, tree.root)
    library = "usr/lib/x86_64-linux-gnu/libnvidia-ml.so"
    # The simulated library tells a version of its own; the module's is made to agree with it.
    driver = agent.view().snapshot.driver
    assert driver is not None
    ours = driver.library.partition(".")[2]
    tree.write("sys/module/nvidia/version", f"{ours}\n")
    tree.write(f"{library}.{ours}", b"\x7fELF")
    tree.link(f"{library}.1", f"libnvidia-ml.so.{ours}")
    agent.until("all is well", lambda: not standing(agent))
    (tree.root / "proc/300/stat").unlink()
    tree.write(f"{library}.590.44.01", b"\x7fELF")
    tree.link(f"{library}.1", "libnvidia-ml.so.590.44.01")
    wanted = {"nvidia-fabricmanager-down", "driver-mismatch"}
    agent.until("both are found", lambda: standing(agent).keys() == wanted)
    assert {f.scope for f in standing(agent).values()} == {Scope.NODE}
    status = shown(agent, "status")
    assert "nvidia-fabricmanager is not running, and there are 1 NVSwitches" in status
    (opened,) = [i for i in agent.view().incidents if i.rule == "mismatch"]
    assert "590.44.01" in shown(agent, "explain", opened.id)
    tree.process(300, "nv-fabricmanage")
    tree.link(f"{library}.1", f"libnvidia-ml.so.{ours}")
    agent.until("both are over", lambda: not standing(agent))


def test_a_driver_that_refuses_its_library(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    host = make_host(2)
    host.control("error", function="nvmlInitWithFlags", code=18)
    agent = make_agent(host, HASTE.format(root=folder / "nothing")).start()
    agent.until("it is a finding", lambda: "driver-mismatch" in standing(agent))
    assert "new GPU programs fail" in shown(agent, "status")
    host.control("clear_faults")
    agent.until_seen(2)


def test_a_device_that_falls_off_is_missed_and_comes_back(
    host: SimHost, make_agent: MakeAgent, tree: HostTree
) -> None:
    for n in range(2):
        tree.gpu(f"0000:0{n}:00.0")
    agent = started(make_agent, host, tree.root)
    host.control("lose", device=1)
    agent.until("it is missed", lambda: "device-count" in standing(agent))
    assert "1 GPUs are here, 2 are on the PCI bus" in shown(agent, "status")
    host.control("restore", device=1)
    agent.until("it is here", lambda: "device-count" not in standing(agent), within_s=CLASS_S)


@contextlib.contextmanager
def misbehaving(host: SimHost, *words: str) -> Iterator[int]:
    """The pid of a holder of device memory."""
    process = subprocess.Popen(
        [sys.executable, str(HOLDER), str(host.folder / "driver.sock"), *words],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        process.stdout.close()


@pytest.fixture
def in_host_namespace() -> None:
    if os.readlink("/proc/self/ns/pid") != INITIAL_NAMESPACE:
        pytest.skip("not in the host's pid namespace: the driver's pids would be other processes")


@pytest.mark.usefixtures("in_host_namespace")
def test_memory_of_a_zombie(make_host: MakeHost, make_agent: MakeAgent) -> None:
    host = make_host(2)
    agent = started(make_agent, host, Path("/"))
    with misbehaving(host, "zombie") as pid:
        key = f"memory-of-the-dead {agent.device(0).id} {pid}"
        agent.until("it is found", lambda: key in standing(agent))
        assert f"keeps 1.0 GiB for process {pid}" in shown(agent, "status")
        assert "which is a zombie" in standing(agent)[key].summary
    agent.until("it is over", lambda: key not in standing(agent))


@pytest.mark.usefixtures("in_host_namespace")
def test_a_task_that_is_stuck_in_the_kernel(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    host = make_host(2)
    agent = started(make_agent, host, Path("/"))
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    with misbehaving(host, "stuck", str(fifo)) as pid:
        agent.until("it is found", lambda: any(f"{pid}@" in key for key in standing(agent)))
        assert f"process {pid} (" in shown(agent, "status")
        assert agent.diary.actions(*HARMFUL) == []
        with open(fifo, "wb"):
            pass
        agent.until("it is over", lambda: not any(f"{pid}@" in key for key in standing(agent)))


def test_an_agent_with_every_fault_of_a_board_stays_well_itself(
    make_host: MakeHost, make_agent: MakeAgent, folder: Path
) -> None:
    """Modes and limits are read with the first sample: they are ill before the agent starts."""
    host = make_host(1, "H100-80")
    host.control("modes", device=0, persistence=0, ecc=0)
    host.control("power", device=0, held_w=300)
    host.control("inforom", device=0, corrupted=1)
    host.control("spares", device=0, none=3)
    host.control("fabric", device=0, state=2)
    host.control("ecc", device=0, count=0, sram_threshold=1)
    host.control("thermal", device=0, celsius=92)
    agent = make_agent(host, HASTE.format(root=folder / "nothing")).start()
    wanted = {
        *("ecc-off", "inforom-corrupted", "row-remap-spares", "persistence-off"),
        *("fabric-incomplete", "thermal-core", "power-held"),
    }
    agent.until(
        "everything is found",
        lambda: seen if wanted <= (seen := {f.fault for f in standing(agent).values()}) else None,
        within_s=LINK_S,
    )
    assert "sram-threshold" not in faults(agent), "with ECC off there is no such flag"
    assert agent.defects() == []
