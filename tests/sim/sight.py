"""How the tests see a simulated host: pynvml in this process, bound to its library."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pynvml
import pytest

from gpuwarden.errors import Unsupported
from gpuwarden.sim.driver.build import Built, build
from gpuwarden.sim.host import SimHost

GIB = 1024**3
MIB = 1024**2


def until(claim: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether ``claim`` came true in time; asked every 10 ms."""
    never = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if claim():
            return True
        never.wait(0.01)
    return claim()


def built_or_skip() -> Built:
    try:
        return build()
    except Unsupported as error:
        pytest.skip(str(error).splitlines()[0])


def library(host: SimHost) -> ctypes.CDLL:
    """The library by path; its soname then answers for every client in this process."""
    return ctypes.CDLL(str(host.built.library))


@contextmanager
def seen(host: SimHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pynvml, initialised, sees this host's devices."""
    monkeypatch.setenv("GPUWARDEN_SIM_DIR", str(host.folder))
    monkeypatch.setattr(pynvml, "nvmlLib", library(host))
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def code(call: Callable[[], object]) -> int:
    """The NVML return code of a call through pynvml."""
    try:
        call()
    except pynvml.NVMLError as error:
        return int(error.value)
    return 0
