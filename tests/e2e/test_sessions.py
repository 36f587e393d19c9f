"""Offenders of a user who is logged in: the job goes; sshd, the session and its other jobs stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.sim.host import SimHost
from tests.e2e.agent import Agent, MakeAgent
from tests.e2e.containers import bytes_on
from tests.e2e.logins import Logins, is_there, keepers, name_of
from tests.e2e.test_units import harmed
from tests.e2e.units import HOG, Units, systemctl

pytestmark = pytest.mark.systemd

POLICY = """
[nvml]
limiter = "none"
[quota]
warmup_s = "100ms"
[ladder]
cooldown_s = "1s"
[sampling]
list_every_s = "500ms"
[[tenant]]
match = {comm = "hog*"}
class = "low"
memory = "8GiB"
grace = "300ms"
"""


@pytest.fixture
def logins() -> Iterator[Logins]:
    one = Logins()
    yield one
    one.close()


@pytest.fixture
def units(host: SimHost, folder: Path) -> Iterator[Units]:
    all_of_them = Units(host, folder)
    yield all_of_them
    all_of_them.close()


@pytest.fixture
def agent(host: SimHost, make_agent: MakeAgent) -> Agent:
    host.folder.chmod(0o755)
    one = make_agent(host, POLICY).start()
    one.until_seen(2)
    return one


def words(units: Units, *more: str) -> str:
    told = " ".join(f"{key}={value}" for key, value in units.environment().items())
    return f"env {told} {units.program} {' '.join(more)}"


def until_gone(agent: Agent, hog: int) -> None:
    agent.until("the hog is gone", lambda: not is_there(hog))
    agent.until_closed()
    assert harmed(agent) == {"hog"}


@pytest.mark.parametrize("is_in_front", [False, True])
def test_job_at_a_terminal_goes_and_the_login_stays(
    host: SimHost, agent: Agent, units: Units, logins: Logins, is_in_front: bool
) -> None:
    login = logins.login()
    beside = login.start(words(units, "hold", "--size", "1GiB"))
    agent.until("its bytes are there", lambda: bytes_on(host) == 2**30)
    above = list(keepers(beside))
    assert [name_of(pid) for pid in above] == ["bash", "sshd", "sshd", "sshd"]
    session = login.ask("echo $XDG_SESSION_ID")
    if is_in_front:
        login.say(words(units, *HOG, "--ignore-term"))
        agent.until("it is seen", lambda: harmed(agent))
        hog = agent.diary.actions(*HARMFUL)[0].target
        assert hog is not None
        until_gone(agent, hog.pids[0].pid)
    else:
        until_gone(agent, login.start(words(units, *HOG, "--ignore-term")))
    assert login.ask("echo still here") == "still here"
    assert is_there(beside)
    assert list(keepers(beside)) == above
    assert bytes_on(host) == 2**30
    assert systemctl("show", "--property=ActiveState", f"session-{session}.scope") == (
        "ActiveState=active"
    )


def test_command_without_a_terminal_goes_as_one_and_sshd_stays(
    host: SimHost, agent: Agent, units: Units, logins: Logins
) -> None:
    """Without job control the script and all it started are one process group."""
    other = logins.login()
    login = logins.login(has_terminal=False)
    shell = int(login.ask("echo $$"))
    daemons = [pid for pid in keepers(shell) if name_of(pid) == "sshd"]
    hog = login.start(words(units, *HOG))
    until_gone(agent, hog)
    agent.until("ssh tells its user", lambda: not login.is_open())
    assert is_there(daemons[-1])
    assert other.ask("echo still here") == "still here"
    assert logins.login(has_terminal=False).ask("echo again") == "again"


def test_unit_of_a_users_own_manager_goes_and_the_manager_stays(
    host: SimHost, agent: Agent, units: Units, logins: Logins
) -> None:
    login = logins.login()
    manager = f"user@{logins.uid}.service"
    start = "systemd-run --user --quiet --unit={} " + words(units)
    login.ask(start.format("beside") + "hold --size 1GiB")
    agent.until("its bytes are there", lambda: bytes_on(host) == 2**30)
    before = systemctl("show", "--property=MainPID", "--property=NRestarts", manager)
    login.ask(start.format("hog") + " ".join([*HOG, "--ignore-term"]))
    agent.until("somebody is harmed", lambda: harmed(agent))
    agent.until_closed()
    assert harmed(agent) == {"hog"}
    assert bytes_on(host) == 2**30
    assert login.ask("systemctl --user is-active beside") == "active"
    assert login.ask("systemctl --user is-active hog") in ("failed", "inactive")
    assert systemctl("show", "--property=MainPID", "--property=NRestarts", manager) == before


def test_unit_of_a_users_manager_that_comes_back_again_and_again_is_held(
    host: SimHost, agent: Agent, units: Units, logins: Logins
) -> None:
    """Its manager is the user's, and is not asked: what it starts again is ended again, with one page."""
    login = logins.login()
    start = "systemd-run --user --quiet -p Restart=always -p RestartSec=0 --unit=hog " + words(
        units
    )
    login.ask(start + " ".join(HOG))
    agent.until_done(Kind.STOP)
    agent.until(
        "its manager has given up", lambda: login.ask("systemctl --user is-active hog") == "failed"
    )
    agent.until("its bytes are back", lambda: bytes_on(host) == 0)
    assert harmed(agent) == {"hog"}
    assert len(agent.diary.actions(Kind.PAGE)) == 1
    assert login.ask("systemctl --user is-system-running") in ("running", "degraded")
