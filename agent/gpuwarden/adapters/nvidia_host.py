"""What the host's files say of NVIDIA's driver, devices and services; every path is below one root."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

VENDOR = "0x10de"
_GPU_CLASSES = ("0x0300", "0x0302")
"""VGA and 3D controllers."""
_SWITCH_CLASS = "0x0680"
"""An NVSwitch is a bridge of another kind."""
_LIBRARY_FOLDERS = (
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/local/nvidia/lib64",
    "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
)
_UNIT_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_MAX_BYTES = 4096
_MAX_LINKS = 5
# libnvidia-ml.so.580.95.05
_LIBRARY = re.compile(r"libnvidia-ml\.so\.(\d{3,4}(?:\.\d{1,4}){1,2})\Z")
# NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (builder@)
_MODULE = re.compile(r"NVRM version:.{0,120}?\s(\d{3,4}(?:\.\d{1,4}){1,2})\s")
# GPU Excluded:	 Yes
_EXCLUDED = re.compile(r"^GPU Excluded:\s*Yes\s*$", re.MULTILINE)
# 580.95.05
_VERSION = re.compile(r"\d{3,4}(?:\.\d{1,4}){1,2}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """What the PCI bus holds; None: it cannot be seen."""

    gpus: int | None
    nvswitches: int | None


class NvidiaHost:
    """Reads below ``root``; what is not there is None or False, never an exception."""

    def __init__(self, root: str, library: str | None = None) -> None:
        """``library``: the one that programs load, where it is not in a usual folder."""
        self._root = root.rstrip("/")
        self._library = library

    def module_version(self) -> str | None:
        """Of the loaded kernel module."""
        said = self._text("sys/module/nvidia/version").strip()
        if _VERSION.match(said):
            return said
        match = _MODULE.search(self._text("proc/driver/nvidia/version"))
        return match[1] if match else None

    def library_version(self) -> str | None:
        """Of the libnvidia-ml.so.1 that a new program would load, by the name of the file it leads to."""
        if self._library is not None:
            return self._version_of(self._library)
        for folder in _LIBRARY_FOLDERS:
            found = self._version_of(f"{self._root}/{folder}/libnvidia-ml.so.1")
            if found is not None:
                return found
        return None

    def _version_of(self, path: str) -> str | None:
        for _ in range(_MAX_LINKS):
            match = _LIBRARY.search(path)
            if match:
                return match[1] if os.path.exists(path) else None
            try:
                target = os.readlink(path)
            except OSError:
                return None
            is_absolute = target.startswith("/")
            path = f"{self._root}{target}" if is_absolute else f"{os.path.dirname(path)}/{target}"
        return None

    def bus(self) -> Bus:
        """GPUs that are the driver's or nobody's, and NVSwitches."""
        folder = f"{self._root}/sys/bus/pci/devices"
        try:
            names = os.listdir(folder)
        except OSError:
            return Bus(gpus=None, nvswitches=None)
        gpus = switches = 0
        for name in names:
            at = f"sys/bus/pci/devices/{name}"
            if self._text(f"{at}/vendor").strip() != VENDOR:
                continue
            kind = self._text(f"{at}/class").strip()
            if kind.startswith(_SWITCH_CLASS):
                switches += 1
            elif kind.startswith(_GPU_CLASSES) and self._is_ours(at, name):
                gpus += 1
        return Bus(gpus=gpus, nvswitches=switches)

    def _is_ours(self, at: str, name: str) -> bool:
        """Not left to a guest or another driver, no virtual function, not excluded by the operator."""
        if os.path.lexists(f"{self._root}/{at}/physfn"):
            return False
        try:
            driver = os.path.basename(os.readlink(f"{self._root}/{at}/driver"))
        except OSError:
            driver = ""
        told = self._text(f"proc/driver/nvidia/gpus/{name}/information")
        return driver in ("nvidia", "") and not _EXCLUDED.search(told)

    def imex_channels(self) -> int | None:
        """Channel devices; None where /dev cannot be listed."""
        try:
            names = os.listdir(f"{self._root}/dev/nvidia-caps-imex-channels")
        except FileNotFoundError:
            return 0 if os.path.isdir(f"{self._root}/dev") else None
        except OSError:
            return None
        return sum(name.startswith("channel") for name in names)

    def is_installed(self, unit: str) -> bool:
        """Whether systemd knows the unit and it is not masked."""
        for folder in _UNIT_FOLDERS:
            path = f"{self._root}/{folder}/{unit}"
            if os.path.lexists(path):
                return not (os.path.islink(path) and os.readlink(path) == "/dev/null")
        return False

    def is_enabled(self, unit: str) -> bool:
        """Whether it is started with the host: some target wants or requires it."""
        return self.is_installed(unit) and any(
            os.path.lexists(f"{folder}/{unit}") for folder in self._wants()
        )

    def _wants(self) -> Iterator[str]:
        for base in _UNIT_FOLDERS[:2]:
            folder = f"{self._root}/{base}"
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            yield from (f"{folder}/{n}" for n in names if n.endswith((".wants", ".requires")))

    def _text(self, path: str) -> str:
        """The beginning of a small file; empty when it is not there."""
        try:
            fd = os.open(f"{self._root}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return ""
        try:
            return os.read(fd, _MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""
        finally:
            os.close(fd)
