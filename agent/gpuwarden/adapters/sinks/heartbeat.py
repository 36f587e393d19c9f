"""A dead man's switch: an address that is told regularly, and raises the alarm itself when it is not."""

import json

from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.sinks.web import Web
from gpuwarden.clock import Clock

TIMEOUT_S = 10.0


class WebHeartbeat:
    """One POST a beat."""

    def __init__(self, address: str, secrets: Secrets, clock: Clock, host: str) -> None:
        self._address = address
        self._host = host
        self._web = Web("heartbeat", proxy=None, ca_file=None, secrets=secrets, clock=clock)

    def beat(self) -> None:
        """Raises as a sink does."""
        body = json.dumps({"host": self._host, "from": "gpuwarden"}).encode("ascii")
        self._web.post(self._address, body, {"Content-Type": "application/json"}, TIMEOUT_S)
