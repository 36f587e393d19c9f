"""An aggregator in this process, over mutual TLS on loopback, whose numbers the scene brings."""

from __future__ import annotations

import asyncio
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

from gpuwarden.adapters.pki.names import write_credentials
from gpuwarden.aggregator.numbers import Numbers
from gpuwarden.aggregator.wiring import Parts, build, serve
from gpuwarden.clock import SystemClock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.sim.incident.daemon import free_port

START_S = 30.0
STOP_S = 15.0
LASTS_S = 86_400.0


class LiveCentre:
    """Serves from ``with`` to its end; its state stays in the folder, so that another one may go on with it."""

    def __init__(self, folder: Path, rollout: dict[str, object], numbers: Numbers | None) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = folder
        self._numbers = numbers
        centre = {
            "listen": self.address,
            "enrol_listen": "none",
            "metrics_listen": "none",
            "state_dir": folder / "aggregator",
        }
        self._cfg = AggregatorConfig.model_validate({"aggregator": centre, "rollout": rollout})
        self._told: queue.Queue[BaseException | None] = queue.Queue()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="centre", daemon=True)
        self.parts: Parts

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            error = self._told.get(timeout=START_S)
        except queue.Empty as late:
            raise Unavailable("the aggregator did not start") from late
        if error is not None:
            raise Unavailable(f"the aggregator did not start: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_S)

    def identity(self, name: str, role: Role) -> Path:
        """The folder of a certificate, straight from the authority."""
        folder = self.folder / "identities" / name
        own = self.parts.authority.credentials(
            Identity(role=role, name=name), ttl_s=LASTS_S, wall=SystemClock().wall()
        )
        write_credentials(folder, own)
        return folder

    def _run(self) -> None:
        try:
            uvloop.run(self._main())
        except BaseException as error:  # noqa: BLE001  whoever waits is told
            self._told.put(error)

    async def _main(self) -> None:
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.parts = build(self._cfg, SystemClock())
        if self._numbers is not None:
            self.parts.rollouts.rollouts.attach(self._numbers)
        await serve(self.parts, self._stop, lambda ports: self._told.put(None))
