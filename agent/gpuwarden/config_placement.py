"""[placement.GROUP]: who belongs on the nodes of a group, so that core and batch work are kept apart."""

from pydantic import Field

from gpuwarden.config_types import Class, Section


class PlacementConfig(Section):
    """What nodes of one group (``fleet.group``) admit."""

    admit: tuple[Class, ...] = Field(min_length=1)
    """Classes that belong here; a tenant of any other is a finding."""
    refuse: bool = False
    """Whether a container of another class that starts here is stopped (rule placement, in enforce mode).
    Those that were here before stay."""
