"""The life of the aggregator's deb beside the agent's, whose node joins it."""

from __future__ import annotations

from given_up import given_up
from place import write
from steps import must
from unit_life import UnitLife

AGENT = "gpuwarden-agent.service"
JOINED = '[fleet]\naggregator = "127.0.0.1:9440"\ngroup = "batch"\n'
SHORT = "[Service]\nWatchdogSec=10\n"
"""The unit as it is shipped, but for how long a test waits for its watchdog (its loop beats every two seconds)."""
RIGHTS = (
    *("DynamicUser=yes", "MemoryDenyWriteExecute=yes", "PrivateDevices=yes", "ProcSubset=pid"),
    *("SystemCallFilter=@system-service", "'SystemCallFilter=~@privileged @resources'"),
    *("SystemCallErrorNumber=EPERM", "TasksMax=256", "CapabilityBoundingSet="),
)
LOADED = (
    "import datasketches, numpy, river.drift, scipy.stats;"
    "print(numpy.__version__, scipy.__version__, scipy.stats.norm.cdf(numpy.zeros(2)))"
)
REJOIN_S = 150.0
"""A node whose aggregator was away waits a random part of a minute at most, after a connection that may hang for 50 s."""
SEEN = ("NODE_STATE_HEALTHY", "NODE_STATE_DEGRADED")
BAD = "[permit]\nrequird = false\n"
GOOD = "[permit]\nrequired = false\n[ask]\nparallel = 3\n"


class AggregatorLife(UnitLife):
    package = "gpuwarden-aggregator"
    unit = "gpuwarden-aggregator.service"
    config = "/etc/gpuwarden/aggregator.toml"
    drop_ins = "aggregator.d"
    state = "/var/lib/gpuwarden-aggregator"

    def run(self) -> None:
        self.install()
        self.statistics()
        self.join()
        self.reload()
        self.hang()
        self.copy()
        given_up(self)
        self.upgrade()
        self.upgrade_with_bad_config()
        self.remove()
        self.purge()

    def install(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator, beside the agent: active, and says so"
        ) as notes:
            self.install_deb(self.debs.aggregator)
            must(self.do(f"systemctl is-enabled {self.unit}") == "enabled", "it is not enabled")
            self.until("it is active", self.is_active)
            self.until("its status is that of a turn", lambda: "leads" in self.shown("StatusText"))
            user = self.do(f"ps -o user= -p {self.pid()}")
            must(user not in ("root", ""), f"it runs as {user}")
            must("python" not in self.do("command -v gpuwarden"), "no command")
            said = self.do("gpuwarden aggregator doctor || :")
            must("answers" in said, f"its doctor: {said}")
            notes.append(f"{user}: {self.shown('StatusText')}")

    def statistics(self) -> None:
        """They are loaded when a fleet first evaluates something: seen here, under what the unit may do."""
        with self.steps.step(
            self.place.name, "aggregator: its statistics load under the unit's rights"
        ) as notes:
            rights = " ".join(f"-p {setting}" for setting in RIGHTS)
            notes.append(
                self.do(
                    f"systemd-run --quiet --wait --pipe {rights} /usr/lib/{self.package}/python/bin/python3.13"
                    f" -I -c '{LOADED}'",
                    120,
                )
            )

    def join(self) -> None:
        with self.steps.step(self.place.name, "aggregator: a node joins it and is seen") as notes:
            self.do(
                "gpuwarden fleet invite node-1 >/run/join &&"
                " gpuwarden enroll --aggregator 127.0.0.1:9441 --node node-1 --join-file /run/join"
            )
            write(self.place, "/etc/gpuwarden/conf.d/40-fleet.toml", JOINED)
            self.do(f"systemctl restart {AGENT}")
            self.until(
                "it is seen",
                lambda: any(
                    node["node"] == "node-1" and node.get("state") in SEEN
                    for node in self.ask("fleet nodes").get("nodes", [])
                ),
            )
            self.until("the status says it", lambda: "1 nodes" in self.shown("StatusText"))
            notes.append(self.shown("StatusText"))

    def reload(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: reload: a good file is taken, of a bad one nothing"
        ) as notes:
            pid, place = self.pid(), f"/etc/gpuwarden/{self.drop_ins}/50-test.toml"
            write(self.place, place, BAD)
            self.do(f"systemctl reload {self.unit}")
            self.until("it says no", lambda: "config rejected" in self.shown("StatusText"))
            notes.append(self.shown("StatusText"))
            said = self.do(f"journalctl --no-pager -u {self.unit}")
            must("config_rejected" in said and "required" in said, "the log does not say why")
            write(self.place, place, GOOD)
            self.do(f"systemctl reload {self.unit}")
            self.until("it says what waits", lambda: "ask.parallel" in self.shown("StatusText"))
            self.do(f"rm {place} && systemctl reload {self.unit}")
            self.until("all is in force", lambda: self.shown("StatusText").startswith("1 nodes"))
            must(self.pid() == pid and self.is_active(), "it did not live through it")

    def hang(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: hung: the watchdog starts it again; the node is back"
        ) as notes:
            write(self.place, f"/run/systemd/system/{self.unit}.d/test.conf", SHORT)
            self.do(f"systemctl daemon-reload && systemctl restart {self.unit}")
            self.until("it is active", self.is_active)
            self.until("its status is that of a turn", lambda: "leads" in self.shown("StatusText"))
            pid = self.pid()
            must(pid, "it is gone by itself")
            self.do(f"kill -STOP {pid}")
            self.until("another process is active", lambda: self.is_another(pid), 120)
            self._until_connected()
            notes.append(f"NRestarts {self.shown('NRestarts')}")

    def _until_connected(self) -> None:
        self.until(
            "its node is back",
            lambda: any(
                node.get("is_connected") for node in self.ask("fleet nodes").get("nodes", [])
            ),
            REJOIN_S,
        )

    def copy(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: root makes a copy, restores it, and the unit runs on it"
        ):
            self.do("gpuwarden aggregator backup /root/fleet.copy")
            self.do(f"systemctl stop {self.unit}")
            self.do("gpuwarden aggregator restore /root/fleet.copy")
            self.do(f"systemctl start {self.unit}")
            self.until("it is active", self.is_active)
            self._until_connected()
            self.do("rm /root/fleet.copy")

    def upgrade(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: upgrade: one restart, its nodes and the edit stay"
        ) as notes:
            self.do(f"echo '# edited by an admin' >>{self.config}")
            pid, starts = self.pid(), self.starts()
            self.install_deb(self.debs.newer_aggregator)
            self.until("another process is active", lambda: self.is_another(pid))
            must(self.starts() == starts + 1, f"{self.starts() - starts} starts instead of one")
            must("edited by" in self.do(f"cat {self.config}"), "the admin's edit is gone")
            self._until_connected()
            notes.append(self.do(f"dpkg-query --show --showformat '${{Version}}' {self.package}"))

    def upgrade_with_bad_config(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: upgrade with a bad configuration: what ran goes on"
        ):
            pid, place = self.pid(), f"/etc/gpuwarden/{self.drop_ins}/50-test.toml"
            write(self.place, place, BAD)
            said = self.install_deb(self.debs.aggregator)
            must("required" in said, f"the reason is not told: {said[-400:]}")
            must(self.pid() == pid and self.is_active(), "the old process is gone")
            self.do(f"rm {place}")

    def remove(self) -> None:
        with self.steps.step(
            self.place.name, "aggregator: remove: stopped; settings, state and the agent stay"
        ):
            self.do(f"DEBIAN_FRONTEND=noninteractive dpkg --remove {self.package} 2>&1", 120)
            must(not self.is_active(), "it runs")
            self.do(f"test -f {self.config} && test -d {self.state}/.")
            must(self.shown("ActiveState", AGENT) == "active", "the agent is gone")
            must(self.ask("status"), "gpuwarden is not the agent's again")

    def purge(self) -> None:
        with self.steps.step(self.place.name, "aggregator: purge: nothing of it is left"):
            self.do(f"DEBIAN_FRONTEND=noninteractive dpkg --purge {self.package} 2>&1", 120)
            self.do("rm /etc/gpuwarden/conf.d/40-fleet.toml /run/join")
            self.do(f"rm -r /run/systemd/system/{self.unit}.d")
            left = self.do(
                "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /var/tmp -prune -o"
                " -iname '*gpuwarden-aggregator*' -print 2>/dev/null | grep -v -e ^/run/systemd -e ^/tmp/ || :"
            )
            must(not left, f"left: {left}")
            must(self.shown("ActiveState", AGENT) == "active", "the agent is gone")
