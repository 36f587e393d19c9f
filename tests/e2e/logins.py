"""A user who is logged in through the real sshd, with a session and a manager of systemd's own."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.agent import until
from tests.e2e.units import ASK_TIMEOUT_S, systemctl

USER = "gw-user"


def run(*words: str) -> None:
    subprocess.run(words, stdin=subprocess.DEVNULL, timeout=ASK_TIMEOUT_S, check=True)


class Logins:
    """Makes the user (once a machine) and logs in as them."""

    def __init__(self) -> None:
        systemctl("start", "ssh.service")
        try:
            self.home = Path(pwd.getpwnam(USER).pw_dir)
        except KeyError:
            run("useradd", "--create-home", "--shell=/bin/bash", USER)
            self.home = Path(pwd.getpwnam(USER).pw_dir)
            self._authorize()
        self.uid = pwd.getpwnam(USER).pw_uid
        self._open: list[Login] = []

    def _authorize(self) -> None:
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id"))
        (folder / "id.pub").rename(folder / "authorized_keys")
        run("cp", str(folder / "id"), f"/root/{USER}.key")
        run("chown", "-R", USER, str(folder))

    def login(self, *, has_terminal: bool = True) -> Login:
        login = Login(self.home, has_terminal=has_terminal)
        self._open.append(login)
        login.ask("true")
        return login

    def close(self) -> None:
        for login in self._open:
            login.close()
        subprocess.run(["loginctl", "terminate-user", USER], timeout=ASK_TIMEOUT_S, check=False)


class Login:
    """One ssh connection with a shell at its end, which is told what to do line by line."""

    def __init__(self, home: Path, *, has_terminal: bool) -> None:
        self._home = home
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        words = ["ssh", "-i", f"/root/{USER}.key", *options, "-tt" if has_terminal else "-T"]
        self._process = subprocess.Popen(
            [*words, f"{USER}@127.0.0.1", "exec bash -i" if has_terminal else "exec bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def ask(self, line: str) -> str:
        """What a command says; the shell has to be there to run it."""
        answer = self._home / f"answer-{uuid.uuid4().hex[:8]}"
        self.say(f"{{ {line} ; }} > {answer}.new 2>&1; mv {answer}.new {answer}")
        until(f"an answer to {line}", answer.exists)
        return answer.read_text().strip()

    def start(self, line: str) -> int:
        """A job in the background; its pid."""
        self.say(f"{line} > /dev/null 2>&1 &")
        return int(self.ask("echo $!"))

    def is_open(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait(ASK_TIMEOUT_S)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()


def keepers(pid: int) -> Iterator[int]:
    """Who stands above a process up to pid 1: its shell, sshd, and the daemon."""
    while pid > 1:
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(status.split("PPid:")[1].split()[0])
        if pid > 1:
            yield pid


def is_there(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
