"""What is kept of services' days, as documents of the store: one a service, the newest alone."""

import zlib
from dataclasses import dataclass
from math import isfinite

from pydantic import TypeAdapter, ValidationError

from gpuwarden.aggregator.documents import StoreDocuments
from gpuwarden.aggregator.profiles import key_of
from gpuwarden.model.anomaly import SERIES
from gpuwarden.model.evaluation import Cohort
from gpuwarden.policy.fleet.odd_history import History

KIND = "anomaly-memory"
OWN = "gpuwarden"
PLAIN_MAX_BYTES = 2**20
"""Of one service, before it is packed: six series of fifteen days."""
DIGITS = 5
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    values: tuple[float | None, ...]
    odd: tuple[tuple[int, int], ...]
    """Where values are odd: begin and end (not included) of each run, by place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    format: int
    service: str
    upto: int
    series: dict[str, _Series]


_ADAPTER = TypeAdapter(_Kept)


def write(documents: StoreDocuments, service: str, history: History, wall: float) -> None:
    """``Refused`` or ``Unavailable`` when it is not kept: it is written again later."""
    series = {
        name: _Series(
            values=tuple(_rounded(value) for value in history.values[name]),
            odd=_runs(history.odd[name]),
        )
        for name in SERIES
    }
    kept = _Kept(format=_FORMAT, service=service, upto=history.upto, series=series)
    key = key_of(Cohort(service=service))
    known = documents.get(KIND, key)
    after = 0 if known is None else known.revision
    body = zlib.compress(_ADAPTER.dump_json(kept))
    documents.put(KIND, key, body, who=OWN, wall=wall, after=after)
    documents.trim(KIND, key, before=after + 1)


def read(body: bytes) -> tuple[str, History] | None:
    """The service and its days; None: of another format, or no such thing at all."""
    try:
        kept = _ADAPTER.validate_json(zlib.decompressobj().decompress(body, PLAIN_MAX_BYTES))
    except (zlib.error, ValidationError):
        return None
    if kept.format != _FORMAT or not kept.series.keys() <= set(SERIES):
        return None
    history = History()
    try:
        history.load(
            kept.upto,
            {name: each.values for name, each in kept.series.items()},
            {name: _flags(each) for name, each in kept.series.items()},
        )
    except ValueError:
        return None
    return kept.service, history


def forget(documents: StoreDocuments, service: str) -> None:
    documents.trim(KIND, key_of(Cohort(service=service)), before=None)


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else None


def _runs(odd: bytearray) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for place, is_odd in enumerate(odd):
        if not is_odd:
            continue
        if found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
    return tuple(found)


def _flags(series: _Series) -> bytes:
    flags = bytearray(len(series.values))
    for begin, end in series.odd:
        if not 0 <= begin < end <= len(flags):
            raise ValueError("odd: beyond the values")
        flags[begin:end] = b"\x01" * (end - begin)
    return bytes(flags)
