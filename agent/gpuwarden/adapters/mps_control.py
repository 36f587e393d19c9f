"""The control daemon of MPS: one command at a time over its text interface.

Commands: NVIDIA, Multi-Process Service, appendix. The program is looked for at each call: an MPS server may
be started long after the agent.
"""

import os
import shutil
import subprocess

from gpuwarden.errors import Unavailable, Unsupported

CONTROL = "nvidia-cuda-mps-control"
TIMEOUT_S = 2.0
_REPLY_MAX = 64 * 1024


class MpsControl:
    """Asks the daemon. Each call blocks up to ``timeout_s``: for workers."""

    def __init__(self, control: str = CONTROL, timeout_s: float = TIMEOUT_S) -> None:
        """``control``: the program, by name or path."""
        self._control = control
        self._timeout_s = timeout_s

    def servers(self) -> list[int]:
        """Pids of the running servers."""
        return self._numbers("get_server_list")

    def clients(self, server: int) -> list[int]:
        """Host pids of a server's clients."""
        return self._numbers(f"get_client_list {server}")

    def command(self, command: str) -> str:
        """One command; its reply. ``Unsupported``: no program or no daemon."""
        program = shutil.which(self._control)
        if program is None:
            raise Unsupported(f"no {self._control} on this host")
        try:
            done = subprocess.run(
                [program],
                input=command + "\n",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout_s,
                check=False,
                env=dict(os.environ),
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{command}: no answer within {self._timeout_s:g} s") from error
        except OSError as error:
            raise Unsupported(f"{program}: {error.strerror}") from error
        if done.returncode != 0:
            # Cannot find MPS control daemon process
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Unsupported(f"{self._control}: {said[0][:200] if said else 'no daemon answers'}")
        return done.stdout[:_REPLY_MAX]

    def _numbers(self, command: str) -> list[int]:
        return [int(line) for line in self.command(command).split("\n") if line.strip().isdigit()]
