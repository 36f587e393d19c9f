"""Steps of a repair on a real host: nvidia-smi, systemctl, modprobe, shutdown. No shell, every wait bounded."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.adapters.evidence import EvidenceRoom
from gpuwarden.adapters.tool import Answer, Tool
from gpuwarden.clock import Clock
from gpuwarden.config import RepairConfig
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.repair import Subject

PERSISTENCE = "nvidia-persistenced.service"
"""Holds every device open; a reset needs it out of the way, and it is started again."""
MODULES = ("nvidia_uvm", "nvidia_drm", "nvidia_modeset", "nvidia")
"""In the order in which they can be removed; loaded again in the other."""
SCHEDULED = Path("/run/systemd/shutdown/scheduled")
"""Where systemd-logind notes a shutdown that is to come."""
LET_GO_S = 6.0
"""How long the agent's own probe child may take to let go of the devices."""
RETRY_S = 0.5
# GPU 00000000:00:06.0 is currently in use by another process.
# Unable to reset this GPU because it's being used by some other process (e.g. CUDA application, ...)
IN_USE = ("in use", "being used")
# Resetting GPU 00000000:00:06.0 is not supported.
MARK = "repair.json"
MARK_MAX_BYTES = 4096
NOT_POSSIBLE = ("not supported", "insufficient permissions")


@dataclass(slots=True)
class HostRemedies:
    """Implements ``ports.Remedies``. Called on the worker of repairs, one step at a time."""

    cfg: RepairConfig
    clock: Clock
    state_dir: Path
    """Where the newest step is marked."""
    evidence: EvidenceRoom
    scheduled: Path = SCHEDULED

    def restart_services(self) -> str:
        """Restart those of ``repair.services`` that are installed."""
        there = [unit for unit in self.cfg.services if self._is_installed(unit)]
        if not there:
            raise Unsupported(f"none of {', '.join(self.cfg.services)} is installed")
        answer = self._systemctl("restart", *there)
        if answer.status != 0:
            raise Unavailable(f"systemctl restart: {answer.why}")
        return ", ".join(there)

    def reset_gpu(self, subject: Subject) -> str:
        """``nvidia-smi --gpu-reset`` on the device by its UUID, once nobody has it open."""
        if subject.device is None:
            raise Refused("a reset needs a device")
        stopped = False
        try:
            answer = self._reset(subject)
            if answer.status != 0 and _says(answer, IN_USE) and self._is_active(PERSISTENCE):
                stopped = self._systemctl("stop", PERSISTENCE).status == 0
                answer = self._reset(subject)
        finally:
            if stopped:
                self._systemctl("start", PERSISTENCE)
        if answer.status == 0:
            return self._checked(subject)
        if _says(answer, IN_USE):
            raise Refused(f"nvidia-smi: {answer.why}")
        if _says(answer, NOT_POSSIBLE):
            raise Unsupported(f"nvidia-smi: {answer.why}")
        raise Unavailable(f"nvidia-smi: {answer.why}")

    def _reset(self, subject: Subject) -> Answer:
        """Tried again while it is in use: our own probe child is still on its way out."""
        tool = self._tool(self.cfg.nvidia_smi, self.cfg.reset_s)
        until = self.clock.now() + LET_GO_S
        while True:
            answer = tool.run("--gpu-reset", "-i", str(subject.device))
            # Old versions exit 0 and say what was wrong.
            failed = answer.status != 0 or _says(answer, (*IN_USE, *NOT_POSSIBLE))
            if not failed:
                return answer
            if not _says(answer, IN_USE) or self.clock.now() >= until:
                return Answer(status=answer.status or 1, out=answer.out, err=answer.err)
            self.clock.sleep(RETRY_S)

    def _checked(self, subject: Subject) -> str:
        """The operator's own small check of the device, where there is one."""
        if not self.cfg.check_command:
            return "reset"
        program, *rest = self.cfg.check_command
        answer = self._tool(Path(program), self.cfg.reset_s).run(*rest, str(subject.device))
        if answer.status != 0:
            raise Unavailable(f"{program} after the reset: {answer.why}")
        return f"reset, and {program} passed"

    def reload_driver(self) -> str:
        """Take the driver's modules out and put them in again; nobody may have a device open."""
        if self.cfg.reload_command:
            program, *rest = self.cfg.reload_command
            self._must(Path(program), rest, self.cfg.reload_s)
            return program
        stopped = self._is_active(PERSISTENCE) and self._systemctl("stop", PERSISTENCE).status == 0
        try:
            self._reload_modules()
        finally:
            if stopped:
                self._systemctl("start", PERSISTENCE)
        return "modprobe"

    def _reload_modules(self) -> None:
        modprobe = Path("modprobe")
        there = [name for name in MODULES if Path("/sys/module", name).is_dir()]
        if "nvidia" not in there:
            there = ["nvidia"]
        else:
            until = self.clock.now() + LET_GO_S
            while True:
                answer = self._tool(modprobe, self.cfg.reload_s).run("-r", *there)
                if answer.status == 0:
                    break
                if not _says(answer, IN_USE):
                    raise Unavailable(f"modprobe -r: {answer.why}")
                if self.clock.now() >= until:
                    raise Refused(f"modprobe -r: {answer.why}")
                self.clock.sleep(RETRY_S)
        for name in reversed(there):
            self._must(modprobe, [name], self.cfg.reload_s)

    def reboot(self, reason: str) -> str:
        """Have it scheduled with the configured delay; one that is scheduled already is enough."""
        minutes = max(0, round(self.cfg.reboot_delay_s / 60))
        if self.scheduled.exists():
            return "a shutdown is scheduled already"
        program, *rest = self.cfg.reboot_command
        said = f"gpuwarden: {' '.join(reason.split())}"[:200]
        self._must(Path(program), [*rest, f"+{minutes}", said], self.cfg.services_s)
        return f"in {minutes} min; shutdown -c cancels it"

    def keep_evidence(self, subject: Subject, incident: str, why: str) -> str:
        """The kernel log, nvidia-smi and nvidia-bug-report, in a folder of the incident."""
        return self.evidence.keep(subject, incident, why)

    def mark(self, action: str, *, is_done: bool) -> None:
        """One small file, replaced as a whole: steps are taken one at a time."""
        fresh, place = self.state_dir / f"{MARK}.new", self.state_dir / MARK
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(fresh, flags, 0o600)
            try:
                os.write(fd, json.dumps({"action": action, "is_done": is_done}).encode())
                os.fdatasync(fd)
            finally:
                os.close(fd)
            os.replace(fresh, place)
        except OSError as error:
            raise Unavailable(f"{place}: {error.strerror}") from error

    def is_done(self, action: str) -> bool | None:
        """By the mark; one that cannot be read says nothing."""
        try:
            fd = os.open(self.state_dir / MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                said = json.loads(file.read(MARK_MAX_BYTES))
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return None
        if not isinstance(said, dict) or said.get("action") != action:
            return False if isinstance(said, dict) else None
        return True if said.get("is_done") is True else None

    def _must(self, program: Path, arguments: Sequence[str], timeout_s: float) -> None:
        answer = self._tool(program, timeout_s).run(*arguments)
        if answer.status != 0:
            raise Unavailable(f"{program.name}: {answer.why}")

    def _is_installed(self, unit: str) -> bool:
        answer = self._systemctl("show", "-p", "LoadState", "--value", unit)
        return answer.status == 0 and answer.out.strip() == "loaded"

    def _is_active(self, unit: str) -> bool:
        try:
            return self._systemctl("is-active", unit).out.strip() == "active"
        except Unsupported:
            return False  # no systemd: nobody manages such a service here

    def _systemctl(self, *words: str) -> Answer:
        return self._tool(self.cfg.systemctl, self.cfg.services_s).run(*words)

    def _tool(self, program: Path, timeout_s: float) -> Tool:
        return Tool(name=str(program), clock=self.clock, timeout_s=timeout_s)


def _says(answer: Answer, words: Sequence[str]) -> bool:
    text = f"{answer.out} {answer.err}".lower()
    return any(word in text for word in words)
