"""Command-line tools of runtimes: no shell, a deadline, bounded output, a minimal environment."""

import os
import selectors
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable, Unsupported

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_OUTPUT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool said. ``out`` and ``err`` are text; bytes that are no UTF-8 are replaced."""

    status: int
    out: str
    err: str

    @property
    def why(self) -> str:
        """The tool's own words in one line, for messages."""
        return " ".join((self.err or self.out).split())[:300] or f"exit status {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One program, found on ``path`` each time it is needed.

    Arguments are passed as they are: whoever calls has compared them with a strict pattern. Only
    ``PATH``, ``LC_ALL`` and ``env`` are in the environment.
    """

    name: str
    clock: Clock
    timeout_s: float
    path: str = SAFE_PATH
    options: tuple[str, ...] = ()
    """Options that go before every call's own arguments."""
    env: Mapping[str, str] = field(default_factory=dict)

    def where(self) -> str | None:
        """Its absolute path, ``None`` when it is not installed."""
        return shutil.which(self.name, path=self.path)

    def run(self, *args: str, extra_s: float = 0.0, said: bytes | None = None) -> Answer:
        """Run it to its end; ``Unsupported`` when it is not there, ``Unavailable`` past the deadline.

        ``said`` is its standard input; by default that is empty. Past the deadline its whole process group is killed. Output beyond ``MAX_OUTPUT_BYTES`` counts
        as a failure.
        """
        program = self.where()
        if program is None:
            raise Unsupported(f"no {self.name} on {self.path}")
        until = self.clock.now() + self.timeout_s + extra_s
        spoken = None if said is None else _held(said)
        try:
            process = subprocess.Popen(
                [program, *self.options, *args],
                stdin=subprocess.DEVNULL if spoken is None else spoken,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": self.path, "LC_ALL": "C.UTF-8", **self.env},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise Unavailable(f"{program}: {error.strerror}") from error
        finally:
            if spoken is not None:
                os.close(spoken)
        try:
            out, err = self._read(process, until)
            status = process.wait(max(0.01, until - self.clock.now()))
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise Unavailable(
                f"{self.name} did not end in {self.timeout_s + extra_s:.1f} s"
            ) from error
        finally:
            _end(process)
        return Answer(status=status, out=out, err=err)

    def _read(self, process: "subprocess.Popen[bytes]", until: float) -> Sequence[str]:
        streams = (process.stdout, process.stderr)
        parts: dict[int, list[bytes]] = {}
        left = MAX_OUTPUT_BYTES
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                if stream is not None:
                    parts[stream.fileno()] = []
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                wait_s = until - self.clock.now()
                if wait_s <= 0:
                    raise TimeoutError
                for key, _ in selector.select(wait_s):
                    part = os.read(key.fd, 65536)
                    parts[key.fd].append(part)
                    left -= len(part)
                    if not part:
                        selector.unregister(key.fileobj)
                    if left < 0:
                        raise Unavailable(f"{self.name} says more than it ever should")
        return [b"".join(part).decode("utf-8", "replace") for part in parts.values()]


def _held(data: bytes) -> int:
    """A descriptor to read this from: in memory, so that nobody has to write while the other reads."""
    fd = os.memfd_create("said", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of it is left: killed as a group, reaped, pipes closed."""
    if process.returncode is None:  # not reaped yet, so its group's number is still its own
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)  # one in state D is left to the kernel
