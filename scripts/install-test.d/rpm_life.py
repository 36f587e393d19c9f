"""The rpm's scriptlets, by Debian's rpm: it knows no dependencies there, and all the rest."""

from __future__ import annotations

from pathlib import Path

from life import CONFIG, MARK, STATE, UNIT, Life
from steps import must


class RpmLife(Life):
    def walk(self, rpm: Path) -> None:
        self.no_python_of_ours()
        self.rpm_install(rpm)
        self.devices()
        self.rpm_again(rpm)
        self.rpm_bad_config(rpm)
        self.rpm_disabled(rpm)
        self.rpm_erase()

    def no_python_of_ours(self) -> None:
        with self.steps.step(self.place.name, "rpm of Debian") as notes:
            notes.append(self.do("rpm --version"))

    def _rpm(self, words: str) -> str:
        return self.do(f"rpm --nodeps {words} 2>&1", 120)

    def rpm_install(self, rpm: Path) -> None:
        with self.steps.step(self.place.name, "rpm -i: by the preset enabled, active") as notes:
            self._rpm(f"-i {rpm}")
            must(self.do(f"systemctl is-enabled {UNIT}") == "enabled", "it is not enabled")
            self.until("it is active", self.is_active)
            self.until("it answers", lambda: self.ask("status"))
            notes.append(self.do("gpuwarden --version"))

    def rpm_again(self, rpm: Path) -> None:
        with self.steps.step(
            self.place.name, "rpm -U: one restart, settings, ledger and jobs stay"
        ):
            pid, jobs, starts = self.pid(), self.jobs(), self.starts()
            self.do(f"echo '{MARK}' >>{CONFIG}")
            self._rpm(f"-U --force {rpm}")
            self.until(
                "another process is active",
                lambda: self.pid() not in (0, pid) and self.is_active(),
            )
            must(self.starts() == starts + 1, f"{self.starts() - starts} starts instead of one")
            must(MARK in self.do(f"cat {CONFIG}"), "the admin's edit is gone")
            must(self.jobs() == jobs, "a job is not what it was")

    def rpm_bad_config(self, rpm: Path) -> None:
        with self.steps.step(self.place.name, "rpm -U with a bad configuration: what ran goes on"):
            pid = self.pid()
            self.do("printf '[quota]\\nnonsense = 1\\n' >/etc/gpuwarden/conf.d/50-bad.toml")
            said = self._rpm(f"-U --force {rpm}")
            must("nonsense" in said, f"the reason is not told: {said[-300:]}")
            must(self.pid() == pid and self.is_active(), "the old process is gone")
            self.do("rm /etc/gpuwarden/conf.d/50-bad.toml")

    def rpm_disabled(self, rpm: Path) -> None:
        with self.steps.step(self.place.name, "disabled by an admin stays so over rpm -U"):
            self.do(f"systemctl disable --now {UNIT}")
            self._rpm(f"-U --force {rpm}")
            said = self.place.do(f"systemctl is-enabled {UNIT}").out.strip()
            must(said == "disabled", f"it is {said}")
            must(not self.is_active(), "it runs")
            self.do(f"systemctl enable --now {UNIT}")
            self.until("it is active", self.is_active)

    def rpm_erase(self) -> None:
        with self.steps.step(self.place.name, "rpm -e: stopped, an edited file and the state stay"):
            jobs = self.jobs()
            self._rpm("-e gpuwarden")
            must(not self.is_active(), "it runs")
            self.do(f"test -f {CONFIG}.rpmsave && test -d {STATE}")
            must(self.place.do("command -v gpuwarden").status != 0, "its command is there")
            must(self.jobs() == jobs, "a job is not what it was")
