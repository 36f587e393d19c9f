"""What nodes and the aggregator tell one another of policies."""

from gpuwarden.model.policy import PolicyRefusal, PolicyReport
from gpuwarden.wire import fleet_check as check
from gpuwarden.wire.fields import text
from gpuwarden.wire.policy_text import VERSION_MAX
from gpuwarden.wire.v1 import fleet_pb2 as pb

REFUSALS_MAX = 8
WHY_MAX_CHARS = 400


def to_policy_report(report: PolicyReport) -> pb.PolicyReport:
    return pb.PolicyReport(
        version=report.version,
        digest=report.digest,
        not_after_wall=report.not_after_wall,
        is_expired=report.is_expired,
        refusals=[
            pb.PolicyRefusal(
                version=each.version, why=text(each.why[:WHY_MAX_CHARS]), wall=each.wall
            )
            for each in report.refusals[-REFUSALS_MAX:]
        ],
    )


def check_policy_report(message: pb.PolicyReport) -> None:
    """``Refused`` when a field is not what it may be; an absent report is well."""
    check.count("policy.version", message.version, VERSION_MAX)
    check.text("policy.digest", message.digest, 64)
    check.wall("policy.not_after_wall", message.not_after_wall)
    check.length("policy.refusals", message.refusals, REFUSALS_MAX)
    for refusal in message.refusals:
        check.count("policy.refusals.version", refusal.version, VERSION_MAX)
        check.text("policy.refusals.why", refusal.why, WHY_MAX_CHARS)
        check.wall("policy.refusals.wall", refusal.wall)


def from_policy_report(message: pb.PolicyReport) -> PolicyReport:
    """A node's word on what it has in force; ``Refused`` as above."""
    check_policy_report(message)
    return PolicyReport(
        version=message.version,
        digest=message.digest,
        not_after_wall=message.not_after_wall,
        is_expired=message.is_expired,
        refusals=tuple(
            PolicyRefusal(version=each.version, why=each.why, wall=each.wall)
            for each in message.refusals
        ),
    )
