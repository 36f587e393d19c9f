"""What the installed agent costs at rest: memory and CPU of its unit, on a simulated host of eight devices."""

from __future__ import annotations

import json
from pathlib import Path

from life import Life
from place import write
from steps import must

DEVICES, PROCESSES = 8, 2
SETTLE_S = 20
RSS_MOST_MIB = 80.0
"""Of the agent and its probe child together (DESIGN 7)."""
MEASURE = Path(__file__).with_name("measure.py")


class AtRest(Life):
    watchdog = ""

    def measure(self, minutes: float) -> None:
        self.install()
        self.devices(DEVICES, PROCESSES)
        with self.steps.step(
            self.place.name, f"at rest for {minutes:g} minutes: {DEVICES} devices"
        ) as notes:
            write(self.place, "/root/measure.py", MEASURE.read_text(encoding="utf-8"))
            self.do(f"sleep {SETTLE_S}")
            said = self.do(
                f"/usr/lib/{self.package}/python/bin/python3.13 -I /root/measure.py {self.unit} {minutes * 60:g}",
                minutes * 60 + 60,
            )
            notes.append(said)
            told = json.loads(said)
            must(told["are_the_same"], "a process of it is another one now")
            must(
                told["rss_mib_most"] <= RSS_MOST_MIB,
                f"{told['rss_mib_most']} MiB, {RSS_MOST_MIB:g} at most",
            )
