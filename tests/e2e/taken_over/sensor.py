"""A probe child in the hands of somebody else: says what it likes, in the child's own language and in none."""

from __future__ import annotations

import os
import random
import select
import socket
import sys
import time

from gpuwarden.adapters.probe import layout

DEVICES = 2
TOTAL = 80 * 2**30
EVERY_S = 0.05
GARBAGE_A_TURN = 20
EVENTS = {0x2: 1, 0x8: 79, 0x400: 1, 0x2000: 1, 0x4000: 1, 0x8000: 4}
"""Uncorrected errors, Xid 79, retirement, poison, a lost device, a reset that the driver is said to want."""


def frame(kind: int, payload: bytes, *, ordinal: int = layout.NO_DEVICE, part: int = 0) -> bytes:
    return layout.HEADER.pack(len(payload), kind, part, ordinal, time.monotonic()) + payload


def memory() -> bytes:
    used = TOTAL - 2 * 2**30
    return layout.MEMORY_RECORD.pack(layout.MEMORY_V2_VERSION, 0, TOTAL, 2**30, 2**30, used)


def accusation(pids: list[int]) -> bytes:
    """All of them hold nearly the whole device, each."""
    rows = [layout.ROW.pack(pid, 0, TOTAL - 3 * 2**30, 0xFFFFFFFF, 0xFFFFFFFF) for pid in pids]
    head = layout.LIST_HEAD.pack(
        0, len(rows), layout.LIST_SKIPPED, 0, layout.LIST_SKIPPED, 0, layout.ROW.size, 0
    )
    return memory() + head + b"".join(rows)


def first_words() -> bytes:
    hello = layout.HELLO_BODY.pack(b"550.54.15", b"12.550.54", 12040)
    records = [
        layout.RECORD.pack(0, n, -1, 0, n, b"GPU-taken-over-%d" % n, b"H100", b"0000:3%d:00.0" % n)
        for n in range(DEVICES)
    ]
    return frame(layout.HELLO, hello) + frame(layout.INVENTORY, b"".join(records))


def lies(pids: list[int]) -> bytes:
    said = frame(layout.MEMORY, memory() * DEVICES)
    for ordinal in range(DEVICES):
        said += frame(layout.LIST, accusation(pids), ordinal=ordinal)
        for kind, data in EVENTS.items():
            body = layout.EVENT_BODY.pack(kind, data, 0xFFFFFFFF, 0xFFFFFFFF)
            said += frame(layout.EVENT, body, ordinal=ordinal, part=layout.EVENTS)
    return said


def garbage(chance: random.Random) -> bytes:
    """Any kind, also those that only the parent says; any device; any time; any bytes."""
    body = chance.randbytes(chance.randrange(400))
    at = chance.choice([time.monotonic(), float("nan"), float("inf"), -1e300, 1e300])
    kinds = [*range(40), 255]
    kinds.remove(layout.GONE)  # it would be let go, and could say no more
    kinds.remove(layout.INVENTORY)  # and what it says of its devices would be forgotten
    head = layout.HEADER.pack(
        *(len(body), chance.choice(kinds), chance.randrange(256), chance.randrange(65536), at)
    )
    return chance.choice([head + body, body, head[: chance.randrange(16)] or b"x"])


def main() -> None:
    # PYTHON -I -S -c BOOT ROOT FRAMES REQUESTS SHARED ...
    at = sys.argv.index("-c") + 3
    numbers = [int(word) for word in sys.argv[at - 1 : at + 3] if word.isdigit()][:3]
    frames, requests = (socket.socket(fileno=number) for number in numbers[:2])
    for end in (frames, requests):
        end.setblocking(False)
    pids = [os.getppid(), 2**22, *map(int, os.environ["ACCUSED"].split(","))]
    chance = random.Random(54)
    send(frames, first_words())
    while True:
        send(frames, lies(pids))
        if os.path.exists(os.environ["NONSENSE"]):
            for _ in range(GARBAGE_A_TURN):
                send(frames, garbage(chance))
                send(requests, layout.ANSWER.pack(chance.randrange(9), 0, 0, 0, 0))
                send(requests, chance.randbytes(60))
            os.pwrite(numbers[2], chance.randbytes(layout.SHARED_BYTES), 0)
        select.select([], [], [], EVERY_S)


def send(end: socket.socket, message: bytes) -> None:
    try:
        end.send(message)
    except BlockingIOError:
        return
    except OSError:
        sys.exit(0)  # it was hung up


if __name__ == "__main__":
    main()
