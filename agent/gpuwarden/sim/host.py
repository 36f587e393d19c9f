"""A simulated GPU host: the driver process, the environment that makes clients see it, workloads."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gpuwarden.errors import Unavailable
from gpuwarden.sim.control import Control
from gpuwarden.sim.driver.build import Built, build
from gpuwarden.sim.smi import write_program

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
SHARED_MEMORY = "/dev/shm"
PROFILES = ("A100-40", "H100-80", "H200-141", "L4", "T4")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """What the driver starts with; everything that varies follows from ``seed``."""

    devices: int = 1  # 1..16
    profile: str = "A100-40"
    seed: int = 0
    fans: int = 0  # data-centre boards have none of their own
    mig: tuple[int, ...] = ()  # devices that start partitioned

    def arguments(self) -> list[str]:
        words = ["--devices", str(self.devices), "--profile", self.profile]
        words += ["--seed", str(self.seed), "--fans", str(self.fans)]
        return words + (["--mig", ",".join(map(str, self.mig))] if self.mig else [])


class Workload:
    """One running workload process. ``pid`` is its host pid."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._output = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int | None:
        """Where ``serve`` listens; None for the others."""
        for line in bytes(self._output).splitlines():
            if line.startswith(b"port "):
                return int(line.split()[1])
        return None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until its memory is there (``serve``: until it listens); Unavailable when it fails."""
        if not self._output:
            self._output += read_until(self._process, b"ready", f"workload {self.pid}", timeout_s)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def terminate(self) -> None:
        """SIGTERM, which the workload may ignore."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGKILL, and wait until it is reaped."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Its exit status; raises Unavailable when it still runs after ``timeout_s``."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"workload {self.pid} still runs after {timeout_s} s") from error
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


def read_until(
    process: subprocess.Popen[bytes], word: bytes, what: str, timeout_s: float
) -> bytearray:
    """Output of ``process`` up to the line ``word``; Unavailable when it ends or takes too long."""
    assert process.stdout is not None
    end = time.monotonic() + timeout_s
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while word not in bytes(output).splitlines():
            if not selector.select(max(0.0, end - time.monotonic())):
                raise Unavailable(f"{what} was not ready within {timeout_s} s")
            part = os.read(process.stdout.fileno(), 4096)
            if not part:
                status = process.wait(STOP_TIMEOUT_S)
                raise Unavailable(f"{what} ended with status {status}: {_said(process)}")
            output += part
    return output


def _said(process: subprocess.Popen[bytes]) -> str:
    if process.stderr is None:
        return "see its standard error"
    return process.stderr.read(2000).decode(errors="replace").strip()


def _memory_backed() -> str | None:
    """Where shared state is never written to a disk, whose writeback would stall the driver."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None


class SimHost:
    """Runs the driver process for the time of a ``with`` block (or from ``start`` to ``stop``).

    Raises Unsupported when the programs cannot be compiled, Unavailable when the driver does not
    come up. The folder is made in shared memory unless given; it holds the sockets, and a
    container that has it bind-mounted at the same path sees the same devices.
    """

    def __init__(
        self,
        options: SimOptions | None = None,
        *,
        folder: Path | None = None,
        built: Built | None = None,
    ) -> None:
        self.options = options or SimOptions()
        self._given_folder = folder
        self._folder: Path | None = None
        self._built = built
        self._driver: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._workloads: list[Workload] = []
        self.driver_status: int | None = None  # of the driver process, once it ended
        self.driver_said = ""  # on its standard error, once it ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Where the sockets are. Only while the host runs."""
        if self._folder is None:
            raise Unavailable("the simulated host is not running")
        return self._folder

    @property
    def nvidia_smi(self) -> Path:
        """An ``nvidia-smi`` that can reset this host's devices, and nothing else."""
        return self.folder / "nvidia-smi"

    @property
    def built(self) -> Built:
        if self._built is None:
            self._built = build()
        return self._built

    @property
    def driver_pid(self) -> int:
        if self._driver is None:
            raise Unavailable("the simulated host is not running")
        return self._driver.pid

    def start(self) -> None:
        built = self.built
        self._folder = self._given_folder or Path(
            tempfile.mkdtemp(prefix="gpuwarden-sim-", dir=_memory_backed())
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)  # clients of other users, and in containers, come here
        try:
            self._driver = subprocess.Popen(
                [
                    str(built.driver),
                    "--dir",
                    str(self._folder),
                    "--stdin-holds",
                    *([] if self._given_folder else ["--owns-dir"]),
                    *self.options.arguments(),
                ],
                stdin=subprocess.PIPE,  # closes when this process dies, however it dies
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle, not its
            )
            read_until(self._driver, b"ready", "the simulated driver", START_TIMEOUT_S)
            self._control = Control(self._folder)
            write_program(self._folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends workloads and driver; does nothing the second time."""
        for workload in self._workloads:
            with contextlib.suppress(Unavailable):
                workload.kill()
        self._workloads.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._driver is not None:
            self._stop_driver(self._driver)
            self._driver = None
        if self._folder is not None and self._given_folder is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _stop_driver(self, driver: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            driver.terminate()
        try:
            self.driver_status = driver.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            driver.kill()
            self.driver_status = driver.wait(STOP_TIMEOUT_S)
        if driver.stderr is not None:
            self.driver_said = driver.stderr.read(65536).decode(errors="replace")
        for stream in (driver.stdin, driver.stdout, driver.stderr):
            if stream is not None:
                stream.close()

    def env(self, inherit: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment that makes any NVML client see this host's devices."""
        merged = dict(os.environ if inherit is None else inherit)
        library = str(self.built.library.parent)
        before = merged.get("LD_LIBRARY_PATH", "")
        merged["LD_LIBRARY_PATH"] = f"{library}:{before}" if before else library
        merged["GPUWARDEN_SIM_DIR"] = str(self.folder)
        merged["PATH"] = f"{self.nvidia_smi.parent}:{merged.get('PATH', os.defpath)}"
        return merged

    def control(
        self, command: str, *, deadline_s: float | None = None, **arguments: object
    ) -> dict[str, Any]:
        """One command to the driver; see sim/driver/queries.c and injections.c."""
        if self._control is None:
            raise Unavailable("the simulated host is not running")
        return self._control.request(command, deadline_s=deadline_s, **arguments)

    def start_workload(
        self,
        command: str,
        *arguments: str,
        devices: Iterable[int | str] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
        wait: bool = True,
    ) -> Workload:
        """Starts ``hold``, ``hog`` or ``serve`` as a plain process and waits until it is ready.

        ``devices`` becomes NVIDIA_VISIBLE_DEVICES. With ``wait`` false it may still be starting.
        """
        environment = self.env(env)
        if devices is not None:
            environment["NVIDIA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
        process = subprocess.Popen(
            [str(self.built.workload), command, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        workload = Workload(process)
        self._workloads.append(workload)
        if wait:
            workload.wait_ready(timeout_s)
        return workload

    def bytes_of(self, pid: int, device: int | str = 0) -> int:
        """What the driver says that one process holds on one device; 0 when it holds nothing."""
        listed = self.control("processes", device=device)["processes"]
        return sum(entry["bytes"] for entry in listed if entry["pid"] == pid)
