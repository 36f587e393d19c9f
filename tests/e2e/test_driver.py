"""The driver hangs, loses devices, moves them, goes away: what can be seen is guarded, what cannot be is
never judged."""

from __future__ import annotations

import pytest

from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.device import Sight
from gpuwarden.sim.host import SimHost, Workload
from tests.e2e.agent import Agent, MakeAgent, MakeHost
from tests.e2e.plain import Plain

pytestmark = pytest.mark.serial

POLICY = """
[sampling]
list_every_s = "500ms"
[quota]
warmup_s = "100ms"
[[tenant]]
match = {comm = "hog*"}
class = "low"
memory = "8GiB"
grace = "200ms"
"""
MEMORY = "nvmlDeviceGetMemoryInfo_v2"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
TEMPERATURE = "nvmlDeviceGetTemperatureV"  # of the slow classes


@pytest.fixture
def host(make_host: MakeHost) -> SimHost:
    return make_host(4)


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    """Runs, and sees four devices."""
    agent = make_agent(host, POLICY).start()
    agent.until_seen(4)
    return agent


def hog(plain: Plain, device: int, *more: str, name: str = "hog") -> Workload:
    words = ("hog", "--size", "12GiB", "--rate", "30GiB/s", *more)
    return plain.run(name, *words, device=device, wait=False)


def evicted(agent: Agent, offender: Workload) -> None:
    agent.until("the hog is gone", lambda: not offender.is_running())


def sights(agent: Agent) -> list[Sight]:
    return [d.sight for d in sorted(agent.view().snapshot.devices, key=lambda d: d.index)]


def others_fresh(agent: Agent, but: int) -> bool:
    """Whether every other device has been sampled within the time the agent itself calls fresh."""
    snapshot = agent.view().snapshot
    return all(
        d.sight is Sight.OK and d.at is not None and snapshot.at - d.at < 2.0
        for d in snapshot.devices
        if d.index != but
    )


def sight_findings(agent: Agent, device: str) -> list[str]:
    return [f.summary for f in agent.view().findings if f.rule == "sight" and f.device == device]


def harmed(agent: Agent) -> set[str]:
    return {a.target.name for a in agent.diary.actions(*HARMFUL) if a.target is not None}


@pytest.mark.parametrize("symbol", [MEMORY, PROCESSES])
def test_a_call_that_hangs_for_ever_blinds_one_device_of_four(
    host: SimHost, agent: Agent, plain: Plain, symbol: str
) -> None:
    start = host.folder / "grow"
    words = ("--start-size", "2GiB", "--start-when", str(start))
    unseen = hog(plain, 2, *words, name="hog-unseen")
    agent.until("it is there", lambda: agent.tenant("hog-unseen"))
    device = _hung(host, agent, symbol)
    start.touch()
    evicted(agent, hog(plain, 0))
    agent.always("the others are fresh", lambda: others_fresh(agent, 2), for_s=2.0)
    assert agent.device(2).used_bytes is None  # never a stale value as a fresh one
    assert unseen.is_running()
    assert "hog-unseen" not in harmed(agent)
    host.control("unhang", function=symbol, device=2)
    agent.until_seen(4)
    agent.until("the gap is closed", lambda: not agent.gaps(device))
    evicted(agent, unseen)


def test_a_slow_call_that_hangs_for_ever_delays_no_other_device(
    host: SimHost, agent: Agent, plain: Plain
) -> None:
    _hung(host, agent, TEMPERATURE)
    evicted(agent, hog(plain, 0))
    agent.always("the others are fresh", lambda: others_fresh(agent, 2), for_s=2.0)
    host.control("unhang", function=TEMPERATURE, device=2)
    agent.until_seen(4)


def _hung(host: SimHost, agent: Agent, symbol: str) -> str:
    """Hangs a call on device 2 for ever; its id, once that is told."""
    device = agent.device(2).id
    host.control("hang", function=symbol, device=2)
    agent.until("it is blind", lambda: sights(agent)[2] is Sight.BLIND)
    told = agent.until("it is told", lambda: agent.gaps(device))
    assert symbol in told[0].detail
    agent.until("it is a finding", lambda: sight_findings(agent, device))
    agent.until("the others are seen", lambda: others_fresh(agent, 2))
    return device


def test_when_every_device_hangs_the_agent_lives_and_goes_on_afterwards(
    host: SimHost, agent: Agent, plain: Plain
) -> None:
    offender = hog(plain, 0, "--start-size", "7GiB", "--start-after-ms", "1500")
    host.control("hang", function=MEMORY)
    agent.until("all are blind", lambda: set(sights(agent)) == {Sight.BLIND})
    agent.always("nobody is judged", offender.is_running, for_s=3.0)
    assert agent.diary.actions(*HARMFUL) == []
    assert agent.view().counters["probe_left_behind", ""] <= 2
    host.control("unhang", function=MEMORY)
    agent.until_seen(4)
    evicted(agent, offender)


def test_a_lost_device_is_lost_alone(host: SimHost, agent: Agent, plain: Plain) -> None:
    lost = agent.device(1).id
    meek = hog(plain, 1, "--start-size", "7GiB", "--start-after-ms", "60000", name="hog-lost")
    agent.until("it is there", lambda: agent.tenant("hog-lost"))
    host.control("lose", device=1)
    agent.until("it is lost", lambda: Sight.LOST in sights(agent))
    agent.until("it is a finding", lambda: sight_findings(agent, lost))
    evicted(agent, hog(plain, 0))
    agent.always("the others are fresh", lambda: others_fresh(agent, 1), for_s=1.0)
    assert "hog-lost" not in harmed(agent)
    host.control("restore", device=1)
    agent.until("it is back", lambda: sights(agent) == [Sight.OK] * 4)
    meek.kill()


def test_indices_that_move_move_no_action(host: SimHost, agent: Agent, plain: Plain) -> None:
    uuids = [agent.device(index).id for index in range(4)]
    meek = [plain.run("hog-meek", "hold", "--size", "6GiB", device=n) for n in (0, 2, 3)]
    start = host.folder / "grow"
    words = ("--start-size", "6GiB", "--start-when", str(start), "--ignore-term")
    offender = hog(plain, 1, *words)
    agent.until("all are there", lambda: len(agent.view().snapshot.tenants) == 4)
    host.control("shift", by=1)
    start.touch()
    evicted(agent, offender)
    agent.until_closed()
    hits = agent.diary.actions(Kind.TERM, Kind.KILL)
    assert {(a.target.name, a.device) for a in hits if a.target} == {("hog", uuids[1])}
    agent.until("the move is seen", lambda: agent.device(0).id != uuids[0])
    agent.until_seen(4)
    assert sorted(d.id for d in agent.view().snapshot.devices) == sorted(uuids)
    assert all(w.is_running() for w in meek)


def test_a_driver_that_is_reloaded_is_followed(host: SimHost, agent: Agent, plain: Plain) -> None:
    before = plain.run("hog-before", "hold", "--size", "6GiB")
    agent.until("it is there", lambda: agent.tenant("hog-before"))
    host.control("reload", away_ms=1500, shift=1)
    agent.until("that it is away is told", lambda: agent.gaps("driver"))
    agent.until("its client ended", lambda: not before.is_running())
    agent.until("it is back", lambda: not agent.gaps("driver"))
    agent.until_seen(4)
    assert agent.diary.actions(*HARMFUL) == []
    evicted(agent, hog(plain, 3))
    agent.until_closed()
    agent.until("nobody is left", lambda: not agent.view().snapshot.tenants)
    agent.until("its events are heard again", lambda: not agent.gaps("events"))
    assert agent.diary.actions(Kind.PAGE) == []
    host.control("xid", device=1, xid=79)
    agent.until("an Xid is heard", lambda: "Xid 79" in agent.story())


def test_slow_calls_delay_nothing_that_matters(host: SimHost, agent: Agent, plain: Plain) -> None:
    host.control("slow", function=MEMORY, ms=150, device=3)
    host.control("slow", function=PROCESSES, ms=300, device=0)
    agent.always("nothing is blind", lambda: set(sights(agent)) == {Sight.OK}, for_s=2.0)
    evicted(agent, hog(plain, 0))
    evicted(agent, hog(plain, 3))


NVML = {"NO_PERMISSION": 4, "GPU_IS_LOST": 15, "UNKNOWN": 999}


@pytest.mark.parametrize("code", NVML.values(), ids=NVML)
@pytest.mark.parametrize("symbol", [MEMORY, PROCESSES])
def test_an_error_on_one_device_is_no_data_there_and_nothing_elsewhere(
    host: SimHost, agent: Agent, plain: Plain, symbol: str, code: int
) -> None:
    start = host.folder / "grow"
    words = ("--start-size", "2GiB", "--start-when", str(start))
    unseen = hog(plain, 2, *words, name="hog-unseen")
    agent.until("it is there", lambda: agent.tenant("hog-unseen"))
    device = agent.device(2).id
    host.control("error", function=symbol, code=code, device=2)
    agent.until("it is told", lambda: agent.gaps(device))
    start.touch()
    evicted(agent, hog(plain, 0))
    agent.always("nobody is judged unseen", unseen.is_running, for_s=1.0)
    assert "hog-unseen" not in harmed(agent)
    agent.until("it is a finding", lambda: sight_findings(agent, device))
    host.control("error", function=symbol, code=0, device=2)
    agent.until("the gap is closed", lambda: not agent.gaps(device))
    evicted(agent, unseen)
