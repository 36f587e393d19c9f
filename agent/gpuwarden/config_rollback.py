"""``[rollback]``: what is recorded of a service's versions, and how going back to one is judged."""

from typing import Annotated

from pydantic import Field

from gpuwarden.config_types import Seconds, Section


class RollbackConfig(Section):
    """Versions of services, recorded with all that it takes to start them again."""

    record: bool = True
    """Whether the containers of protected services are recorded at all, their environment among it: in
    ``agent.state_dir``, for root alone."""
    history: int = Field(default=8, ge=2, le=64)
    """So many versions a place; the present one and the last good one are never let go of."""
    probation_s: Seconds = 1800.0
    """A version is good once nothing has spoken against its service for so long: two of the 15 minutes in which a
    slow leak or a cache that fills shows in p99 (GrowthBook's fastest cadence)."""
    start_s: Annotated[Seconds, Field(ge=1, le=3600)] = 180.0
    """How long a version that is started again has to be well: as ``service.probe.verify_s``, which counts where
    the service is probed."""
    settle_s: Annotated[Seconds, Field(ge=0, le=600)] = 3.0
    """Where it is not probed it is well once it has run for so long without a new start."""
