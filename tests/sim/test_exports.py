"""Every function of the interface is there, and what is not simulated says so."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pynvml

from gpuwarden.sim.driver.build import SOURCES, symbols
from gpuwarden.sim.host import SimHost
from tests.sim.sight import library

NOT_SUPPORTED = 3
UNINITIALIZED = 1


def _named_by_the_binding() -> set[str]:
    text = Path(pynvml.__file__).read_text(encoding="utf-8")
    return set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', text))


def _implemented() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("nvml_*.c"))
    return {name for name in symbols() if re.search(rf"\b{name}\b *[,(]", text)}


def test_all_that_the_python_binding_names_is_exported() -> None:
    assert _named_by_the_binding() - set(symbols()) == set()


def test_most_that_clients_call_is_simulated() -> None:
    assert len(_implemented()) > 170


def test_what_is_not_simulated_answers_not_supported(nvml: SimHost) -> None:
    lib = library(nvml)
    device = pynvml.nvmlDeviceGetHandleByIndex(0)
    room = ctypes.create_string_buffer(65536)
    answers = {}
    for name in sorted(set(symbols()) - _implemented()):
        first = device if name.startswith("nvmlDevice") else ctypes.byref(room)
        answers[name] = getattr(lib, name)(first, room, room, room, room)
    assert set(answers.values()) == {NOT_SUPPORTED}, answers


def test_before_init_everything_is_uninitialized(host: SimHost) -> None:
    lib = library(host)
    exempt = {"nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString"}
    room = ctypes.create_string_buffer(65536)
    for name in sorted(set(symbols()) - exempt):
        assert getattr(lib, name)(room, room, room, room, room) == UNINITIALIZED, name


def test_calls_are_counted_by_function(nvml: SimHost) -> None:
    nvml.control("counters", reset=True)
    device = pynvml.nvmlDeviceGetHandleByIndex(1)
    for _ in range(5):
        pynvml.nvmlDeviceGetName(device)
    calls = nvml.control("counters")["calls"]
    assert calls == {"nvmlDeviceGetHandleByIndex_v2": 1, "nvmlDeviceGetName": 5}
