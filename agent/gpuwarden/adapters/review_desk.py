"""Of what services' clients tell, the predictions that people should look at: picked here, so many a minute."""

import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from gpuwarden.adapters.review_spool import ReviewSpool
from gpuwarden.clock import Clock
from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast.observation import TEXT_MAX_CHARS, Observations
from gpuwarden.evaluate.quality.picking import Picker, Raise
from gpuwarden.evaluate.quality.sampling import Prediction
from gpuwarden.model.evaluation import Cohort
from gpuwarden.wire.review_check import OPINIONS_MAX, PAYLOAD_MAX_CHARS, PROBABILITIES_MAX

PER_MINUTE = 6.0
"""Of a service and node that no ``[[service]]`` names."""
TAKE_S = 10.0
SERVICES_MAX = 64
COMPLAINT = "(a user complains)"


class ReviewDesk:
    """``look`` is for the socket's thread; ``turn`` for whoever sends."""

    def __init__(
        self, spool: ReviewSpool, clock: Clock, services: Sequence[ServiceConfig] = ()
    ) -> None:
        self._spool, self._clock = spool, clock
        self._configs = {each.name: each for each in services}
        self._pickers: dict[str, tuple[Picker, float]] = {}
        self._salt = secrets.token_hex(4)
        self._lock = threading.Lock()
        spool.turn = self.turn

    def look(self, said: Any, cohort: Cohort, heard: Observations) -> None:
        """One observation that was taken. Without a prediction's id nobody could say later what it was about."""
        key = said.get("prediction_id")
        if key is None or said.get("label") is not None:
            return
        found = _prediction(said, cohort, heard, self._clock)
        if found is None:
            return
        with self._lock:
            picker = self._picker(cohort.service)
            if picker is not None:
                picker.look(found, self._raises(cohort.service))

    def turn(self) -> None:
        """Now and then: what was picked goes on its way."""
        now, found = self._clock.now(), []
        with self._lock:
            for service, (picker, at) in list(self._pickers.items()):
                if now - at >= TAKE_S:
                    self._pickers[service] = (picker, now)
                    found += picker.take(now, self._raises(service))
        self._spool.put(found)

    def _picker(self, service: str) -> Picker | None:
        known = self._pickers.get(service)
        if known is not None:
            return known[0]
        cfg = self._configs.get(service)
        per_minute = PER_MINUTE if cfg is None else cfg.review_per_min
        if not per_minute:
            return None
        if len(self._pickers) >= SERVICES_MAX:
            self._pickers.pop(next(iter(self._pickers)))
        now = self._clock.now()
        below = 0.5 if cfg is None else cfg.confidence_min
        picker = Picker(per_minute, below=below, salt=self._salt, at=now)
        self._pickers[service] = (picker, now)
        return picker

    def _raises(self, service: str) -> list[Raise]:
        raises = self._spool.raises
        if not raises:
            return []
        now = self._clock.now()
        return [each for each in raises if each.service == service and each.until > now]


def _prediction(
    said: Mapping[str, Any], cohort: Cohort, heard: Observations, clock: Clock
) -> Prediction | None:
    """``None``: nothing that people could be asked. What is not what it must be is left out of it."""
    named = said.get("prediction_id")
    key = _word(str(named) if isinstance(named, str | int) else "")
    answer = heard.answer(key)
    is_new = said.get("prediction") is not None
    is_disputed = said.get("complaint") is True
    if not key or answer is None or not (is_new or is_disputed):
        return None
    opinions = [word for each in _list(said, "opinions", OPINIONS_MAX) if (word := _word(each))]
    if is_disputed:
        opinions.append(COMPLAINT)
    payload = said.get("payload")
    return Prediction(
        id=key,
        service=cohort.service,
        segment=cohort.segment,
        version=cohort.version,
        arm=cohort.arm,
        label=answer,
        confidence=_ratio(said.get("confidence")),
        probabilities=_ratios(_list(said, "probabilities", PROBABILITIES_MAX + 1)),
        opinions=tuple(opinions[-OPINIONS_MAX:]),
        at_wall=clock.wall(),
        input=payload[:PAYLOAD_MAX_CHARS] if isinstance(payload, str) else "",
    )


def _list(said: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = said.get(name)
    return value[:most] if isinstance(value, list) else []


def _word(value: object) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARS or not value.isprintable():
        return ""
    return value


def _ratio(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and 0 <= value <= 1 else None


def _ratios(values: Sequence[object]) -> tuple[float, ...]:
    """All of them, or none."""
    found = [number for each in values if (number := _ratio(each)) is not None]
    is_whole = len(found) == len(values) <= PROBABILITIES_MAX
    return tuple(found) if is_whole else ()
