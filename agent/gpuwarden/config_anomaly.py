"""``[anomaly]`` of the aggregator: services off their own days, and GPUs unlike their peers."""

from typing import Literal

from pydantic import Field

from gpuwarden.config_types import Section


class AnomalyConfig(Section):
    """One setting for the whole fleet. What is found is told; nothing acts on it."""

    then: Literal["tell", "ignore"] = "tell"
    """Whether people are told; it is found, and shown to whoever asks, in any case."""
    point_sigma: float = Field(default=6.0, ge=4.0, le=1000.0)
    """So many usual deviations off its hour a single value, or the state of all series together, is odd."""
    window_sigma: float = Field(default=5.0, ge=3.0, le=1000.0)
    """... and the mean of a stretch of six hours, or of a day, for values as correlated as those of its series are."""
    days_min: int = Field(default=3, ge=3, le=14)
    """Of a service nothing is judged before so many whole days of it are known."""
    reconstruction: Literal["pca", "autoencoder"] = "pca"
    """How series are held to fit together: a plane, or a curve that a small net learns (about a second a service and day)."""
    services_max: int = Field(default=300, ge=1, le=5000)
    """Of so many services a history is kept (some 130 KiB each); others are counted."""
    peers_min: int = Field(default=4, ge=4, le=1000)
    """A GPU is compared with no fewer of the same model, of the same group, at the same work."""
    peer_sigma: float = Field(default=6.0, ge=4.0, le=1000.0)
    """So many deviations of its peers off their median it is odd."""
