"""``/proc/<pid>/stat`` as text -> fields. Pure; a process may call itself anything."""

from dataclasses import dataclass

_FIELDS_NEEDED = 20  # up to field 22, counted from the state (field 3)
_SHELLS = frozenset(
    {"sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "ash", "nu"}
)
_KEEPERS = (
    *("sshd", "login", "systemd", "(sd-pam)", "dbus-daemon", "dbus-broker", "tmux: server"),
    *("screen", "SCREEN", "gdm-", "lightdm", "sddm", "Xorg", "Xwayland", "agetty"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcStat:
    """The fields that identify a process. ``start``: clock ticks since boot (field 22)."""

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    tty: int
    threads: int
    start: int

    @property
    def is_running(self) -> bool:
        """False for a zombie; a dead main thread whose siblings live on is no zombie."""
        return self.state not in "ZXx" or self.threads > 1

    @property
    def keeps_session(self) -> bool:
        """Whether somebody's login hangs on it: sshd and its like, or a shell that leads a terminal.

        It shares a group with what it started only where that has no job control; it is never a
        member to act on. A shell without a terminal runs a script, and goes with its group.
        """
        if self.comm.startswith(_KEEPERS):
            return True
        return self.tty != 0 and self.pid == self.session and self.comm.lstrip("-") in _SHELLS


def parse_stat(raw: bytes) -> ProcStat | None:
    r"""The fields, or ``None`` when this is no stat line.

    ``comm`` stands between the first ``(`` and the LAST ``)``: it may hold brackets, blanks, line
    breaks and bytes that are no UTF-8 (shown as U+FFFD), and it is untrusted.
    """
    # 4711 (a) b (c) S 1 4711 4711 0 -1 4194304 ... 1 0 88123 ...
    opening, closing = raw.find(b"("), raw.rfind(b")")
    if not 0 < opening < closing:
        return None
    fields = raw[closing + 1 :].split()
    if len(fields) < _FIELDS_NEEDED or len(fields[0]) != 1:
        return None
    try:
        return ProcStat(
            pid=int(raw[:opening]),
            comm=raw[opening + 1 : closing].decode("utf-8", "replace"),
            state=fields[0].decode("ascii"),
            ppid=int(fields[1]),
            pgrp=int(fields[2]),
            session=int(fields[3]),
            tty=int(fields[4]),
            threads=int(fields[17]),
            start=int(fields[19]),
        )
    except ValueError:
        return None
