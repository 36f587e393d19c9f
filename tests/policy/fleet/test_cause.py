"""What on the GPUs explains a red guardrail, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwarden.model.evaluation import Cohort, Colour, Verdict
from gpuwarden.policy.fleet.cause import (
    AFTER_S,
    LEAD_S,
    OF_RULE,
    Carrier,
    Cause,
    CauseKind,
    Trouble,
    cause_of,
)

SINCE = 1_700_000_000.0
VERDICT = Verdict(
    guardrail="latency-p99",
    cohort=Cohort(service="chat", version="v2"),
    colour=Colour.RED,
    since_wall=SINCE,
    at_wall=SINCE + 30,
)


def carrier(node: str = "n1", **more: object) -> Carrier:
    values: dict[str, object] = {"tenant": "chat-1", "devices": frozenset({"GPU-a"}), **more}
    return Carrier(node=node, **values)  # type: ignore[arg-type]


def trouble(rule: str = "quota", node: str = "n1", **more: object) -> Trouble:
    values: dict[str, object] = {"tenant": "thief", "device": "GPU-a", "summary": "over", **more}
    opened = values.pop("opened_wall", SINCE - 10)
    return Trouble(node=node, incident="inc-7", rule=rule, opened_wall=opened, **values)  # type: ignore[arg-type]


def found(troubles: list[Trouble], carriers: list[Carrier]) -> Cause:
    return cause_of(VERDICT, troubles, carriers)


@pytest.mark.parametrize(("rule", "kind"), sorted(OF_RULE.items()))
def test_every_kind_of_trouble_on_the_devices_explains_it(rule: str, kind: CauseKind) -> None:
    cause = found([trouble(rule)], [carrier()])
    assert (cause.kind, cause.is_gpu, cause.is_ruled_out) == (kind, True, False)
    assert (cause.node, cause.device, cause.incident) == ("n1", "GPU-a", "inc-7")
    assert cause.tenant == ("thief" if kind is CauseKind.NEIGHBOUR else "")


def test_the_neighbour_is_named() -> None:
    cause = found([trouble(tenant="3f2a", tenant_name="batch-job")], [carrier()])
    assert "neighbour batch-job" in cause.summary
    assert "incident inc-7" in cause.summary


@pytest.mark.parametrize(
    "other",
    [
        trouble("labels"),
        trouble(node="n2"),
        trouble(device="GPU-b"),
        trouble(tenant="chat-1"),
        trouble(opened_wall=SINCE - LEAD_S - 1),
        trouble(opened_wall=SINCE + 31),
        trouble(opened_wall=SINCE - 500, closed_wall=SINCE - AFTER_S - 1),
    ],
    ids=["rule", "node", "device", "its own", "old", "later", "over"],
)
def test_what_is_elsewhere_or_of_another_time_explains_nothing(other: Trouble) -> None:
    cause = found([other], [carrier()])
    assert (cause.kind, cause.is_gpu, cause.is_ruled_out) == (CauseKind.NONE, False, True)
    assert "the 1 GPU on 1 node" in cause.summary


@pytest.mark.parametrize(
    "near",
    [
        trouble(opened_wall=SINCE - LEAD_S),
        trouble(opened_wall=SINCE + 30),
        trouble(opened_wall=SINCE - 500, closed_wall=SINCE - AFTER_S),
        trouble(device=""),
    ],
)
def test_the_edges_belong_to_it(near: Trouble) -> None:
    assert found([near], [carrier()]).is_gpu


def test_a_version_that_is_bad_everywhere_is_not_excused_by_one_node() -> None:
    nodes = [carrier(f"n{number}", is_bad=True) for number in range(1, 6)]
    cause = found([trouble("fault", tenant="")], nodes)
    assert cause.kind is CauseKind.FAULT
    assert (cause.is_gpu, cause.is_ruled_out) == (False, True)
    assert "n2, n3, n4 and 1 more show the breach without it" in cause.summary


def test_one_bad_node_of_forty_with_a_fault_is_explained_whole() -> None:
    nodes = [carrier(f"n{number}", is_bad=number == 1) for number in range(1, 41)]
    cause = found([trouble("fault", tenant="")], nodes)
    assert cause.is_gpu
    assert cause.nodes == ("n1",)


def test_a_fault_on_a_node_that_is_well_explains_nothing() -> None:
    nodes = [carrier("n1", is_bad=False), carrier("n2", is_bad=True)]
    assert found([trouble("fault")], nodes).kind is CauseKind.NONE


def test_without_knowing_which_node_is_bad_all_have_to_be_explained() -> None:
    both = [carrier("n1"), carrier("n2")]
    assert not found([trouble("fault")], both).is_gpu
    cause = found([trouble("fault"), trouble("quota", node="n2")], both)
    assert cause.is_gpu
    assert (cause.kind, cause.nodes) == (CauseKind.FAULT, ("n1", "n2"))


def test_a_breach_that_no_single_node_shows_is_looked_for_on_all() -> None:
    both = [carrier("n1", is_bad=False), carrier("n2", is_bad=False)]
    assert found([], both).is_ruled_out
    assert not found([trouble("fault")], both).is_gpu


def test_where_nobody_looked_nothing_is_ruled_out() -> None:
    assert found([], []).kind is CauseKind.UNKNOWN
    deaf = carrier("n2", is_heard=False)
    for troubles in ([], [trouble("fault")]):
        cause = found(troubles, [carrier("n1"), deaf])
        assert cause.kind is CauseKind.UNKNOWN
        assert not cause.is_gpu
        assert not cause.is_ruled_out


@pytest.mark.parametrize(
    ("share", "before", "is_cause"),
    [
        (0.3, 0.1, True),
        (0.29, 0.0, False),
        (0.9, 0.5, False),
        (1.0, 0.5, True),
        (0.9, None, False),
        (None, 0.0, False),
    ],
)
def test_clocks_that_are_newly_held_down_explain_it(
    share: float | None, before: float | None, is_cause: bool
) -> None:
    cause = found([], [carrier(throttled=share, throttled_before=before)])
    assert (cause.kind is CauseKind.THROTTLE) == cause.is_gpu == is_cause


def test_the_surest_is_named_first() -> None:
    troubles = [trouble("throttle"), trouble("quota"), trouble("locked"), trouble("fault")]
    assert found(troubles, [carrier()]).kind is CauseKind.LOCKED
    assert found(troubles, [replace(carrier(), devices=frozenset())]).kind is CauseKind.LOCKED
