"""Settings of the aggregator, with units, defaults and the source of each default."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from gpuwarden.config_addresses import DatabaseAddress, ListenAddress, OptionalListen, PolicyKey
from gpuwarden.config_anomaly import AnomalyConfig
from gpuwarden.config_drift import DriftConfig
from gpuwarden.config_evaluation import EvaluationConfig
from gpuwarden.config_guardrails import GuardrailConfig
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.config_ramp import RampConfig
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.config_types import Ratio, Seconds, Section

AGGREGATOR_PATH = Path("/etc/gpuwarden/aggregator.toml")


class CentreConfig(Section):
    """The daemon itself."""

    listen: ListenAddress = "0.0.0.0:9440"
    """For nodes and people; both show a certificate."""
    enrol_listen: OptionalListen = "0.0.0.0:9441"
    """For nodes that are to join, with a token; ``none``: nobody joins."""
    metrics_listen: OptionalListen = "127.0.0.1:9443"
    """For /metrics, and /sd, which tells Prometheus of every agent; ``none``: neither is served."""
    advertise: ListenAddress | None = None
    """HOST:PORT at which people and other aggregators find this one; unset: this host's name and ``listen``."""
    names: tuple[str, ...] = ()
    """Further names and addresses that its certificate is to bear."""
    state_dir: Path = Path("/var/lib/gpuwarden-aggregator")
    store: DatabaseAddress | None = None
    """PostgreSQL instead of a file of SQLite in ``state_dir``."""
    trust_domain: str = Field(default="gpuwarden", pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    log_format: Literal["console", "json"] = "console"
    certificate_s: Seconds = 86_400.0
    """How long certificates hold; renewed at half of it (reliability research 1: step-ca's 24 h)."""


class IngestConfig(Section):
    """What a node may send, and how it is taken. Reliability research 3.5 and 4."""

    messages_per_s: float = Field(default=20.0, gt=0, le=10_000)
    messages_burst: int = Field(default=200, ge=1, le=100_000)
    keepalive_s: Seconds = Field(default=30.0, ge=1.0)
    """A stream on which nothing is said is tried so often; nodes may try theirs three times as often."""
    keepalive_timeout_s: Seconds = Field(default=20.0, ge=1.0)
    """Without an answer for so long the stream is dead."""
    first_message_s: Seconds = 10.0
    """A stream that has not said who it is by then is ended."""
    idle_s: Seconds = 90.0
    """A stream that says nothing for so long is ended."""
    commit_s: Seconds = 0.1
    """What came within this is committed together."""
    queue_max: int = Field(default=5000, ge=10, le=1_000_000)
    """Messages that wait to be committed; beyond it streams wait."""
    window: int = Field(default=256, ge=1, le=65_536)
    """How many events of one node may be unacknowledged."""
    malformed_max: int = Field(default=3, ge=1, le=1000)
    """After so many a stream is ended and its node kept out for ``quarantine_s``, doubling."""
    quarantine_s: Seconds = 60.0
    keep_events_s: Seconds = 30 * 86_400.0


class SightConfig(Section):
    """When a node counts as not heard. Reliability research 4: heartbeat 10 s, suspect 40 s, lost 60 s."""

    silent_after_s: Seconds = 60.0
    grace_s: Seconds = 300.0
    """After a start of the aggregator nobody is called silent for so long (Nomad's failover TTL)."""
    doubt_ratio: Ratio = 0.55
    """When so many nodes at once are not heard, it is the aggregator that cannot hear (kubelet's 55 %)."""
    doubt_min: int = Field(default=3, ge=1, le=10_000)
    sick_ratio: Ratio = 0.2
    """When so many nodes of a group turn sick within ``sick_window_s``, no permits are given."""
    sick_min: int = Field(default=3, ge=1, le=10_000)
    sick_window_s: Seconds = 300.0
    fold_s: Seconds = 10.0
    """What is said of the fleet is paged once it has not grown for so long: one page, of all of them ..."""
    fold_max_s: Seconds = 45.0
    """... and after so long in any case (reliability research 6, case 29: within 60 s)."""
    gather_s: Seconds = Field(default=3.0, le=30.0)
    """A node's page waits so long for those of others: where a group turns sick at once, one page tells of all."""
    over_s: Seconds = 60.0
    """It is over once nothing of it has been so for so long."""


class Budget(Section):
    """How many nodes of a group may be hit in a window: the smaller of both, and at least one."""

    ratio: Ratio
    most: int = Field(ge=0, le=100_000)
    window_s: Seconds


class PermitConfig(Section):
    """The brake on the whole fleet. Reliability research 2, blast radius."""

    required: bool = True
    ttl_s: Seconds = Field(default=60.0, le=600)
    stale_s: Seconds = 600.0
    """No permit for a fault that was noticed longer ago: old faults are not replayed."""
    cordon: Budget = Budget(ratio=0.05, most=50, window_s=3600.0)
    repair: Budget = Budget(ratio=0.05, most=20, window_s=3600.0)
    """Restarts of services, resets and reloads of the driver."""
    reboot: Budget = Budget(ratio=0.01, most=5, window_s=600.0)
    standing_ratio: Ratio = 0.1
    """At most so many nodes of a group out of use at once, and at least one."""
    resets_per_node_day: int = Field(default=2, ge=0, le=1000)
    one_per_domain: tuple[str, ...] = ("rack",)
    """Kinds of failure domain in which one node at a time may be hit."""


class AskConfig(Section):
    """Asking nodes."""

    deadline_s: Seconds = 3.0
    parallel: int = Field(default=32, ge=1, le=1024)
    order_s: Seconds = 15.0
    """How long a node may take to obey an order."""


class PolicyConfig(Section):
    """The fleet's policies: whose signature counts, and how carefully they are rolled out."""

    keys: tuple[PolicyKey, ...] = Field(default=(), max_length=8)
    """Public keys, as the nodes pin them; none: nothing can be published."""
    soak_s: Seconds = 600.0
    """How long the nodes of a stage have to be well before the next one is given a policy."""
    apply_s: Seconds = 300.0
    """How long the nodes of a stage that are heard may take to apply it; then it is halted."""
    more_ratio: Ratio = 0.1
    """Halted when findings, or actions withheld, are more than before by this many a node ..."""
    more_min: int = Field(default=3, ge=0, le=100_000)
    """... and by at least so many in all."""
    lost_ratio: Ratio = 0.05
    lost_min: int = Field(default=2, ge=1, le=100_000)
    """Halted when so many nodes (the larger of share and number) that were heard before are not any more."""
    touch_ratio: Ratio = 0.05
    """A policy that puts tenants over their quota on more nodes of a group than this needs somebody's word."""
    drift_ratio: Ratio = 0.01
    drift_s: Seconds = 600.0
    """More nodes than this without the policy they should have, for so long, is a claim (reliability research 2)."""
    warn_s: Seconds = 3 * 86_400.0
    """So long before a policy runs out it is a claim."""
    deliveries_per_s: int = Field(default=64, ge=1, le=10_000)


class AggregatorConfig(Section):
    """The whole file."""

    aggregator: CentreConfig = CentreConfig()
    ingest: IngestConfig = IngestConfig()
    sight: SightConfig = SightConfig()
    permit: PermitConfig = PermitConfig()
    ask: AskConfig = AskConfig()
    oncall: OncallConfig = OncallConfig()
    """Who is told of what befalls the fleet as a whole; as at a node."""
    policy: PolicyConfig = PolicyConfig()
    rollout: RampConfig = RampConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    retrain: tuple[RetrainConfig, ...] = Field(default=(), max_length=64)
    """When models are to be trained again, and who is asked."""
    drift: DriftConfig = DriftConfig()
    anomaly: AnomalyConfig = AnomalyConfig()
    guardrail: tuple[GuardrailConfig, ...] = Field(default=(), max_length=256)
    """Red lines of services, judged on what all nodes say together; the default pack is in force without any."""

    @model_validator(mode="after")
    def _once(self) -> "AggregatorConfig":
        names = [each.name for each in self.guardrail]
        if len(set(names)) != len(names):
            raise ValueError("guardrail: a name stands twice")
        services = [each.service for each in self.retrain]
        if len(set(services)) != len(services):
            raise ValueError("retrain: a service stands twice")
        return self
