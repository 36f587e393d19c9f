"""What rollouts have to know of services: by whoever merges the windows of the nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuwarden.policy.fleet.calm import Weather
from gpuwarden.policy.fleet.ramp import Word
from gpuwarden.policy.fleet.split import Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What all arms of a service were seen with from one wall time to another, each window once."""

    begin_wall: float
    end_wall: float
    arms: Mapping[str, Counted]
    segments: Mapping[tuple[str, str], float]
    """Units by segment and arm."""
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Whether the GPUs explain a breach; ``is_gpu`` None: not known."""

    is_gpu: bool | None
    summary: str


class Numbers(Protocol):
    """Any thread; never blocks for long."""

    def word(self, service: str, version: str, arm: str) -> tuple[Word, str]:
        """What the guardrails say of a version, and which of them, or what is missing."""
        ...

    def cause(self, service: str, version: str) -> Found:
        """What the GPUs have to do with its being red."""
        ...

    def periods(self, service: str, after_wall: float, upto_wall: float) -> Sequence[Period]:
        """Oldest first: whole ones that ended between these."""
        ...

    def weather(self, now_s: float) -> Weather: ...


class NoNumbers:
    """Where nothing is merged: everything is unknown, so that nothing moves."""

    def word(self, service: str, version: str, arm: str) -> tuple[Word, str]:
        return Word.UNKNOWN, "no guardrail has a number of it"

    def cause(self, service: str, version: str) -> Found:
        return Found(is_gpu=None, summary="where the service ran is not known")

    def periods(self, service: str, after_wall: float, upto_wall: float) -> Sequence[Period]:
        return ()

    def weather(self, now_s: float) -> Weather:
        return Weather(now_s=now_s)
