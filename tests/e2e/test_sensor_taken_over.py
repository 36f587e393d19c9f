"""Case 54: the probe child is in somebody else's hands, and says whatever makes the agent do most harm. It is the
real child of a real agent, which its driver's library has turned into another program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.clock import SystemClock
from gpuwarden.model.action import HARMFUL, Kind
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.host import SimHost
from gpuwarden.sim.incident.daemon import free_port
from tests.e2e.agent import MakeAgent
from tests.e2e.plain import Plain

pytestmark = [pytest.mark.root, pytest.mark.serial, pytest.mark.timeout(240)]
HERE = Path(__file__).parent / "taken_over"
NEED_LEAVE = (Kind.CORDON, Kind.RESTART_SERVICES, Kind.RESET_GPU, Kind.RELOAD_DRIVER, Kind.REBOOT)
SETTINGS = """
[nvml]
library = "{library}"
[fleet]
aggregator = "{nobody}"
identity_dir = "{identity}"
[[tenant]]
match = {{comm = "hog"}}
class = "low"
memory = "8GiB"
grace = "200ms"
[[tenant]]
match = {{comm = "core"}}
class = "protected"
memory = "8GiB"
grace = "200ms"
"""


def taken_over_library(folder: Path) -> Path:
    library = folder / "libnvidia-ml.so.1"
    words = [f"-DPYTHON={json.dumps(sys.executable)}"]
    words += [f"-DSCRIPT={json.dumps(str(HERE / 'sensor.py'))}"]
    command = ["cc", "-shared", "-fPIC", "-O1", *words, str(HERE / "library.c"), "-o", str(library)]
    subprocess.run(command, check=True, timeout=60)
    return library


def identity(folder: Path) -> Path:
    wall = SystemClock().wall()
    authority = Authority.open(folder / "pki", "gpuwarden", wall)
    who = Identity(role=Role.NODE, name="node-1")
    own = folder / "identity"
    write_credentials(own, authority.credentials(who, ttl_s=86_400.0, wall=wall))
    return own


def test_case_54_a_sensor_that_was_taken_over_moves_nothing_outside_the_policy_and_permits(
    host: SimHost, make_agent: MakeAgent, plain: Plain, folder: Path
) -> None:
    hog = plain.run("hog", "hold", "--size", "1GiB")
    core = plain.run("core", "hold", "--size", "1GiB")
    settings = SETTINGS.format(
        library=taken_over_library(folder),
        nobody=f"127.0.0.1:{free_port()}",
        identity=identity(folder),
    )
    accused = f"{hog.pid},{core.pid}"
    nonsense = folder / "nonsense"
    environ = {"ACCUSED": accused, "NONSENSE": str(nonsense)}
    agent = make_agent(host, settings, env=environ, before=("setsid",)).start()
    agent.until("it is believed", lambda: len(agent.view().snapshot.devices) == 2)
    # What the policy lets go may go, whoever says that it is too large; this is how far lies reach.
    agent.until("who may be evicted is", lambda: not hog.is_running())

    agent.until("the rest waits for leave", lambda: agent.diary.withheld("permit"))
    agent.until("or for its operator", lambda: agent.diary.withheld("operator"))
    agent.always("nothing else is touched", core.is_running, for_s=2.0)
    nonsense.touch()
    agent.always("nor by what is no word at all", core.is_running, for_s=4.0)
    assert agent.is_running()
    assert agent.diary.actions(*NEED_LEAVE) == []
    acted_on = {(each.kind, each.target) for each in agent.diary.actions(*HARMFUL)}
    assert acted_on
    assert {pid for _, target in acted_on for pid in _pids(target)} <= {hog.pid}
    assert agent.stop() == 0


def _pids(target: object) -> list[int]:
    return [each.pid for each in getattr(target, "pids", ())]
