"""A profile of all features as a file: JSON, written by whoever has the data, read as what a stranger wrote.

{"format": "gpuwarden-profile-1", "rows": 1000, "features": {
    "age": {"kind": "number", "edges": [..], "counts": [..], "centres": [..], "missing": 0,
            "mean": .., "std": .., "low": .., "high": ..},
    "site": {"kind": "category", "counts": {"a": 600, "b": 390}, "other": 7, "missing": 3}}}
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from gpuwarden.evaluate.drift.profile import CATEGORIES_MAX, CategoryProfile, NumericProfile
from gpuwarden.evaluate.fast.series import FEATURE_PREFIX, NAME_MAX_CHARS

FORMAT = "gpuwarden-profile-1"
TEXT_MAX_BYTES = 4 * 2**20
FEATURES_MAX = 256
EDGES_MAX = 1000
ROWS_MAX = 2**53
NAME_CHARS = NAME_MAX_CHARS - len(FEATURE_PREFIX)
CATEGORY_MAX_CHARS = 128

Profile = NumericProfile | CategoryProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFile:
    """The reference of one model version and segment. ``rows``: how many each feature was counted over."""

    rows: int
    features: Mapping[str, Profile] = field(default_factory=dict)


def write(profile: ProfileFile) -> str:
    """As compact JSON, features by name; ``read`` gives the same back. ValueError for what ``read`` would refuse."""
    features = {
        name: {"kind": _kind(each), **asdict(each)}
        for name, each in sorted(profile.features.items())
    }
    said = {"format": FORMAT, "rows": profile.rows, "features": features}
    try:
        text = json.dumps(said, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise ValueError("profile: it holds NaN or an infinity") from error
    read(text)
    return text


def read(text: str | bytes) -> ProfileFile:
    """ValueError names the place that is not what it must be."""
    if len(text) > TEXT_MAX_BYTES:
        raise ValueError(f"profile: larger than {TEXT_MAX_BYTES} bytes")
    try:
        said = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("profile: nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("profile: not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"profile: not JSON: {error}") from error
    whole = _object("profile", said, {"format", "rows", "features"})
    if whole["format"] != FORMAT:
        raise ValueError(f'format: expected "{FORMAT}", got {_shown(whole["format"])}')
    rows = _whole("rows", whole["rows"], 1)
    features = whole["features"]
    if not isinstance(features, dict) or not 1 <= len(features) <= FEATURES_MAX:
        raise ValueError(f"features: expected an object of 1 to {FEATURES_MAX} features")
    return ProfileFile(
        rows=rows, features={name: _feature(name, each, rows) for name, each in features.items()}
    )


def _kind(profile: Profile) -> str:
    return "number" if isinstance(profile, NumericProfile) else "category"


def _feature(name: str, said: object, rows: int) -> Profile:
    if not name or len(name) > NAME_CHARS or not name.isprintable():
        raise ValueError(
            f"features: expected names of 1 to {NAME_CHARS} printable characters, got {_shown(name)}"
        )
    path = f"features.{name}"
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind == "number":
        return _number(path, said, rows)
    if kind == "category":
        return _category(path, said, rows)
    raise ValueError(f'{path}.kind: expected "number" or "category", got {_shown(kind)}')


def _number(path: str, said: object, rows: int) -> NumericProfile:
    fields = {"kind", "edges", "counts", "centres", "missing", "mean", "std", "low", "high"}
    each = _object(path, said, fields)
    edges = _floats(f"{path}.edges", each["edges"])
    if not 1 <= len(edges) <= EDGES_MAX or any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"{path}.edges: expected 1 to {EDGES_MAX} numbers, each above the last")
    counts = each["counts"]
    if not isinstance(counts, list) or len(counts) != len(edges) + 1:
        raise ValueError(f"{path}.counts: expected {len(edges) + 1}, one more than edges")
    counts = tuple(_whole(f"{path}.counts", n, 0) for n in counts)
    centres = _floats(f"{path}.centres", each["centres"])
    slip = 1e-6 * max(map(abs, (*centres, *edges)))  # sums of many values are rounded
    if len(centres) != len(counts) or any(b < a - slip for a, b in pairwise(centres)):
        raise ValueError(f"{path}.centres: expected {len(counts)} numbers, none below the last")
    missing = _whole(f"{path}.missing", each["missing"], 0)
    _sums(path, sum(counts), missing, rows)
    low, high = _float(f"{path}.low", each["low"]), _float(f"{path}.high", each["high"])
    mean, std = _float(f"{path}.mean", each["mean"]), _float(f"{path}.std", each["std"])
    if not low - slip <= mean <= high + slip:
        raise ValueError(f"{path}.mean: expected low to high")
    if not 0 <= std <= high - low + slip:
        raise ValueError(f"{path}.std: expected 0 to high - low")
    return NumericProfile(
        edges=edges,
        counts=counts,
        centres=centres,
        missing=missing,
        mean=mean,
        std=std,
        low=low,
        high=high,
    )


def _category(path: str, said: object, rows: int) -> CategoryProfile:
    each = _object(path, said, {"kind", "counts", "other", "missing"})
    counts = each["counts"]
    if not isinstance(counts, dict) or not 1 <= len(counts) <= CATEGORIES_MAX:
        raise ValueError(f"{path}.counts: expected an object of 1 to {CATEGORIES_MAX} categories")
    for name in counts:
        if len(name) > CATEGORY_MAX_CHARS or not name.isprintable():
            raise ValueError(
                f"{path}.counts: expected names of at most {CATEGORY_MAX_CHARS} printable characters, "
                f"got {_shown(name)}"
            )
    known = {name: _whole(f"{path}.counts.{name}", n, 0) for name, n in counts.items()}
    other = _whole(f"{path}.other", each["other"], 0)
    missing = _whole(f"{path}.missing", each["missing"], 0)
    _sums(path, sum(known.values()) + other, missing, rows)
    return CategoryProfile(counts=known, other=other, missing=missing)


def _sums(path: str, seen: int, missing: int, rows: int) -> None:
    if not seen:
        raise ValueError(f"{path}.counts: an empty reference is no profile")
    if seen + missing != rows:
        raise ValueError(f"{path}: counts and missing sum to {seen + missing}, rows are {rows}")


def _object(path: str, said: object, fields: set[str]) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise _wrong(path, "an object")
    for name in sorted(fields - said.keys()):
        raise ValueError(f"{path}: {name} is missing")
    for name in sorted(said.keys() - fields):
        raise ValueError(f"{path}: {_shown(name)} is not known")
    return said


def _whole(path: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= ROWS_MAX:
        raise ValueError(f"{path}: expected a whole number of {least} or more, got {_shown(value)}")
    return value


def _float(path: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) or not math.isfinite(number):
        raise ValueError(f"{path}: expected a finite number, got {_shown(value)}")
    return number


def _floats(path: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise _wrong(path, "numbers")
    return tuple(_float(path, each) for each in value)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("profile: a name stands twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"profile: {name} is no number")


def _wrong(path: str, wanted: str) -> ValueError:
    return ValueError(f"{path}: expected {wanted}")


def _shown(value: object) -> str:
    return repr(value)[:64]
