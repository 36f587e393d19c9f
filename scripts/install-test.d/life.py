"""The life of the agent's deb in one place, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from debs import Debs
from place import Place, must_do, write
from steps import Steps, must, until

UNIT = "gpuwarden-agent.service"
CONFIG = "/etc/gpuwarden/agent.toml"
STATE = "/var/lib/gpuwarden"
MARK = "# edited by an admin"
SIMULATED = """
[Service]
Environment=GPUWARDEN_SIM_DIR={folder} LD_LIBRARY_PATH={library}
WatchdogSec=3
"""
"""The unit as it is shipped, but for where it finds a driver and for how long a test waits for its watchdog."""
QUIET_DPKG = "DEBIAN_FRONTEND=noninteractive dpkg --force-confold"


class Life:
    def __init__(self, place: Place, steps: Steps, debs: Debs) -> None:
        self.place = place
        self.steps = steps
        self.debs = debs

    def run(self, *, is_bare: bool) -> None:
        if is_bare:
            self.no_python()
        self.install()
        self.rest_without_driver()
        self.kernel_log()
        self.devices()
        self.reload()
        self.hang()
        self.kill()
        self.upgrade()
        self.upgrade_with_bad_config()
        self.downgrade()
        self.admins_word()
        self.remove()
        self.purge()

    # --- what the steps ask ---

    def _within(self, seconds: float) -> float:
        return seconds * self.place.slow

    def _do(self, script: str, seconds: float = 60.0) -> str:
        return must_do(self.place, script, self._within(seconds))

    def _shown(self, key: str, unit: str = UNIT) -> str:
        return self._do(f"systemctl show --property={key} --value {unit}")

    def _is_active(self) -> bool:
        return self._shown("ActiveState") == "active"

    def _pid(self) -> int:
        return int(self._shown("MainPID") or 0)

    def _ask(self, verb: str) -> dict[str, Any]:
        """A verb's JSON; empty while nobody answers."""
        said = self.place.do(f"gpuwarden {verb} --json 2>/dev/null", self._within(30))
        try:
            answer = json.loads(said.out)
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    def _until(self, what: str, ask: Any, seconds: float = 60.0) -> Any:
        return until(what, ask, self._within(seconds))

    def _install(self, deb: Path, seconds: float = 120.0) -> str:
        return self._do(f"{QUIET_DPKG} --install {deb} 2>&1", seconds)

    def _jobs(self) -> str:
        """Every process that holds a simulated device, with its start: two that are equal are the same."""
        return self._do("ps -C workload -o pid=,lstart=,args= | sort")

    # --- the steps ---

    def no_python(self) -> None:
        with self.steps.step(self.place.name, "no Python of its own") as notes:
            found = self.place.do("command -v python3 || ls /usr/bin/python* 2>/dev/null")
            must(not found.out.strip(), f"there is one: {found.out}")
            notes.append(self._do("sed -n 's/^PRETTY_NAME=//p' /etc/os-release").strip('"'))

    def install(self) -> None:
        with self.steps.step(self.place.name, "install: enabled and active") as notes:
            self._install(self.debs.agent)
            must(self._do(f"systemctl is-enabled {UNIT}") == "enabled", "it is not enabled")
            self._until("it is active", self._is_active)
            notes.append(self._do("gpuwarden --version"))

    def rest_without_driver(self) -> None:
        with self.steps.step(
            self.place.name, "no driver: it stays up, in observe mode, and says so"
        ) as notes:
            self._until("it answers", lambda: self._ask("status"))
            pid = self._pid()
            self._do("sleep 4")
            must(self._pid() == pid and self._shown("NRestarts") == "0", "it was started again")
            said = self.place.do("gpuwarden status; gpuwarden doctor", self._within(60)).out
            must("observe" in said, f"no observe mode in: {said}")
            must("libnvidia-ml" in said, f"the missing driver is not named in: {said}")
            notes.append(self._shown("StatusText") or "no STATUS=")

    def kernel_log(self) -> None:
        with self.steps.step(self.place.name, "the hardened unit reads /dev/kmsg") as notes:
            must(self.place.do("test -r /dev/kmsg").status == 0, "this place has no /dev/kmsg")
            said = self._do("gpuwarden status | sed -n 2p")
            how = said.partition("kernel log ")[2].strip()
            must(how == "read", f"kernel log: {how or said}")
            notes.append(how)

    def devices(self) -> None:
        with self.steps.step(
            self.place.name, "a driver appears: its devices and jobs are seen"
        ) as notes:
            self._do(
                "systemd-run --quiet --unit=gpus --setenv=HOME=/root"
                " gpuwarden simulate run --devices 2 --processes 2 --quiet --"
                " sh -c 'echo $GPUWARDEN_SIM_DIR >/run/gpus; echo $LD_LIBRARY_PATH >/run/gpus.lib;"
                " exec sleep 100000'"
            )
            self._until(
                "the simulated host is up",
                lambda: self.place.do("test -s /run/gpus.lib").status == 0,
            )
            drop_in = SIMULATED.format(
                folder=self._do("cat /run/gpus"), library=self._do("cat /run/gpus.lib")
            )
            write(self.place, f"/run/systemd/system/{UNIT}.d/test.conf", drop_in)
            self._do(f"systemctl daemon-reload && systemctl restart {UNIT}")
            self._until("two devices", lambda: len(self._ask("gpus").get("devices", [])) == 2)
            self._until("four jobs", lambda: len(self._jobs().splitlines()) == 4)
            notes.append(f"{len(self._jobs().splitlines())} jobs")

    def reload(self) -> None:
        with self.steps.step(self.place.name, "reload: a good file is taken, of a bad one nothing"):
            pid = self._pid()
            self._do(f"echo '{MARK}' >>{CONFIG} && systemctl reload {UNIT}")
            write(self.place, "/etc/gpuwarden/conf.d/50-bad.toml", "[agent]\nmoed = 'enforce'")
            said = self.place.do(
                f"gpuwarden check-config; systemctl reload {UNIT}", self._within(60)
            )
            must("mode" in said.out, f"the nearest key is not named: {said.out}")
            self._until(
                "it says so", lambda: "moed" in self._do(f"journalctl -u {UNIT} --no-pager | cat")
            )
            must(self._pid() == pid and self._is_active(), "it did not live through it")
            self._do("rm /etc/gpuwarden/conf.d/50-bad.toml")
            self._do(f"systemctl reload {UNIT}")
            must(self._ask("status"), "it does not answer")

    def hang(self) -> None:
        with self.steps.step(self.place.name, "hung: the watchdog starts it again") as notes:
            pid, jobs = self._pid(), self._jobs()
            self._do(f"kill -STOP {pid}")
            self._until(
                "another process is active",
                lambda: self._pid() not in (0, pid) and self._is_active(),
            )
            must(self._jobs() == jobs, "a job is not what it was")
            notes.append(f"NRestarts {self._shown('NRestarts')}, jobs untouched")

    def kill(self) -> None:
        with self.steps.step(self.place.name, "kill -9: it is back with its ledger") as notes:
            pid, jobs = self._pid(), self._jobs()
            self._do(f"kill -9 {pid}")
            self._until(
                "another process is active",
                lambda: self._pid() not in (0, pid) and self._is_active(),
            )
            self._until("it answers", lambda: self._ask("status"))
            must(self._jobs() == jobs, "a job is not what it was")
            notes.append(self._do(f"ls {STATE} | tr '\\n' ' '"))

    def upgrade(self) -> None:
        with self.steps.step(
            self.place.name, "upgrade: one restart, jobs, settings and ledger stay"
        ) as notes:
            self._do(f"grep -q '{MARK}' {CONFIG} || echo '{MARK}' >>{CONFIG}")
            pid, jobs, starts = self._pid(), self._jobs(), self._starts()
            reloads = self._reloads()
            ledger = self._do(f"find {STATE} -type f | sort | head -1")
            first = self._do(f"head -c 200 {ledger} | od -c | head -3")
            self._install(self.debs.newer)
            self._until(
                "another process is active",
                lambda: self._pid() not in (0, pid) and self._is_active(),
            )
            self._until("it answers", lambda: self._ask("status"))
            must(self._jobs() == jobs, "a job is not what it was")
            must(self._starts() == starts + 1, f"{self._starts() - starts} starts instead of one")
            must(self._reloads() == reloads, "systemd was reloaded though no unit changed")
            must(MARK in self._do(f"cat {CONFIG}"), "the admin's edit is gone")
            must(
                first == self._do(f"head -c 200 {ledger} | od -c | head -3"),
                "the ledger is another",
            )
            notes.append(self._do("dpkg-query --show --showformat '${Version}' gpuwarden"))

    def _starts(self) -> int:
        said = self._do(f"journalctl --no-pager -o cat -u {UNIT} | grep -c '^Started ' || :")
        return int(said or 0)

    def _reloads(self) -> int:
        """How often systemd was told to read its units again: that takes GPUs from containers on some hosts."""
        said = self._do("journalctl --no-pager -o cat _PID=1 | grep -c '^Reloading' || :")
        return int(said or 0)

    def upgrade_with_bad_config(self) -> None:
        with self.steps.step(
            self.place.name, "upgrade with a bad configuration: what ran goes on"
        ) as notes:
            pid = self._pid()
            write(self.place, "/etc/gpuwarden/conf.d/50-bad.toml", "[quota]\nnonsense = 1")
            said = self._install(self.debs.agent)
            must("nonsense" in said, f"the reason is not told: {said[-400:]}")
            must(self._pid() == pid and self._is_active(), "the old process is gone")
            self._do("rm /etc/gpuwarden/conf.d/50-bad.toml")
            notes.append(
                next(line for line in said.splitlines() if "nonsense" in line).strip()[:70]
            )

    def downgrade(self) -> None:
        with self.steps.step(self.place.name, "downgrade") as notes:
            jobs = self._jobs()
            self._install(self.debs.older)
            self._until("it is active", self._is_active)
            self._until("it answers", lambda: self._ask("status"))
            must(self._jobs() == jobs, "a job is not what it was")
            notes.append(self._do("dpkg-query --show --showformat '${Version}' gpuwarden"))

    def admins_word(self) -> None:
        with self.steps.step(
            self.place.name, "disabled and masked by an admin stays so over upgrades"
        ):
            self._do(f"systemctl disable --now {UNIT}")
            self._install(self.debs.agent)
            must(
                self.place.do(f"systemctl is-enabled {UNIT}").out.strip() == "disabled",
                "it is enabled",
            )
            must(not self._is_active(), "it runs")
            self._do(f"systemctl mask {UNIT}")
            self._install(self.debs.newer)
            must(
                self.place.do(f"systemctl is-enabled {UNIT}").out.strip() == "masked",
                "it is not masked",
            )
            must(not self._is_active(), "it runs")
            self._do(f"systemctl unmask {UNIT} && systemctl enable --now {UNIT}")
            self._until("it is active", self._is_active)

    def remove(self) -> None:
        with self.steps.step(
            self.place.name, "remove: stopped, settings and state stay, jobs run on"
        ):
            jobs = self._jobs()
            self._do("DEBIAN_FRONTEND=noninteractive dpkg --remove gpuwarden 2>&1", 120)
            must(not self._is_active(), "it runs")
            must(self.place.do("command -v gpuwarden").status != 0, "its command is there")
            self._do(f"test -f {CONFIG} && test -d {STATE}")
            must(self._jobs() == jobs, "a job is not what it was")

    def purge(self) -> None:
        with self.steps.step(
            self.place.name, "purge: nothing of it is left but its group"
        ) as notes:
            self._do("DEBIAN_FRONTEND=noninteractive dpkg --purge gpuwarden 2>&1", 120)
            left = self._do(
                "find / -xdev -path /proc -prune -o -path /var/tmp -prune -o -path /sys -prune -o"
                " -iname '*gpuwarden*' -print 2>/dev/null | grep -v -e ^/run/systemd -e ^/tmp/ -e ^/dev/shm/ || :"
            )
            must(not left, f"left: {left}")
            notes.append(self._do("getent group gpuwarden || echo no group"))
