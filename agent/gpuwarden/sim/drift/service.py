"""The simulated service, a process of its own: holds device memory, answers requests, and tells the agent of them with
``gpuwarden.client``.

``python -m gpuwarden.sim.drift.service DRIVER-SOCKET OBSERVE-SOCKET SEED``. Each line on its standard input is
``{"first": 0, "rows": 100, "per_s": 200, "shift": 0.0, "labelled": 0.5}``; each is answered by what the client says of itself and the word ``told``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from gpuwarden.client import Client
from gpuwarden.sim.drift.stream import request
from gpuwarden.sim.holder import hold

COMM = "drift-reader"
TOLD = "told"
FLUSH_S = 10.0
LATENCY_S = 0.02


def tell(client: Client, seed: int, said: dict[str, float]) -> None:
    """So many requests, evenly spread."""
    first, rows = int(said["first"]), int(said["rows"])
    begun = time.monotonic()
    for place in range(rows):
        each = request(seed, first + place, said["shift"])
        ahead_s = place / said["per_s"] - (time.monotonic() - begun)
        if ahead_s > 0.02:
            time.sleep(ahead_s)
        client.observe(
            latency=LATENCY_S,
            ok=True,
            features=each.features,
            prediction=each.prediction,
            prediction_id=each.id,
            confidence=each.confidence,
            segment=each.segment,
            payload=f"scans/{each.id}",
        )
        if place % 100 < said["labelled"] * 100:
            client.observe(prediction_id=each.id, label=each.truth)


def main(driver: str, observe: str, seed: int) -> None:
    Path("/proc/self/comm").write_text(COMM, encoding="ascii")
    held = hold(driver)
    client = Client(observe, every_s=0.5)
    print("ready", flush=True)  # noqa: T201  the other side waits for it
    for line in sys.stdin:
        tell(client, seed, json.loads(line))
        is_told = client.flush(FLUSH_S)
        answer = {"is_told": is_told, "sent": client.sent, "lost": client.lost}
        print(f"{json.dumps(answer)}\n{TOLD}", flush=True)  # noqa: T201  likewise
    held.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
