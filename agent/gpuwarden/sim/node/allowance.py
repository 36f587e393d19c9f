"""What the operator of a simulated node allows whom."""

from dataclasses import dataclass

OPERATORS_MAP = [
    {"match": {"image": "protected/*"}, "class": "protected"},
    {"match": {"image": "high/*"}, "class": "high"},
]
"""Whom the operator of a simulated node believes: nobody is raised by a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the operator of this node allows a tenant: the truth an oracle judges by."""

    cls: str
    quota_mib: int | None
    soft_mib: int | None = None
    grace_s: float | None = None
    """Its own, where it states one."""
    is_never_victim: bool = False
    owner_key: str = ""
    runtime: str = "docker"
