"""A process that holds simulated device memory and then misbehaves: ``holder.py SOCKET zombie``, ``... stuck FIFO``.

``zombie``: the one that allocated ends and is not reaped, while another keeps its connection open.
``stuck``: it waits in the kernel, without a signal reaching it, until somebody opens the FIFO.
Prints the pid that the driver lists.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys

MAGIC = 0x47575032
HELLO, ALLOC, WORKLOAD = 1, 3, 1
SIZE = 1 << 30


def hold(path: str) -> socket.socket:
    """A connection to the driver that holds 1 GiB of its first device."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    for op, value, kind in ((HELLO, WORKLOAD, 1), (ALLOC, SIZE, 0)):
        connection.send(struct.pack("<IIQIIQQ", MAGIC, op, 1, 0, 0, value, kind))
        status = struct.unpack_from("<I", connection.recv(4096), 16)[0]
        if status != 0:
            raise SystemExit(f"the driver refused: {status}")
    return connection


def say(pid: int) -> None:
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()


def zombie(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        connection = hold(path)
        if os.fork() == 0:
            connection.set_inheritable(True)
            signal.pause()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    say(pid)
    signal.pause()


def stuck(path: str, fifo: str) -> None:
    connection = hold(path)
    say(os.getpid())
    action = (os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=[action]), 0)
    connection.close()


if __name__ == "__main__":
    if sys.argv[2] == "zombie":
        zombie(sys.argv[1])
    else:
        stuck(sys.argv[1], sys.argv[3])
