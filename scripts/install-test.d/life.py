"""The life of the agent's deb in one place, step by step."""

from __future__ import annotations

from aggregator_life import AggregatorLife
from given_up import given_up
from place import write
from scarce import few_descriptors
from steps import must
from unit_life import UnitLife

UNIT = "gpuwarden-agent.service"
CONFIG = "/etc/gpuwarden/agent.toml"
STATE = "/var/lib/gpuwarden"
DROP_IN = "/etc/systemd/system/gpuwarden-agent.service.d/50-enforcement.conf"
MARK = "# edited by an admin"
SIMULATED = """
[Service]
Environment=GPUWARDEN_SIM_DIR={folder} LD_LIBRARY_PATH={library}
{watchdog}
"""
"""The unit as it is shipped, but for where it finds a driver and, where that is said, how long a test waits for its watchdog."""


class Life(UnitLife):
    package = "gpuwarden"
    unit = UNIT
    config = CONFIG
    drop_ins = "conf.d"
    state = STATE

    def run(self, *, is_whole: bool) -> None:
        """``is_whole``: with the aggregator beside it, and systemd giving units up."""
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
        if is_whole:
            few_descriptors(self, self.jobs())
            given_up(self)
            AggregatorLife(self.place, self.steps, self.debs).run()
        self.remove()
        self.purge()

    def jobs(self) -> str:
        """Every process that holds a simulated device, with its start: two that are equal are the same."""
        return self.do("ps -C workload -o pid=,lstart=,args= | sort")

    # --- the steps ---

    def no_python(self) -> None:
        with self.steps.step(self.place.name, "no Python of its own") as notes:
            found = self.place.do("command -v python3 || ls /usr/bin/python* 2>/dev/null")
            must(not found.out.strip(), f"there is one: {found.out}")
            notes.append(self.do("sed -n 's/^PRETTY_NAME=//p' /etc/os-release").strip('"'))

    def install(self) -> None:
        with self.steps.step(self.place.name, "install: enabled and active") as notes:
            self.install_deb(self.debs.agent)
            must(self.do(f"systemctl is-enabled {UNIT}") == "enabled", "it is not enabled")
            self.until("it is active", self.is_active)
            notes.append(self.do("gpuwarden --version"))

    def rest_without_driver(self) -> None:
        with self.steps.step(
            self.place.name, "no driver: it stays up, in observe mode, and says so"
        ) as notes:
            self.until("it answers", lambda: self.ask("status"))
            pid = self.pid()
            self.do("sleep 4")
            must(self.pid() == pid and self.shown("NRestarts") == "0", "it was started again")
            said = self.place.do("gpuwarden status; gpuwarden doctor", self.within(60)).out
            must("observe" in said, f"no observe mode in: {said}")
            must("libnvidia-ml" in said, f"the missing driver is not named in: {said}")
            must("no GPUs: " in said, f"the doctor does not say that there are none: {said}")
            notes.append(self.shown("StatusText") or "no STATUS=")

    def kernel_log(self) -> None:
        with self.steps.step(self.place.name, "the hardened unit reads /dev/kmsg") as notes:
            must(self.place.do("test -r /dev/kmsg").status == 0, "this place has no /dev/kmsg")
            said = self.do("gpuwarden status | sed -n 2p")
            how = said.partition("kernel log ")[2].strip()
            must(how == "read", f"kernel log: {how or said}")
            notes.append(how)

    watchdog = "WatchdogSec=3"

    def devices(self, devices: int = 2, processes: int = 2) -> None:
        with self.steps.step(
            self.place.name, "a driver appears: its devices and jobs are seen"
        ) as notes:
            self.do(
                "systemd-run --quiet --unit=gpus --setenv=HOME=/root"
                f" gpuwarden simulate run --devices {devices} --processes {processes} --quiet --"
                " sh -c 'echo $GPUWARDEN_SIM_DIR >/run/gpus; echo $LD_LIBRARY_PATH >/run/gpus.lib;"
                " exec sleep 100000'"
            )
            self.until(
                "the simulated host is up",
                lambda: self.place.do("test -s /run/gpus.lib").status == 0,
            )
            drop_in = SIMULATED.format(
                folder=self.do("cat /run/gpus"),
                library=self.do("cat /run/gpus.lib"),
                watchdog=self.watchdog,
            )
            write(self.place, f"/run/systemd/system/{UNIT}.d/test.conf", drop_in)
            self.do(f"systemctl daemon-reload && systemctl restart {UNIT}")
            self.until("every device", lambda: len(self.ask("gpus").get("devices", [])) == devices)
            jobs = devices * processes
            self.until("every job", lambda: len(self.jobs().splitlines()) == jobs)
            notes.append(f"{len(self.jobs().splitlines())} jobs")

    def reload(self) -> None:
        with self.steps.step(self.place.name, "reload: a good file is taken, of a bad one nothing"):
            pid = self.pid()
            self.do(f"echo '{MARK}' >>{CONFIG} && systemctl reload {UNIT}")
            write(self.place, "/etc/gpuwarden/conf.d/50-bad.toml", "[agent]\nmoed = 'enforce'")
            said = self.place.do(
                f"gpuwarden check-config; systemctl reload {UNIT}", self.within(60)
            )
            must("mode" in said.out, f"the nearest key is not named: {said.out}")
            self.until(
                "it says so", lambda: "moed" in self.do(f"journalctl -u {UNIT} --no-pager | cat")
            )
            must(self.pid() == pid and self.is_active(), "it did not live through it")
            self.do("rm /etc/gpuwarden/conf.d/50-bad.toml")
            self.do(f"systemctl reload {UNIT}")
            must(self.ask("status"), "it does not answer")

    def hang(self) -> None:
        with self.steps.step(self.place.name, "hung: the watchdog starts it again") as notes:
            pid, jobs = self.pid(), self.jobs()
            self.do(f"kill -STOP {pid}")
            self.until(
                "another process is active",
                lambda: self.pid() not in (0, pid) and self.is_active(),
            )
            must(self.jobs() == jobs, "a job is not what it was")
            notes.append(f"NRestarts {self.shown('NRestarts')}, jobs untouched")

    def kill(self) -> None:
        with self.steps.step(self.place.name, "kill -9: it is back with its ledger") as notes:
            pid, jobs = self.pid(), self.jobs()
            self.do(f"kill -9 {pid}")
            self.until(
                "another process is active",
                lambda: self.pid() not in (0, pid) and self.is_active(),
            )
            self.until("it answers", lambda: self.ask("status"))
            must(self.jobs() == jobs, "a job is not what it was")
            notes.append(self.do(f"ls {STATE} | tr '\\n' ' '"))

    def upgrade(self) -> None:
        with self.steps.step(
            self.place.name, "upgrade: one restart, jobs, settings and ledger stay"
        ) as notes:
            self.do(f"grep -q '{MARK}' {CONFIG} || echo '{MARK}' >>{CONFIG}")
            pid, jobs, starts = self.pid(), self.jobs(), self.starts()
            reloads = self.reloads()
            ledger = self.do(f"find {STATE} -type f | sort | head -1")
            first = self.do(f"head -c 200 {ledger} | od -c | head -3")
            self.install_deb(self.debs.newer)
            self.until(
                "another process is active",
                lambda: self.pid() not in (0, pid) and self.is_active(),
            )
            self.until("it answers", lambda: self.ask("status"))
            must(self.jobs() == jobs, "a job is not what it was")
            must(self.starts() == starts + 1, f"{self.starts() - starts} starts instead of one")
            must(self.reloads() == reloads, "systemd was reloaded though no unit changed")
            must(MARK in self.do(f"cat {CONFIG}"), "the admin's edit is gone")
            must(
                first == self.do(f"head -c 200 {ledger} | od -c | head -3"),
                "the ledger is another",
            )
            notes.append(self.do("dpkg-query --show --showformat '${Version}' gpuwarden"))

    def upgrade_with_bad_config(self) -> None:
        with self.steps.step(
            self.place.name, "upgrade with a bad configuration: what ran goes on"
        ) as notes:
            pid = self.pid()
            write(self.place, "/etc/gpuwarden/conf.d/50-bad.toml", "[quota]\nnonsense = 1")
            said = self.install_deb(self.debs.agent)
            must("nonsense" in said, f"the reason is not told: {said[-400:]}")
            must(self.pid() == pid and self.is_active(), "the old process is gone")
            self.do("rm /etc/gpuwarden/conf.d/50-bad.toml")
            notes.append(
                next(line for line in said.splitlines() if "nonsense" in line).strip()[:70]
            )

    def downgrade(self) -> None:
        with self.steps.step(self.place.name, "downgrade") as notes:
            jobs = self.jobs()
            self.install_deb(self.debs.older)
            self.until("it is active", self.is_active)
            self.until("it answers", lambda: self.ask("status"))
            must(self.jobs() == jobs, "a job is not what it was")
            notes.append(self.do("dpkg-query --show --showformat '${Version}' gpuwarden"))

    def admins_word(self) -> None:
        with self.steps.step(
            self.place.name, "disabled and masked by an admin stays so over upgrades"
        ):
            self.do(f"systemctl disable --now {UNIT}")
            self.install_deb(self.debs.agent)
            must(
                self.place.do(f"systemctl is-enabled {UNIT}").out.strip() == "disabled",
                "it is enabled",
            )
            must(not self.is_active(), "it runs")
            self.do(f"systemctl mask {UNIT}")
            self.install_deb(self.debs.newer)
            must(
                self.place.do(f"systemctl is-enabled {UNIT}").out.strip() == "masked",
                "it is not masked",
            )
            must(not self.is_active(), "it runs")
            self.do(f"systemctl unmask {UNIT} && systemctl enable --now {UNIT}")
            self.until("it is active", self.is_active)

    def remove(self) -> None:
        with self.steps.step(
            self.place.name, "remove: stopped, settings and state stay, jobs run on"
        ):
            jobs = self.jobs()
            self.do(f"gpuwarden enable-enforcement --yes && echo '# mine' >>{DROP_IN}")
            self.do("DEBIAN_FRONTEND=noninteractive dpkg --remove gpuwarden 2>&1", 120)
            must(not self.is_active(), "it runs")
            must(self.place.do("command -v gpuwarden").status != 0, "its command is there")
            self.do(f"test -f {CONFIG} && test -d {STATE}")
            must(self.jobs() == jobs, "a job is not what it was")

    def purge(self) -> None:
        with self.steps.step(
            self.place.name, "purge: nothing is left but its group, and what an admin edited"
        ) as notes:
            said = self.do("DEBIAN_FRONTEND=noninteractive dpkg --purge gpuwarden 2>&1", 120)
            must(f"{DROP_IN} was edited here and is kept" in said, f"not told: {said}")
            self.do(f"grep -q '# mine' {DROP_IN} && rm -r $(dirname {DROP_IN})")
            left = self.do(
                "find / -xdev -path /proc -prune -o -path /var/tmp -prune -o -path /sys -prune -o"
                " -iname '*gpuwarden*' -print 2>/dev/null | grep -v -e ^/run/systemd -e ^/tmp/ -e ^/dev/shm/ || :"
            )
            must(not left, f"left: {left}")
            notes.append(self.do("getent group gpuwarden || echo no group"))
