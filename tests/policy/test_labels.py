"""Rule labels: claims that policy does not give are reported."""

from __future__ import annotations

from gpuwarden.model.finding import Severity
from gpuwarden.policy import labels
from tests.policy.builders import Story, config, memory, scene, snap, tenant, use


def test_one_finding_a_tenant_with_refused_claims() -> None:
    bold = tenant("bold", policy_faults=("one", "two", "three", "four", "five"))
    look = snap(tenants=[tenant("meek"), bold])
    (claim,) = labels.find(config(), memory(), scene(look=look))
    assert (claim.tenant, claim.severity) == (bold.id, Severity.WARNING)
    assert claim.summary == "bold: one; two; three; four"


def test_a_refused_claim_orders_nothing_and_opens_no_incident() -> None:
    bold = tenant("bold", policy_faults=("refused",))
    decision = Story().see(100.0, tenants=[bold], uses=[use(bold, 10)])
    assert (decision.actions, decision.incidents, decision.withheld) == ((), (), ())
