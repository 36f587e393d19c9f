"""The table ``[rules]``: whether each rule acts, reports or is off."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Rule(BaseModel):
    """Whether a rule acts (``enforce``), reports (``observe``) or is off; unset follows the
    node.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["observe", "enforce", "off"] | None = None


class Rules(BaseModel):
    """Mode of each rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quota: Rule = Rule()
    reserve: Rule = Rule()
    unattributed: Rule = Rule()
    host: Rule = Rule()
    locked: Rule = Rule()
    sight: Rule = Rule()
    slo: Rule = Rule()
    neighbour: Rule = Rule(mode="observe")
    """Reports until the operator says ``enforce``: growth within one's quota is weak evidence against anybody."""
    limits: Rule = Rule()
    tombstone: Rule = Rule()
    labels: Rule = Rule()
    pressure: Rule = Rule()
    cordon: Rule = Rule()
    arrival: Rule = Rule()
    placement: Rule = Rule()
    ecc: Rule = Rule()
    remap: Rule = Rule()
    retired: Rule = Rule()
    nvlink: Rule = Rule()
    pcie: Rule = Rule()
    throttle: Rule = Rule()
    thermal: Rule = Rule()
    power: Rule = Rule()
    persistence: Rule = Rule()
    fabric: Rule = Rule()
    recovery: Rule = Rule()
    inforom: Rule = Rule()
    count: Rule = Rule()
    mismatch: Rule = Rule()
    dstate: Rule = Rule()
    zombie: Rule = Rule()
    services: Rule = Rule()
    wallclock: Rule = Rule()
    fault: Rule = Rule()
    repair: Rule = Rule()
    probe: Rule = Rule()
    rollback: Rule = Rule()
