"""Has the kernel itself write driver lines into its log, in a network namespace of its own.

User space cannot write a line of facility 0 into /dev/kmsg; netfilter's LOG target can, with a prefix of up to
29 bytes. ``latency_writer.py ADDRESS...`` makes one rule an address; for each number on standard input it sends
one datagram to nobody, which has the line written, and answers with the nanosecond at which it began.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

PORT = 7000
PREFIX_MAX = 29
LOG_LEVEL = "debug"  # as a rule not shown on the console, which would slow the kernel down


def prefix_of(pci: str) -> str:
    """The older form of a line, without ``PCI:``: the other one is too long by two bytes."""
    text = f"NVRM: Xid ({pci}): 79, "
    if len(text) > PREFIX_MAX:
        raise SystemExit(f"{pci}: too long an address for a line of the kernel's own")
    return text


def main(addresses: list[str]) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for number, pci in enumerate(addresses):
        rule = ["-p", "udp", "--dport", str(PORT + number), "-j", "LOG"]
        rule += ["--log-level", LOG_LEVEL, "--log-prefix", prefix_of(pci)]
        subprocess.run(["iptables", "-A", "OUTPUT", *rule], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        print("ready", flush=True)
        for line in sys.stdin:
            began = time.monotonic_ns()
            sender.sendto(b"x", ("127.0.0.1", PORT + int(line)))
            print(began, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
