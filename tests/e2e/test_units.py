"""Offenders that a real systemd runs: the unit is stopped and stays down, its neighbours never notice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gpuwarden.model.action import HARMFUL, Kind, Result
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.containers import bytes_on
from tests.e2e.units import HOG, Unit, Units

pytestmark = pytest.mark.systemd

POLICY = """
[nvml]
limiter = "none"
[quota]
warmup_s = "100ms"
[ladder]
tombstone_window_s = "2s"
[sampling]
list_every_s = "500ms"
[[tenant]]
match = {{unit = "hog*"}}
class = "low"
memory = "8GiB"
grace = "{grace}"
[[tenant]]
match = {{name = "hog-web"}}
class = "low"
memory = "8GiB"
grace = "{grace}"
[[tenant]]
match = {{unit = "safe*"}}
class = "protected"
memory = "2GiB"
"""
RESTARTED = ("Restart=always", "RestartSec=0")
ALWAYS = (*RESTARTED, "StartLimitIntervalSec=0")


@pytest.fixture
def units(host: SimHost, folder: Path) -> Iterator[Units]:
    all_of_them = Units(host, folder)
    yield all_of_them
    all_of_them.close()


def watched(make_agent: MakeAgent, host: SimHost, grace: str = "300ms") -> Agent:
    agent = make_agent(host, POLICY.format(grace=grace)).start()
    agent.until_seen(2)
    return agent


def until_known(agent: Agent, *units: Unit) -> None:
    for unit in units:
        agent.until(f"{unit.name} is described", partial(is_described, agent, unit))


def is_described(agent: Agent, unit: Unit) -> bool:
    tenant = agent.tenant(unit.name)
    return tenant is not None and tenant.is_described


def until_evicted(agent: Agent, unit: Unit, called: str = "") -> None:
    name = called or unit.name
    agent.until(f"{name} is evicted", lambda: name in harmed(agent) and unit.is_down())
    agent.until_closed()


def harmed(agent: Agent) -> set[str]:
    """The names of all who were ever the target of more than words."""
    found = agent.diary.actions(*HARMFUL)
    return {a.target.name for a in found if a.target is not None}


@pytest.mark.parametrize("grace", ["300ms", "0s"])
@pytest.mark.parametrize("deaf", [(), ("--ignore-term",)])
def test_unit_that_is_always_restarted_stays_down(
    host: SimHost, make_agent: MakeAgent, units: Units, deaf: tuple[str, ...], grace: str
) -> None:
    """systemd would start the next one in the moment it dies, whatever ends it."""
    agent = watched(make_agent, host, grace)
    safe = units.run("safe", "hold", "--size", "6GiB")  # over its quota, and protected
    within = units.run("hog", "hold", "--size", "7GiB")
    until_known(agent, safe, within)
    others = {unit: unit.pids() for unit in (safe, within)}
    hog = units.run("hog", *HOG, *deaf, properties=ALWAYS)
    until_evicted(agent, hog)
    agent.always("it stays down", hog.is_down, for_s=1.0)
    assert harmed(agent) == {hog.name}
    assert bytes_on(host) == 13 * 2**30
    assert {unit: unit.pids() for unit in others} == others
    done = [o.kind for o in agent.diary.outcomes(*HARMFUL, result=Result.DONE)]
    assert done[:2] == [Kind.FREEZE, Kind.RESTART_OFF]
    assert Kind.KILL in done or not deaf  # who does not handle TERM may die of the first
    assert agent.diary.outcomes(Kind.STOP, result=Result.REFUSED) == []


def test_settings_of_the_unit_are_what_they_were(
    host: SimHost, make_agent: MakeAgent, units: Units, folder: Path
) -> None:
    """Whoever starts it again has it restarted as before."""
    agent = watched(make_agent, host)
    grow = folder / "grow"
    words = (*HOG, "--start-size", "1GiB", "--start-when", str(grow))
    units.install("hog-kept.service", *words, settings=RESTARTED)
    hog = units.start("hog-kept.service")
    until_known(agent, hog)
    grow.touch()
    until_evicted(agent, hog)
    agent.until_done(Kind.RESTART_BACK)
    agent.until("nothing is owed", lambda: not agent.view().debts)
    assert hog.is_down()
    assert hog.shown("Restart") == "always"
    assert hog.shown("DropInPaths") == ""
    grow.unlink()
    units.start(hog.name)
    agent.until("it runs again", lambda: len(hog.pids()) == 1)
    (first,) = hog.pids()
    hog.kill()
    agent.until("systemd has restarted it", lambda: hog.pids() not in ([], [first]))
    assert hog.starts() == 1


def test_names_with_escapes_and_colons_are_told_apart(
    host: SimHost, make_agent: MakeAgent, units: Units
) -> None:
    agent = watched(make_agent, host)
    units.install("hog-odd@.service", *HOG, settings=RESTARTED)
    units.install("hog-odd@near.service", "hold", "--size", "1GiB")
    near = units.start("hog-odd@near.service")
    names = ("hog-odd@a\\x20b-c:d.e.service", "hog-odd@-\\xc3\\xa4.service")
    for name in names:
        hog = units.start(name)
        until_evicted(agent, hog)
        agent.until_closed(len(harmed(agent)))
    assert harmed(agent) == set(names)
    assert near.is_active()


def test_scope_is_ended_with_all_its_processes(
    host: SimHost, make_agent: MakeAgent, units: Units
) -> None:
    agent = watched(make_agent, host)
    beside = units.scope("hog", "hold", "--size", "1GiB")
    until_known(agent, beside)
    hog = units.scope("hog", *HOG, "--children", "3", "--ignore-term")
    until_evicted(agent, hog)
    assert harmed(agent) == {hog.name}
    assert bytes_on(host) == 2**30
    assert beside.is_active()


def test_processes_that_systemd_would_leave_behind_go_too(
    host: SimHost, make_agent: MakeAgent, units: Units
) -> None:
    """Of ``KillMode=process`` systemd ends the main process alone, and calls the unit down."""
    agent = watched(make_agent, host)
    hog = units.run(
        *("hog", *HOG, "--children", "3", "--ignore-term"),
        properties=("KillMode=process", *ALWAYS),
    )
    until_evicted(agent, hog)
    agent.until("its bytes are back", lambda: bytes_on(host) == 0)
    agent.always("it stays down", hog.is_down, for_s=1.0)


def test_units_of_the_host_itself_are_left_alone(
    host: SimHost, make_agent: MakeAgent, units: Units
) -> None:
    agent = watched(make_agent, host)
    daemon = units.run("", *HOG, name="nvidia-something.service")
    until_known(agent, daemon)
    agent.until("its bytes are seen", lambda: agent.device(0).used_bytes == 12 * 2**30)
    agent.always("it lives", daemon.is_active, for_s=1.0)
    assert harmed(agent) == set()


def test_machine_of_nspawn_is_stopped_by_its_unit(
    host: SimHost, make_agent: MakeAgent, units: Units, folder: Path
) -> None:
    agent = watched(make_agent, host)
    root = folder / "root"
    for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(units.program, root / "hog")
    nspawn = ["systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--machine=hog-web"]
    nspawn += [f"--directory={root}", f"--bind={host.folder}"]
    nspawn += [f"--setenv={key}={value}" for key, value in units.environment().items()]
    name = "systemd-nspawn@hog-web.service"
    settings = ("Delegate=yes", "KillMode=mixed", *RESTARTED)
    units.install(name, *HOG, program=" ".join([*nspawn, "/hog"]), settings=settings)
    web = units.start(name)
    until_evicted(agent, web, "hog-web")
    agent.always("it stays down", web.is_down, for_s=1.0)
    assert harmed(agent) == {"hog-web"}
    assert bytes_on(host) == 0
    assert web.starts() == 0
    (tenant,) = {a.target.tenant for a in agent.diary.actions(*HARMFUL) if a.target}
    assert tenant == "nspawn:hog-web"
