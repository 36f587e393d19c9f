"""Container events of Docker, followed by a thread of its own; it reconnects, resumes and re-lists.

The stream is known to fall silent without closing, so silence is ended after a while by a new list:
what the list shows and the events did not tell is reported as if they had.
"""

import json
import re
import threading
from collections.abc import Callable
from typing import Any

from gpuwarden.adapters.docker_client import Budget, Client, connect, translated
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable

FOLLOWED = ("start", "die", "pause", "unpause", "update", "rename", "destroy")
IDLE_S = 30.0
"""Silence after which the containers are listed again."""
_RETRY_S = (0.5, 1.0, 2.0, 5.0)
_MAX_LIST_BYTES = 8 * 1024 * 1024
_MAX_EVENT_BYTES = 256 * 1024
_ID = re.compile(r"[0-9a-f]{64}\Z")

Tell = Callable[[str, str], None]
"""Called with what happened (one of ``FOLLOWED``) and the container's full id; must not block."""


class DockerEvents:
    """Follows the daemon at ``host`` until ``close``; ``tell`` is called on the thread.

    ``trouble`` is why nothing is heard now, ``None`` while the stream stands. ``garbage`` counts
    events that could not be read, ``reconnects`` streams that ended.
    """

    def __init__(
        self, host: str, timeout_s: float, clock: Clock, tell: Tell, idle_s: float = IDLE_S
    ) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self._clock = clock
        self._tell = tell
        self._idle_s = idle_s
        self._stopped = threading.Event()
        self._budget = Budget(clock)
        self._since = ""
        self._known: set[str] = set()
        self.trouble: str | None = "not connected yet"
        self.garbage = 0
        self.reconnects = 0
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._budget.abort()
        if self._thread.is_alive():
            self._thread.join(self._timeout_s)

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._follow()
                failures = 0
            except GpuwardenError as error:
                self.trouble = str(error)
                wait_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                failures += 1
                self._stopped.wait(wait_s)
            self.reconnects += 1

    def _follow(self) -> None:
        """One stream: list, then events since before the list, until silence or an error."""
        budget = self._budget
        if not self._since:
            self._since = f"{self._clock.wall() - 2:.0f}"
        budget.begin(self._timeout_s, _MAX_LIST_BYTES)
        with translated(self._host):
            client = connect(self._host, self._timeout_s, budget)
            try:
                budget.begin(self._timeout_s, _MAX_LIST_BYTES)
                self._reconcile(client.containers())
                budget.begin(self._timeout_s, _MAX_EVENT_BYTES)
                self._listen(client)
            finally:
                client.close()
                budget.release()

    def _reconcile(self, rows: Any) -> None:
        running = {row["Id"] for row in rows if _ID.match(str(row.get("Id")))}
        for container_id in sorted(running - self._known):
            self._tell("start", container_id)
        for container_id in sorted(self._known - running):
            self._tell("die", container_id)
        self._known = running

    def _listen(self, client: Client) -> None:
        filters = {"type": "container", "event": list(FOLLOWED)}
        stream = client.events(since=self._since, filters=filters, decode=False)
        self.trouble = None
        rest = b""
        while True:
            asked = self._clock.now()
            self._budget.begin(self._idle_s, _MAX_EVENT_BYTES)
            try:
                chunk = next(stream, None)
            except Exception as error:
                if self._clock.now() - asked >= self._idle_s:
                    return  # silence
                raise Unavailable(f"Docker's events broke off: {type(error).__name__}") from error
            if chunk is None:
                raise Unavailable("Docker closed its events")
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > _MAX_EVENT_BYTES:
                raise Unavailable("Docker sends an event without end")

    def _take(self, line: bytes) -> None:
        # {"Type":"container","Action":"start","Actor":{"ID":"3ccf..."},"timeNano":1771038847123456789}
        if not line.strip():
            return
        try:
            event = json.loads(line)
            action = str(event["Action"]).partition(":")[0]
            container_id = event["Actor"]["ID"]
            stamp = int(event["timeNano"])
        except (ValueError, LookupError, TypeError, RecursionError):
            self.garbage += 1
            return
        if (
            action not in FOLLOWED
            or not isinstance(container_id, str)
            or not _ID.match(container_id)
        ):
            self.garbage += 1
            return
        self._since = f"{stamp // 10**9}.{stamp % 10**9:09d}"
        if action == "start":
            self._known.add(container_id)
        elif action in ("die", "destroy"):
            self._known.discard(container_id)
        self._tell(action, container_id)
