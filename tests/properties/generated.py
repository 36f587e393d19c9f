"""What the generated worlds and the seeded mistakes of a session showed, for the end of its report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest


def told(passed: Iterable[pytest.TestReport]) -> Iterator[str]:
    """A line for the worlds, one for each mistake; none where no such test was asked for."""
    said = [pair for report in passed for pair in getattr(report, "user_properties", ())]
    chunks = [json.loads(str(value)) for name, value in said if name == "worlds"]
    coverage: Counter[str] = Counter()
    for chunk in chunks:
        coverage.update(chunk)
    if chunks:
        yield "worlds: " + ", ".join(f"{feature} {count}" for feature, count in coverage.items())
    yield from (f"noticed: {value}" for name, value in said if name == "mutant")
