"""Whether a container that was just started is well: by its service's own probe, else by staying up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.docker_describe import table, text
from gpuwarden.clock import Clock
from gpuwarden.config_rollback import RollbackConfig
from gpuwarden.config_services import ProbeConfig
from gpuwarden.errors import Refused, Unavailable

LOOK_S = 0.25


@dataclass(slots=True, kw_only=True)
class Proof:
    """Asks until it is well or its time is up."""

    door: DockerDoor
    clock: Clock
    cfg: RollbackConfig
    probe: ProbeConfig | None
    took_s: float = 0.0
    """How long it took to be well."""
    said: str = ""

    def prove(self, container_id: str) -> None:
        """Returns once it is well; ``Unavailable`` as soon as it has ended, or when its time is up."""
        begun = self.clock.now()
        probe = self.probe
        lasts_s = self.cfg.start_s if probe is None else probe.verify_s
        first: str | None = None
        while True:
            raw = self._look(container_id)
            state = table(raw, "State")
            is_up = state.get("Running") is True and state.get("Restarting") is not True
            started = text(state, "StartedAt")
            first = started if first is None else first
            if not is_up or started != first:
                raise Unavailable(_ended(state))
            age_s = self.clock.now() - begun
            why = self._not_well(raw, age_s)
            self.took_s = self.clock.now() - begun
            if not why:
                return
            if age_s >= lasts_s:
                raise Unavailable(f"not well within {lasts_s:g} s: {why}")
            self.clock.sleep(LOOK_S)

    def _look(self, container_id: str) -> Mapping[str, Any]:
        try:
            with self.door.call() as client:
                raw = client.inspect_container(container_id)
        except Refused as error:
            raise Unavailable("it is gone again") from error
        return raw if isinstance(raw, Mapping) else {}

    def _not_well(self, raw: Mapping[str, Any], age_s: float) -> str:
        """Why it does not count as well; empty: it does."""
        probe = self.probe
        if probe is None:
            self.said = f"it has run for {self.cfg.settle_s:g} s"
            return "" if age_s >= self.cfg.settle_s else "it has just started"
        if probe.healthcheck:
            self.said = "its HEALTHCHECK"
            health = text(table(raw, "State", "Health"), "Status") or "without a HEALTHCHECK"
            return "" if health == "healthy" else f"Docker calls it {health}"
        url = probe.http or f"http://{_address(raw)}:{probe.port}{probe.path}"
        self.said = f"its probe at {urlsplit(url).path or '/'}"
        return _asked(url, probe.timeout_s)


def _ended(state: Mapping[str, Any]) -> str:
    """What Docker says of its end; its own output may hold secrets and is not repeated."""
    error = (text(state, "Error") or "").strip()[:200]
    code = state.get("ExitCode")
    return f"it ended with status {code if isinstance(code, int) else '?'}{f': {error}' if error else ''}"


def _address(raw: Mapping[str, Any]) -> str:
    for end in table(raw, "NetworkSettings", "Networks").values():
        if isinstance(end, Mapping) and (address := text(end, "IPAddress")):
            return address
    return "127.0.0.1"


def _asked(url: str, timeout_s: float) -> str:
    """Empty where the answer is 200 to 399, as for the kubelet."""
    import http.client  # only a rollback needs it: the agent at rest does without

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"its probe: {type(error).__name__}"
    finally:
        connection.close()
    return "" if 200 <= status < 400 else f"its probe answers {status}"
