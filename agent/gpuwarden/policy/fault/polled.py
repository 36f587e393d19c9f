"""What a polled fault is for whoever repairs: its class, and what is to be done first.

What the driver wants done about a device it says itself: by a pending remap, by its recovery action, by an
Xid. So most of what is polled is watched and paged about, and nothing more is done for it; a board that is
to be replaced is handed over, and a service that is down may be started again.
"""

from collections.abc import Mapping

from gpuwarden.model.fault import Remedy
from gpuwarden.model.repair import FaultClass

OF_FAULT: Mapping[str, tuple[FaultClass, Remedy]] = {
    "ecc-uncorrected": (FaultClass.ECC, Remedy.MONITOR),
    "ecc-storm": (FaultClass.ADVISORY, Remedy.MONITOR),
    "ecc-worn": (FaultClass.ADVISORY, Remedy.MONITOR),
    "ecc-off": (FaultClass.ADVISORY, Remedy.MONITOR),
    "sram-threshold": (FaultClass.HARDWARE, Remedy.CONTACT_SUPPORT),
    "row-remap-pending": (FaultClass.REMAP, Remedy.RESET_GPU),
    "row-remap-failed": (FaultClass.REMAP_FAILED, Remedy.CONTACT_SUPPORT),
    "row-remap-exhausted": (FaultClass.REMAP_FAILED, Remedy.CONTACT_SUPPORT),
    "row-remap-spares": (FaultClass.ADVISORY, Remedy.MONITOR),
    "page-retirement-pending": (FaultClass.REMAP, Remedy.RESET_GPU),
    "retired-pages": (FaultClass.REMAP_FAILED, Remedy.CONTACT_SUPPORT),
    "nvlink-errors": (FaultClass.LINK, Remedy.MONITOR),
    "nvlink-crc": (FaultClass.LINK, Remedy.MONITOR),
    "nvlink-down": (FaultClass.LINK, Remedy.MONITOR),
    "nvlink-fewer": (FaultClass.ADVISORY, Remedy.MONITOR),
    "pcie-replays": (FaultClass.LINK, Remedy.MONITOR),
    "pcie-fatal": (FaultClass.LINK, Remedy.MONITOR),
    "pcie-non-fatal": (FaultClass.LINK, Remedy.MONITOR),
    "pcie-width": (FaultClass.LINK, Remedy.MONITOR),
    "pcie-generation": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "throttle-heat": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "throttle-power": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "throttle-warm": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "thermal-core": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "thermal-memory": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "thermal-margin": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "power-over": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "power-held": (FaultClass.PERFORMANCE, Remedy.MONITOR),
    "persistence-off": (FaultClass.ADVISORY, Remedy.MONITOR),
    "fabric-incomplete": (FaultClass.FABRIC, Remedy.MONITOR),
    "fabric-failed": (FaultClass.FABRIC, Remedy.MONITOR),
    "fabric-unhealthy": (FaultClass.FABRIC, Remedy.MONITOR),
    # The number itself is a sign of its own, read from the device.
    "recovery-reset": (FaultClass.ADVISORY, Remedy.IGNORE),
    "recovery-reboot": (FaultClass.ADVISORY, Remedy.IGNORE),
    "recovery-drain-p2p": (FaultClass.ADVISORY, Remedy.IGNORE),
    "recovery-drain-reset": (FaultClass.ADVISORY, Remedy.IGNORE),
    "recovery-imex": (FaultClass.ADVISORY, Remedy.IGNORE),
    "recovery-other": (FaultClass.ADVISORY, Remedy.IGNORE),
    "inforom-corrupted": (FaultClass.HARDWARE, Remedy.MONITOR),
    "device-count": (FaultClass.HOST, Remedy.MONITOR),
    "driver-mismatch": (FaultClass.DRIVER, Remedy.MONITOR),
    "task-stuck": (FaultClass.HOST, Remedy.MONITOR),
    "memory-of-the-dead": (FaultClass.HOST, Remedy.MONITOR),
    "nvidia-fabricmanager-down": (FaultClass.SERVICE, Remedy.RESTART_FABRIC),
    "nvidia-imex-down": (FaultClass.SERVICE, Remedy.RESTART_FABRIC),
    "nvidia-persistenced-down": (FaultClass.SERVICE, Remedy.MONITOR),
    "clock-unsynchronised": (FaultClass.ADVISORY, Remedy.MONITOR),
    "clock-set": (FaultClass.ADVISORY, Remedy.MONITOR),
}
"""Every fault of ``policy.health``."""

OTHER = (FaultClass.HARDWARE, Remedy.CONTACT_SUPPORT)
