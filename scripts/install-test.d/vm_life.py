"""What only a whole system shows: cgroup v2 with its controllers, true kernel lines, Docker, and an eviction cut short."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from life import STATE, UNIT, Life
from place import write
from scarce import few_threads, out_of_memory
from steps import Failed, must

BOUNDS = {"noticed_s": 0.25, "bytes_back_s": 2.0, "slo_back_s": 5.0}
"""Of the incident on a machine that is not emulated."""
STRETCH = 5.0
"""What an emulated one is given (code runs 7 to 10 times slower there)."""
ENFORCE = """
[agent]
mode = "enforce"
[default]
class = "low"
class_max = "normal"
[[tenant]]
match = {name = "hog"}
class = "low"
memory = "4GiB"
grace = "20s"
[[tenant]]
match = {name = "kept"}
class = "low"
memory = "8GiB"
host_memory = "64MiB"
cpu_cores = 0.5
"""
# Everything the enforcement of a container takes; as root, and not bound by what observing needs.
XID = "NVRM: Xid (PCI:{pci}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


class VmLife(Life):
    watchdog = "WatchdogSec=60\nTimeoutStartSec=300"
    """Twice and five times what is shipped: an emulated machine on a host that others use as well is slow indeed."""

    def run(self) -> None:
        self.controllers()
        self.install()
        self.rest_without_driver()
        with contextlib.suppress(
            Failed
        ):  # of its own: a bound that was missed says nothing of what follows
            self.incident()
        self.devices()
        self.enforce()
        self.limits()
        self.cut_short()
        self.kernel_line()
        self.hang()
        out_of_memory(self, self.jobs())
        few_threads(self, self.jobs())
        self.upgrade()
        self.do("rm /etc/gpuwarden/conf.d/60-test.toml")  # an admin's own file outlives a purge
        self.remove()
        self.purge()

    def controllers(self) -> None:
        with self.steps.step(
            self.place.name, "booted: cgroup v2 with its controllers, Docker on it"
        ) as notes:
            found = self.do("cat /sys/fs/cgroup/cgroup.controllers")
            must({"cpu", "memory", "pids"} <= set(found.split()), f"controllers: {found}")
            must("Version: 2" in self.do("docker info 2>/dev/null"), "Docker is not on cgroup v2")
            notes.append(found)

    def incident(self) -> None:
        with self.steps.step(
            self.place.name, f"the incident: within the bounds times {STRETCH:g}"
        ) as notes:
            said = self.place.do(
                f"gpuwarden simulate incident --json --slow-host {STRETCH:g} 2>&1",
                self.within(60),
            )
            begin = said.out.find("{")
            try:
                told: dict[str, Any] = json.JSONDecoder().raw_decode(said.out[begin:])[0]
            except ValueError:
                told = {}
            must(told.get("real_containers"), f"no answer of real containers: {said.out[-300:]}")
            must(told.get("wrong_victims") == 0, f"wrong victims: {told.get('wrong_victims')}")
            for key, bound in BOUNDS.items():
                limit = bound * STRETCH
                seen = told.get(key)
                notes.append(f"{key} {seen}")
                must(seen is not None and seen <= limit, f"{key} is {seen}, {limit:g} at most")

    def kernel_line(self) -> None:
        """Netfilter logs what it is told to, as the kernel, of a packet: of facility 0, as a driver's line is."""
        with self.steps.step(
            self.place.name, "a true Xid line of the kernel becomes an incident"
        ) as notes:
            # The one that took over from the killed one may still be looking for its devices.
            self.until("it sees its devices", lambda: self.ask("gpus").get("devices"))
            pci = str(self.ask("gpus")["devices"][0]["device"]["pci"]).lower()
            line = XID.format(pci=pci[4:].removesuffix(".0"))
            write(
                self.place,
                "/root/xid.nft",
                "table inet said {\n chain out {\n type filter hook output priority 0;\n"
                f' ip daddr 127.0.0.9 limit rate 1/hour burst 1 packets log prefix "{line}"\n }}\n}}',
            )
            self.do("nft -f /root/xid.nft && bash -c 'echo >/dev/udp/127.0.0.9/9'")
            must("Xid" in self.do("dmesg | tail -5"), "the kernel did not log it")
            self.until(
                "an incident of Xid 79",
                lambda: "Xid 79" in self.place.do("gpuwarden incidents --json", 60).out,
            )
            self.do("nft delete table inet said")
            notes.append(self.do("dmesg | grep -m1 Xid")[:70])

    def enforce(self) -> None:
        with self.steps.step(self.place.name, "enforcement is enabled") as notes:
            write(self.place, "/etc/gpuwarden/conf.d/60-test.toml", ENFORCE)
            said = self.place.do("gpuwarden enable-enforcement --yes 2>&1", self.within(30))
            must(said.status == 0, said.out[-300:])
            self.do(f"systemctl restart {UNIT}")
            self.until(
                "it enforces",
                lambda: "enforce" in self.place.do("gpuwarden status", 60 * self.place.slow).out,
            )
            self.do(
                "cd $(dirname $(cat /run/gpus.lib)) && test -f workload"
                " && tar -c workload | docker import - workload:test >/dev/null",
                120,
            )
            notes.append(said.out.strip().splitlines()[-1][:70] if said.out.strip() else "")

    def _container(self, name: str, *words: str) -> None:
        folder = self.do("cat /run/gpus")
        self.do(
            f"docker run --detach --name {name} --network none --env GPUWARDEN_SIM_DIR={folder}"
            f" --env NVIDIA_VISIBLE_DEVICES=0 --volume {folder}:{folder}:ro"
            f" workload:test /workload {' '.join(words)}",
            120,
        )

    def limits(self) -> None:
        with self.steps.step(
            self.place.name, "memory.high, memory.max, cpu.max are held on cgroup v2"
        ) as notes:
            self._container("kept", "hold", "--size", "1GiB")
            group = self.do(
                "echo /sys/fs/cgroup/system.slice/docker-$(docker inspect -f '{{.Id}}' kept).scope"
            )
            self.until(
                "its limits are set",
                lambda: (
                    self.do(f"cat {group}/memory.high {group}/memory.max | grep -c -v max || :")
                    != "0"
                ),
            )
            self.until("its CPU is limited", lambda: "max" not in self.do(f"cat {group}/cpu.max"))
            notes.append(
                self.do(
                    f"cat {group}/memory.high {group}/memory.max {group}/cpu.max | tr '\\n' ' '"
                )
            )

    def cut_short(self) -> None:
        with self.steps.step(
            self.place.name, "kill -9 in mid-eviction: the next one ends it"
        ) as notes:
            self._container("hog", "hog", "--size", "12GiB", "--rate", "30GiB/s", "--ignore-term")
            self.until(
                "its eviction has begun",
                lambda: any(
                    i.get("closed_wall") is None and "hog" in json.dumps(i)
                    for i in self.ask("incidents").get("incidents", [])
                ),
            )
            pid = self.pid()
            self.do(f"kill -9 {pid}")
            self.until("another is active", lambda: self.pid() not in (0, pid) and self.is_active())
            self.until(
                "the offender is gone",
                lambda: self.do("docker inspect -f '{{.State.Running}}' hog") == "false",
                120,
            )
            must(
                self.do("docker inspect -f '{{.State.Running}}' kept") == "true",
                "its neighbour is gone",
            )
            self.until(
                "its incident is closed",
                lambda: all(
                    i.get("closed_wall")
                    for i in self.ask("incidents").get("incidents", [])
                    if "hog" in json.dumps(i)
                ),
            )
            frozen = self.do(
                "grep -l 1 /sys/fs/cgroup/system.slice/*/cgroup.freeze 2>/dev/null || :"
            )
            must(not frozen, f"left frozen: {frozen}")
            notes.append(self.do(f"ls {STATE} | tr '\\n' ' '"))
