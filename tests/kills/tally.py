"""How many steps the agent was killed at in this session, for the end of its report."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from gpuwarden.node.steps import STEPS


def killed(passed: Iterable[pytest.TestReport]) -> str | None:
    """One line, or ``None`` where no such test was asked for."""
    told = [
        str(value).split()
        for report in passed
        for name, value in getattr(report, "user_properties", ())
        if name == "killed"
    ]
    if not told:
        return None
    times = sum(int(count) for _, count in told)
    return f"kills: the agent died at {len(told)} of {len(STEPS)} steps, {times} times"
