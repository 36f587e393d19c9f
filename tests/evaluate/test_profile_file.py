"""Profiles as files: what is written is read again, and what a stranger wrote wrongly is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gpuwarden.evaluate.drift import profile, profile_file
from gpuwarden.evaluate.drift.profile_file import ProfileFile


def made() -> ProfileFile:
    values = [*np.random.default_rng(1).normal(size=995).tolist(), *[float("nan")] * 5]
    labels: list[str | None] = [*["a"] * 600, *["b"] * 397, None, None, None]
    return ProfileFile(
        rows=1000,
        features={
            "age": profile.of_numbers(values),
            "flat": profile.of_numbers([5.0] * 1000),
            "site": profile.of_categories(labels),
        },
    )


def said() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(profile_file.write(made()))
    return found


def test_what_is_written_is_read_again() -> None:
    text = profile_file.write(made())
    assert profile_file.read(text) == made()
    assert profile_file.read(text.encode()) == made()


def changed(path: str, value: object) -> str:
    whole = said()
    at: Any = whole
    *way, last = path.split("/")
    for each in way:
        at = at[int(each)] if isinstance(at, list) else at[each]
    if value is ...:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", "gpuwarden-profile-9", "format: expected"),
        ("rows", 0, "rows: expected a whole number of 1"),
        ("rows", True, "rows: expected a whole number"),
        ("rows", 999, "sum to 1000, rows are 999"),
        ("rows", ..., "rows is missing"),
        ("more", 1, "'more' is not known"),
        ("features", {}, "features: expected an object of 1 to 256"),
        ("features", [1], "features: expected an object"),
        ("features/", {"kind": "number"}, "features: expected names"),
        ("features/a\nb", {"kind": "number"}, "features: expected names"),
        ("features/age", 7, "features.age.kind: expected"),
        ("features/age/kind", "text", "features.age.kind: expected"),
        ("features/age/edges", [], "features.age.edges: expected 1 to"),
        ("features/age/edges/0", 1e9, "features.age.edges: expected 1 to"),
        ("features/age/edges/0", "0", "features.age.edges: expected a finite"),
        ("features/age/edges/0", float("nan"), "NaN is no number"),
        ("features/age/edges/0", 10**400, "features.age.edges: expected a finite"),
        ("features/age/counts", [1], "features.age.counts: expected 20"),
        ("features/age/counts/0", -1, "features.age.counts: expected a whole"),
        ("features/age/counts/0", 2.5, "features.age.counts: expected a whole"),
        ("features/age/centres/0", 9.0, "features.age.centres: expected 20"),
        ("features/age/missing", 2**60, "features.age.missing: expected a whole"),
        ("features/age/mean", 1e9, "features.age.mean: expected low to high"),
        ("features/age/std", -1, "features.age.std: expected 0"),
        ("features/age/std", True, "features.age.std: expected a finite"),
        ("features/age/low", float("-inf"), "-Infinity is no number"),
        ("features/site/counts", {}, "features.site.counts: expected an object"),
        ("features/site/counts/x\x07", 0, "features.site.counts: expected names"),
        ("features/site/counts/a", "600", "features.site.counts.a: expected a whole"),
        ("features/site/other", ..., "other is missing"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(path: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        profile_file.read(changed(path, value))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "profile: expected an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"rows": 1, "rows": 2}', "stands twice"),
        (b"\xff\xfe{", "not"),
        (" " * (profile_file.TEXT_MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_profile_is_said(text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        profile_file.read(text)


@pytest.mark.parametrize("value", [0.1, 1e-7, 123456.789, -0.3])
def test_rounding_of_sums_is_no_mistake(value: float) -> None:
    flat = profile.of_numbers([value] * 999 + [value * 1.5])
    whole = ProfileFile(rows=1000, features={"x": flat})
    assert profile_file.read(profile_file.write(whole)) == whole


def test_empty_reference_and_too_many_features_are_refused() -> None:
    whole = said()
    whole["features"] = {
        "site": {"kind": "category", "counts": {"a": 0}, "other": 0, "missing": 1000}
    }
    with pytest.raises(ValueError, match="an empty reference"):
        profile_file.read(json.dumps(whole))
    one = made().features["flat"]
    many = ProfileFile(rows=1000, features={f"f{i}": one for i in range(257)})
    with pytest.raises(ValueError, match="1 to 256"):
        profile_file.write(many)


def test_a_profile_that_would_not_be_read_is_not_written() -> None:
    bad = ProfileFile(rows=7, features={"flat": profile.of_numbers([5.0] * 8)})
    with pytest.raises(ValueError, match="rows are 7"):
        profile_file.write(bad)
