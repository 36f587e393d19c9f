"""What a person should do next about each health rule's faults."""

from collections.abc import Mapping

OF_RULE: Mapping[str, str] = {
    "ecc": (
        "nvidia-smi -q -d ECC,ROW_REMAPPER shows where. After an uncorrected error reset the GPU once it is "
        "empty; if the SRAM threshold is exceeded, or errors come back, have the board replaced."
    ),
    "remap": (
        "A pending remap needs a reset of the GPU once it is empty (nvidia-smi --gpu-reset); until then it "
        "harms nobody. After a failed one run the field diagnostic and have the board replaced."
    ),
    "retired": (
        "nvidia-smi -q -d PAGE_RETIREMENT lists the pages. Pending ones need a reset of the GPU once it is "
        "empty; with too many of them have the board replaced."
    ),
    "nvlink": (
        "nvidia-smi nvlink -s and -e show the links and their errors. Look for Xid 74 or 144-150 in the "
        "kernel log; reset all GPUs of the fabric together, and have cable, bridge or board looked at "
        "when it comes back."
    ),
    "pcie": (
        "lspci -vv shows the link of the device and of the port above it. Reseat the board or its riser "
        "at the next stop of the node; errors that grow need it soon."
    ),
    "throttle": (
        "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER names the cause. Look at fans, air flow and inlet "
        "temperature; for the power brake at the power supplies."
    ),
    "thermal": "Look at fans, air flow and inlet temperature before the device shuts itself down.",
    "power": (
        "nvidia-smi -q -d POWER shows the limits. A board that is held below what was set has a power "
        "cable, supply or baseboard controller that says so: look there."
    ),
    "persistence": "Start nvidia-persistenced, or set the mode: nvidia-smi -pm 1.",
    "fabric": (
        "See whether nvidia-fabricmanager runs and what its log says; nvidia-smi -q | grep -A9 Fabric "
        "shows each device's registration. New work on these GPUs may fail to start until it is whole."
    ),
    "recovery": "Do what the driver asks for once the device is empty: it knows best what heals it.",
    "inforom": (
        "nvidia-smi warns of it too. The board needs its InfoROM written again by the vendor: plan its "
        "replacement."
    ),
    "count": (
        "lspci -d 10de: lists what the bus holds, dmesg | grep -i -e NVRM -e xid why the driver has not "
        "taken it (fallen off the bus, RmInitAdapter). It usually takes a reboot, or a cold start."
    ),
    "mismatch": (
        "A driver package was upgraded under a loaded module. What runs goes on; drain the node, then "
        "reload the modules or reboot. Keep driver packages from upgrading by themselves."
    ),
    "dstate": (
        "cat /proc/PID/stack shows where it waits. It cannot be killed, and its GPU cannot be reset, until "
        "that call returns: look for Xids in the kernel log; a call that never returns needs a reboot."
    ),
    "zombie": (
        "Restart the parent that does not reap it; fuser -v /dev/nvidia* shows who still has the device "
        "open. If nobody has, the driver leaks: reset the GPU once it is empty."
    ),
    "services": (
        "systemctl status and journalctl -u of that service say why it stopped; start it again, and see "
        "that its version is the driver's."
    ),
    "wallclock": (
        "Look at the time service (timedatectl, chronyc tracking). Certificates, logs and schedulers are "
        "off by as much as the clock is."
    ),
}
