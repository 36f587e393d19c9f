"""A picture of the node as a message and back: what the socket carries is what the loop published."""

from collections.abc import Mapping

from gpuwarden.errors import Unsupported
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.status import AgentInfo, View
from gpuwarden.wire.convert_fault import from_fault, from_repair, to_fault, to_repair
from gpuwarden.wire.convert_node import from_snapshot, to_snapshot
from gpuwarden.wire.convert_oncall import from_oncall, to_oncall
from gpuwarden.wire.convert_work import (
    from_case,
    from_debt,
    from_finding,
    from_incident,
    from_outcome,
    from_tombstone,
    from_withheld,
    to_case,
    to_debt,
    to_finding,
    to_incident,
    to_outcome,
    to_tombstone,
    to_withheld,
)
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import node_pb2 as pb

SCHEMA_VERSION = 1
"""Raised when a reader of the old schema would misread an answer; new fields alone do not raise it."""


INPUTS = frozenset({("Snapshot", "named"), ("KernelRecord", "line")})
"""Fields that only the decision of their own look needs, and the journal for replay: readers get what came
of them, and the line's own text."""


def check_schema(version: int) -> None:
    """``Unsupported`` when the other side speaks a schema this program cannot read."""
    if version > SCHEMA_VERSION:
        raise Unsupported(
            f"the agent speaks schema {version}, this program only {SCHEMA_VERSION}: "
            "use the gpuwarden command of the agent's own version"
        )


def to_view(view: View) -> pb.View:
    return pb.View(
        serial=view.serial,
        at=view.at,
        agent=_to_agent(view.agent),
        snapshot=to_snapshot(view.snapshot),
        findings=[to_finding(finding) for finding in view.findings],
        withheld=[to_withheld(withheld) for withheld in view.withheld],
        cases=[to_case(case) for case in view.cases],
        debts=[to_debt(debt) for debt in view.debts],
        tombstones=[to_tombstone(tombstone) for tombstone in view.tombstones],
        faults=[to_fault(fault) for fault in view.faults],
        repairs=[to_repair(repair) for repair in view.repairs],
        incidents=[to_incident(incident) for incident in view.incidents],
        outcomes=[to_outcome(outcome) for outcome in view.outcomes],
        device_details=[
            _to_details(device, facts) for device, facts in view.device_details.items()
        ],
        counters=[
            pb.Counter(name=text(name), label=text(label), total=total)
            for (name, label), total in view.counters.items()
        ],
        durations={text(name): value for name, value in view.durations.items()},
        oncall=to_oncall(view.oncall),
    )


def from_view(message: pb.View) -> View:
    return View(
        serial=message.serial,
        at=message.at,
        agent=_from_agent(message.agent),
        snapshot=from_snapshot(message.snapshot),
        findings=tuple(from_finding(finding) for finding in message.findings),
        withheld=tuple(from_withheld(withheld) for withheld in message.withheld),
        cases=tuple(from_case(case) for case in message.cases),
        debts=tuple(from_debt(debt) for debt in message.debts),
        tombstones=tuple(from_tombstone(tombstone) for tombstone in message.tombstones),
        faults=tuple(from_fault(fault) for fault in message.faults),
        repairs=tuple(from_repair(repair) for repair in message.repairs),
        incidents=tuple(from_incident(incident) for incident in message.incidents),
        outcomes=tuple(from_outcome(outcome) for outcome in message.outcomes),
        device_details={
            DeviceId(details.device): {fact.key: _from_fact(fact) for fact in details.facts}
            for details in message.device_details
        },
        counters={(entry.name, entry.label): entry.total for entry in message.counters},
        durations=dict(message.durations),
        oncall=from_oncall(message.oncall),
    )


def _to_agent(agent: AgentInfo) -> pb.AgentInfo:
    return pb.AgentInfo(
        version=text(agent.version),
        pid=agent.pid,
        mode=text(agent.mode),
        started_wall=agent.started_wall,
        boot_id=text(agent.boot_id),
        is_config_ok=agent.config_ok,
        config_error=text(agent.config_error),
        config_loaded_wall=agent.config_loaded_wall,
        kernel_log=text(agent.kernel_log),
        limiter=text(agent.limiter),
        driver_version=text(agent.driver_version),
        nvml_version=text(agent.nvml_version),
        cuda_version=text(agent.cuda_version),
        is_journal_ok=agent.journal_ok,
        degraded=[text(line) for line in agent.degraded],
        policy_version=agent.policy_version,
        policy_not_after_wall=agent.policy_not_after_wall,
        is_policy_expired=agent.policy_expired,
    )


def _from_agent(message: pb.AgentInfo) -> AgentInfo:
    return AgentInfo(
        version=message.version,
        pid=message.pid,
        mode=message.mode,
        started_wall=message.started_wall,
        boot_id=message.boot_id,
        config_ok=message.is_config_ok,
        config_error=message.config_error,
        config_loaded_wall=message.config_loaded_wall,
        kernel_log=message.kernel_log,
        limiter=message.limiter,
        driver_version=message.driver_version,
        nvml_version=message.nvml_version,
        cuda_version=message.cuda_version,
        journal_ok=message.is_journal_ok,
        degraded=tuple(message.degraded),
        policy_version=message.policy_version,
        policy_not_after_wall=message.policy_not_after_wall,
        policy_expired=message.is_policy_expired,
    )


def _to_details(device: DeviceId, facts: Mapping[str, float | str | None]) -> pb.DeviceDetails:
    return pb.DeviceDetails(
        device=text(device), facts=[_to_fact(key, value) for key, value in facts.items()]
    )


def _to_fact(key: str, value: float | str | None) -> pb.DeviceFact:
    if value is None:
        return pb.DeviceFact(key=text(key))
    if isinstance(value, str):
        return pb.DeviceFact(key=text(key), text=text(value))
    return pb.DeviceFact(key=text(key), number=value)


def _from_fact(message: pb.DeviceFact) -> float | str | None:
    which = message.WhichOneof("value")
    if which is None:
        return None
    return message.text if which == "text" else message.number
