"""One service's probe: what its answers say, counted. Whether that is a claim, policy says."""

from dataclasses import replace

from gpuwarden.config_services import ProbeConfig
from gpuwarden.model.service import ProbeKind, ProbeReading

DETAIL_CHARS = 120


class ProbeState:
    """Counts failures in a row; one answer that is well ends them (the kubelet's successThreshold of 1)."""

    def __init__(self, service: str, cfg: ProbeConfig, now: float) -> None:
        self.service = service
        self.cfg = cfg
        self.reading = ProbeReading(
            service=service,
            kind=ProbeKind.HEALTHCHECK if cfg.healthcheck else ProbeKind.HTTP,
            tenant=None,
            is_well=None,
            since=now,
            limit=cfg.failures,
            every_s=cfg.every_s,
        )

    def well(self, at: float) -> bool:
        """It answered; whether that is news."""
        return self._become(True, at, 0, "")

    def failed(self, at: float, why: str, failures: int | None = None) -> bool:
        """It did not, for this reason; ``failures`` in a row where somebody else counts. Whether the loop
        should hear of it at once."""
        count = self.reading.failures + 1 if failures is None else failures
        was_failing = self.reading.is_failing
        is_news = self._become(False, at, count, why)
        return is_news or self.reading.is_failing is not was_failing

    def unknown(self, at: float, why: str) -> bool:
        """Nothing can be said; what was counted counts no more."""
        return self._become(None, at, 0, why)

    def blind(self, why: str) -> bool:
        """Nobody could look: what was told last grows old."""
        self.reading = replace(self.reading, detail=_line(why))
        return False

    def _become(self, is_well: bool | None, at: float, failures: int, why: str) -> bool:
        is_news = self.reading.is_well is not is_well
        self.reading = replace(
            self.reading,
            is_well=is_well,
            since=at if is_news else self.reading.since,
            failures=failures,
            at=at,
            detail=_line(why),
        )
        return is_news


def _line(why: str) -> str:
    """What a stranger's service or daemon says, as one printable line."""
    text = " ".join(why[: DETAIL_CHARS * 4].split())[:DETAIL_CHARS]
    return "".join(c if c.isprintable() else "?" for c in text)
