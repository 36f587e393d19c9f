"""The reboot rung for real: a machine whose agent reboots it, and finds itself there again behind the reboot."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.agent import ROOT, until

pytestmark = [pytest.mark.systemd(outside=True), pytest.mark.timeout(400)]

MACHINE = ROOT / "scripts" / "machine"
GPUWARDEN = (sys.executable, "-m", "gpuwarden")
BOOT_S, CALL_S = 240.0, 60
CONFIG = """
[agent]
mode = "enforce"
state_dir = "/var/lib/gpuwarden"
run_dir = "/run/gpuwarden"
[kmsg]
path = "@DIR@/kmsg.sock"
[docker]
host = "unix:///nonexistent/docker.sock"
[fault]
correlate_s = "2s"
[ladder]
page_after_s = "500ms"
uncordon_after_s = "2s"
[rules.host]
mode = "off"
[rules.wallclock]
mode = "off"
[cordon.exec]
command = ["/bin/true"]
[repair]
allow = ["restart-services", "reset-gpu", "reboot"]
reboot_delay_s = "@DELAY@"
"""
STARTED = """#!/bin/sh
sed "s|@DIR@|$GPUWARDEN_SIM_DIR|" /root/agent.toml >/run/agent.toml
echo "$GPUWARDEN_SIM_DIR" >/run/gpu-host
exec {python} -m gpuwarden agent --config /run/agent.toml
"""
UNIT = """
[Service]
ExecStart={python} -m gpuwarden simulate run --devices 2 --quiet -- /bin/sh /root/started
[Install]
WantedBy=multi-user.target
"""


class Machine:
    def __init__(self, name: str) -> None:
        self.name = name
        shown = dict.fromkeys([str(ROOT), sys.prefix, sys.base_prefix])
        self._process = subprocess.Popen(
            [MACHINE, "boot", *(word for place in shown for word in ("--show", place)), name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def do(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command in there, or none where it is on its way down or up."""
        return subprocess.run(
            [MACHINE, "enter", self.name, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
        )

    def say(self, *words: str) -> str:
        return self.do(*words).stdout.strip()

    def write(self, place: str, text: str) -> None:
        assert self.do("tee", place, given=text).returncode == 0

    def ask(self, *words: str) -> Any:
        """The answer of a verb of ours, as JSON; None where nobody answers."""
        answer = self.do(*GPUWARDEN, *words, "--json")
        try:
            return json.loads(answer.stdout)
        except ValueError:
            return None

    def boot_id(self) -> str:
        return self.say("cat", "/proc/sys/kernel/random/boot_id")

    def is_up(self) -> bool:
        """A call into a machine on its way down may hang: then it is not up."""
        try:
            return self.say("systemctl", "is-system-running") in ("running", "degraded")
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        subprocess.run([MACHINE, "stop", self.name], check=False, timeout=CALL_S)
        self._process.kill()
        self._process.wait(CALL_S)


def story(machine: Machine) -> str:
    return "\n".join(
        (
            machine.say("journalctl", "--no-pager", "-n", "60"),
            json.dumps(machine.ask("incidents"), indent=1)[:6000],
        )
    )


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """With a GPU host of two devices and an agent in it, from boot on, whenever it boots."""
    started = Machine("reboot")
    try:
        until("it has booted", started.is_up, within_s=BOOT_S)
        started.write("/root/agent.toml", CONFIG.replace("@DELAY@", request.param))
        started.write("/root/started", STARTED.format(python=sys.executable))
        started.write("/etc/systemd/system/gpu-host.service", UNIT.format(python=sys.executable))
        assert started.do("systemctl", "enable", "--now", "gpu-host").returncode == 0
        until("its agent answers", lambda: started.ask("status"), within_s=BOOT_S)
        yield started
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.close()


def lose(machine: Machine) -> None:
    folder = machine.say("cat", "/run/gpu-host")
    words = ("simulate", "inject", "lose", "--dir", folder, "0")
    assert machine.do(*GPUWARDEN, *words).returncode == 0


def steps(machine: Machine, kind: str) -> list[str]:
    """The results of the steps of one kind, of the only incident."""
    told = machine.ask("explain", "last")
    return [step["result"] for step in told["incident"]["steps"] if step["kind"] == kind]


def is_over(machine: Machine) -> bool:
    told = machine.ask("explain", "last")
    return told is not None and told["incident"]["closed_wall"] is not None


@pytest.mark.parametrize("machine", ["0s"], indirect=True)
def test_a_lost_device_has_its_node_rebooted_once_and_is_used_again(machine: Machine) -> None:
    before = machine.boot_id()
    lose(machine)
    until(
        "it is up again, another time",
        lambda: machine.is_up() and machine.boot_id() not in ("", before),
        within_s=BOOT_S,
    )
    after = machine.boot_id()
    try:
        until("its incident is over", lambda: is_over(machine), within_s=BOOT_S)
        told = machine.ask("explain", "last")["incident"]
        assert told["outcome"] == "node rebooted"
        assert steps(machine, "reboot") == ["done"]
        assert steps(machine, "cordon") == ["done"]
        until("it takes work again", lambda: steps(machine, "uncordon") == ["done"])
        assert len(machine.ask("incidents")["incidents"]) == 1
        assert machine.boot_id() == after
        assert machine.do(*GPUWARDEN, "status").returncode == 0, "all is well"
    except AssertionError as error:
        raise AssertionError(f"{error}\n{story(machine)}") from error


@pytest.mark.parametrize("machine", ["5m"], indirect=True)
def test_a_reboot_with_a_delay_can_be_called_off(machine: Machine) -> None:
    before = machine.boot_id()
    lose(machine)
    scheduled = "/run/systemd/shutdown/scheduled"
    until("it is scheduled", lambda: machine.do("test", "-e", scheduled).returncode == 0)
    order = machine.say("cat", scheduled)
    assert "MODE=reboot" in order
    assert "gpuwarden: lost fault of GPU 0" in order.replace("\\x20", " ")
    assert steps(machine, "reboot") == ["done"]
    assert machine.do("shutdown", "-c").returncode == 0
    until("it is called off", lambda: machine.do("test", "-e", scheduled).returncode == 1)
    assert machine.boot_id() == before
    assert steps(machine, "reboot") == ["done"], "it is not ordered again"
