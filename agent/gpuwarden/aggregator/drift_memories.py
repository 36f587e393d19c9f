"""What drift remembers, as documents of the store. Imported when there is something to judge."""

import zlib
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from gpuwarden.aggregator.profiles import key_of
from gpuwarden.config_drift import DriftConfig
from gpuwarden.evaluate.drift.concept import ConceptSettings
from gpuwarden.evaluate.drift.findings import DriftSettings
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.drift_memory import CohortMemory, LineSettings, ServiceMemory
from gpuwarden.ports_evaluation import Documents

KIND = "drift-memory"
OWN = "gpuwarden"
PLAIN_MAX_BYTES = 32 * 2**20
"""Of one service, before it is packed to fit a document: some 400 bytes a feature of each version and segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    format: int
    service: str
    cohorts: tuple[tuple[Cohort, CohortMemory], ...]


_FORMAT = 1
_ADAPTER = TypeAdapter(_Kept)


def write(documents: Documents, service: str, memory: ServiceMemory, wall: float) -> None:
    """``Refused`` or ``Unavailable`` when it is not kept: it is written again later."""
    kept = _Kept(format=_FORMAT, service=service, cohorts=tuple(sorted_of(memory)))
    key = key_of(Cohort(service=service))
    known = documents.get(KIND, key)
    after = 0 if known is None else known.revision
    body = zlib.compress(_ADAPTER.dump_json(kept))
    documents.put(KIND, key, body, who=OWN, wall=wall, after=after)


def sorted_of(memory: ServiceMemory) -> list[tuple[Cohort, CohortMemory]]:
    return sorted(memory.cohorts.items(), key=lambda each: each[0])


def read(body: bytes) -> tuple[str, ServiceMemory] | None:
    """The service and what was remembered of it; None: of another format, or no memory at all."""
    try:
        kept = _ADAPTER.validate_json(zlib.decompressobj().decompress(body, PLAIN_MAX_BYTES))
    except (zlib.error, ValidationError):
        return None
    if kept.format != _FORMAT:
        return None
    return kept.service, ServiceMemory(cohorts=dict(kept.cohorts))


def settings_of(cfg: DriftConfig) -> LineSettings:
    """Half of the budget is the features', the rest the errors'."""
    half = cfg.pages_per_day / 2
    return LineSettings(
        rows=cfg.rows,
        round_s=cfg.round_s,
        drift=DriftSettings(
            pages_per_day=half,
            material_psi=cfg.psi,
            material_js=cfg.psi,
            material_wasserstein_norm=cfg.sigma,
        ),
        concept=ConceptSettings(pages_per_day=half, material_loss=cfg.loss),
    )
