"""Verdict of a rollout step from counted measurements (the decision table of Argo Rollouts' analysis)."""

from typing import Literal


def failure_limit(failures: int, *, limit: int) -> Literal["failed", "not_failed"]:
    """``limit`` is the largest number of failed measurements that is tolerated."""
    if failures < 0 or limit < 0:
        raise ValueError("expected counts of 0 or more")
    return "failed" if failures > limit else "not_failed"


def at_count(
    *, failure_limit_violated: bool, consecutive_success_limit_satisfied: bool
) -> Literal["failed", "successful", "inconclusive"]:
    """The outcome once all measurements are taken; an inconclusive one pauses, it does not promote."""
    if failure_limit_violated:
        return "failed"
    return "successful" if consecutive_success_limit_satisfied else "inconclusive"
