"""``[[service]]``: what a protected service promises, how it is asked whether it is well, what may be done."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gpuwarden.config_addresses import LoopbackUrl
from gpuwarden.config_types import Seconds, Section


def _path(value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or " " in value:
        raise ValueError('expected a path such as "/healthz"')
    return value


class ProbeConfig(Section):
    """One probe of a service: ``http``, or ``port`` of its container, or Docker's own HEALTHCHECK.

    Pace and threshold are the kubelet's for its probes (period 10 s, timeout 1 s, failureThreshold 3: core/v1
    Probe): who has tuned one knows the other.
    """

    http: LoopbackUrl | None = None
    """GET there; 200 to 399 is well, as for the kubelet."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The same on the address of the Docker container that carries the service."""
    path: Annotated[str, AfterValidator(_path)] = Field(default="/", max_length=512)
    """What is asked for at ``port``."""
    healthcheck: bool = False
    """Docker's word on the container: ``unhealthy`` fails, ``healthy`` is well, ``starting`` says nothing."""
    every_s: Annotated[Seconds, Field(ge=0.2, le=3600)] = 10.0
    timeout_s: Annotated[Seconds, Field(gt=0, le=60)] = 1.0
    failures: int = Field(default=3, ge=1, le=1000)
    """So many in a row are a claim. Of a HEALTHCHECK Docker counts, and calls it unhealthy by its own
    ``--health-retries`` first."""
    restart: bool = False
    """Whether the tenant that carries the service may be restarted for it (rule ``probe`` in enforce mode)."""
    restarts_per_hour: int = Field(default=3, ge=0, le=1000)
    """Then people are told: what three restarts in an hour have not cured, a fourth will not."""
    verify_s: Seconds = 180.0
    """How long a restarted service has to be well again: the start of its runtime, and a large model loaded
    (at 1 GB/s from disk, 140 GB take 140 s)."""
    probation_s: Seconds = 60.0
    """How long it has to have been well before the incident is over: two rounds of three probes."""

    @model_validator(mode="after")
    def _one(self) -> "ProbeConfig":
        said = [self.http is not None, self.port is not None, self.healthcheck]
        if said.count(True) != 1:
            raise ValueError("expected one of http, port and healthcheck")
        if self.timeout_s > self.every_s:
            raise ValueError("expected timeout_s of at most every_s")
        return self


PLAIN_HISTOGRAM = "http_request_duration_seconds"
_METRIC = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"


class SeriesConfig(Section):
    """One series of a service's page, where it is called otherwise than by servers that are known."""

    name: str = Field(max_length=128, pattern=r"^([a-z_0-9]+|custom\.[A-Za-z0-9_:.]+)$")
    """A known series, or ``custom.NAME``."""
    metric: str = Field(max_length=200, pattern=_METRIC)
    """Of a histogram its name without ``_bucket``."""
    kind: Literal["count", "level", "spread"] | None = None
    """Of a custom series."""
    scale: float = Field(default=1.0, gt=0, le=1e12)
    """Times this the metric has the series' unit: 0.001 of milliseconds."""
    labels: dict[str, str] = Field(default_factory=dict, max_length=8)
    """Only lines with these labels; values are shell patterns (``code = "5??"``)."""

    @model_validator(mode="after")
    def _known(self) -> "SeriesConfig":
        if self.name.startswith("custom."):
            if self.kind is None:
                raise ValueError("expected kind: count, level or spread")
            return self
        # Imported where there is one to look at: most nodes have none.
        from gpuwarden.evaluate.fast.series import KNOWN

        if self.name not in KNOWN:
            raise ValueError(f"expected custom.NAME or one of {', '.join(sorted(KNOWN))}")
        if self.kind is not None and self.kind != KNOWN[self.name].kind:
            raise ValueError(f"{self.name} is a {KNOWN[self.name].kind}")
        return self


class ServiceConfig(Section):
    """A protected service: its objective, read from its own Prometheus histogram at ``url``, and its probe."""

    name: str = Field(min_length=1, max_length=128)
    url: LoopbackUrl | None = None
    histogram: str = Field(default=PLAIN_HISTOGRAM, max_length=200)
    """Of its latency. By default what vLLM, Triton, TGI, TorchServe and BentoML call it is found as well."""
    series: tuple[SeriesConfig, ...] = Field(default=(), max_length=64)
    confidence_min: float = Field(default=0.5, ge=0, le=1)
    """Predictions its client tells with less confidence are low (guardrail ``low-confidence``)."""
    review_per_min: float = Field(default=6.0, ge=0, le=6000)
    """So many predictions a minute of each node go to the aggregator's queue for people; 0: none."""
    p99_max_s: Seconds = 0.5
    every_s: Seconds = 0.25
    window_s: Seconds = 2.0
    enter_s: Seconds = 0.5
    leave_s: Seconds = 1.0
    stall_s: Seconds = 1.0
    """No request finishing for this long while some are in flight counts as red."""
    probe: ProbeConfig | None = None

    @model_validator(mode="after")
    def _some(self) -> "ServiceConfig":
        if self.url is None and self.probe is None:
            raise ValueError("expected url (an objective), probe, or both")
        return self
