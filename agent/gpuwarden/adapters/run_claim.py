"""One agent a run directory and a state directory: locks that die with their holder, and the socket
path that goes with the first."""

import fcntl
import os
import socket
import stat
from pathlib import Path

from gpuwarden.adapters.peers import read_peer
from gpuwarden.errors import ConfigError, Refused, Unavailable

SOCKET_NAME = "gpuwarden.sock"
_PATH_MAX_BYTES = 107  # sun_path of unix(7) without its final zero
_CONNECT_DEADLINE_S = 1.0


class RunClaim:
    """The run directory, ours until ``release`` or until this process ends."""

    def __init__(self, run_dir: Path) -> None:
        """Take it. ``Refused`` when another agent has it or others may write there."""
        self.run_dir = run_dir
        self.socket_path = run_dir / SOCKET_NAME
        self.inner_dir = run_dir / "inner"
        _check_length(self.inner_dir / SOCKET_NAME)
        _make_private(run_dir, 0o755)
        # Not for others' eyes: whoever can open it can lock it, and keep the next agent from starting.
        self._lock = _opened(run_dir / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(self._lock, 0o600)
            self._take_lock()
            _make_private(self.inner_dir, 0o700)
            _make_private(
                self.run_dir / "observe", 0o755
            )  # there for containers to mount, whoever starts first
            for path in (self.socket_path, self.inner_dir / SOCKET_NAME):
                _clear_dead_socket(path)
        except BaseException:
            os.close(self._lock)
            raise

    def release(self) -> None:
        """Let the next agent have it."""
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            raise _running(holder if holder.isdecimal() else "unknown", self.run_dir) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode("ascii"), 0)


class StateClaim:
    """The state directory, ours until ``release`` or until this process ends: its journal has one
    writer.
    """

    def __init__(self, state_dir: Path) -> None:
        """Take it. ``Refused`` when another agent has it, wherever its run directory is, or when others
        may write there: what they put into the journal would be believed.

        The folder of the journal is locked: that needs no room on a full disk, and nobody else can open
        it. One that cannot be made has no journal either, and is nobody's.
        """
        self._lock: int | None = None
        folder = state_dir / "journal"
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_private(state_dir, state_dir.stat(), "agent.state_dir")
            _check_private(folder, folder.lstat(), "agent.state_dir")
            self._lock = _opened(folder, os.O_RDONLY | os.O_DIRECTORY)
            os.fchmod(self._lock, 0o700)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise Refused(
                f"another agent keeps its journal in {state_dir}: stop it first, or give this one an "
                "agent.state_dir of its own"
            ) from error
        except OSError:
            self.release()

    def release(self) -> None:
        """Let the next agent have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _running(pid: str, run_dir: Path) -> Refused:
    return Refused(
        f"another agent is running (pid {pid}): stop it first, or give this one an agent.run_dir "
        f"other than {run_dir}"
    )


def _check_length(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > _PATH_MAX_BYTES:
        fault = (
            f"agent.run_dir: {length} bytes with what is added, a socket takes {_PATH_MAX_BYTES}"
        )
        raise ConfigError((fault,))


def _make_private(folder: Path, mode: int) -> None:
    """Make it, or accept it as it is when nobody but us and root may write there."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}") from error
    _check_private(folder, status, "agent.run_dir")
    if status.st_mode & 0o777 & ~mode and mode == 0o700:
        folder.chmod(mode)


def _check_private(folder: Path, status: os.stat_result, setting: str) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{folder}: not a directory ({setting})")
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise Refused(
            f"{folder}: others may write there (owner {status.st_uid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o}); give it to root with mode 0755 ({setting})"
        )


def _opened(path: Path, flags: int, mode: int = 0) -> int:
    """Never through a link that somebody put there."""
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; move it away") from error


def _clear_dead_socket(path: Path) -> None:
    """Remove what a dead agent left; ``Refused`` for a socket that answers or no socket at all."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise Refused(f"{path}: not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_DEADLINE_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise Refused(f"{path}: {error.strerror or error}") from error
        try:
            pid = str(read_peer(probe, ()).pid)
        except Unavailable:
            pid = "unknown"
        raise _running(pid, path.parent)
