"""The reference cases, and the comparison that their format prescribes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent.parent / "data" / "evaluate_cases.json"


def cases() -> list[dict[str, Any]]:
    """All cases with what is expected of them."""
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["cases"]
    return found


def asked(case: Mapping[str, Any]) -> dict[str, Any]:
    """What the program is given of a case."""
    return {key: case[key] for key in ("id", "method", "input", "params")}


def wrong(case: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """The keys of the answer that are missing, too many, or outside their tolerance."""
    expect, tolerance = case["expect"], case["tolerance"]
    odd = sorted(set(expect) ^ set(got))
    return odd + [
        f"{key}: {got[key]!r}, expected {value!r}"
        for key, value in expect.items()
        if key in got and not _agrees(got[key], value, tolerance[key])
    ]


def _agrees(got: Any, expect: Any, tolerance: Mapping[str, Any]) -> bool:
    if "ignore" in tolerance:
        return True
    if isinstance(expect, list):
        if not isinstance(got, list) or len(got) != len(expect):
            return False
        return all(_agrees(g, e, tolerance) for g, e in zip(got, expect, strict=True))
    if "exact" in tolerance or expect is None or got is None:
        return bool(got == expect) and (got is None) == (expect is None)
    if "abs" in tolerance:
        return bool(abs(got - expect) <= tolerance["abs"])
    if "rel" in tolerance:
        return bool(abs(got - expect) <= tolerance["rel"] * abs(expect))
    return bool(abs(got - expect) <= tolerance["se"] * tolerance["of"])
