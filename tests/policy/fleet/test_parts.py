"""What each node contributes to a verdict, and what carried the service then."""

from __future__ import annotations

from typing import Any

from gpuwarden.config_guardrails import pack
from gpuwarden.evaluate.fast import sketch
from gpuwarden.model.evaluation import Cohort, Colour, Verdict, Window
from gpuwarden.policy.fleet.parts import BEFORE_S, Part, Share, carriers_of, parts_of

SPECS = {spec.name: spec for spec in pack(())}
CHAT = Cohort(service="chat")
SINCE = 1000.0


def verdict(limit: float = 0.5) -> Verdict:
    return Verdict(
        guardrail="g", cohort=CHAT, colour=Colour.RED, since_wall=SINCE, at_wall=1010.0, limit=limit
    )


def window(*values: float) -> Window:
    return Window(
        cohort=CHAT,
        begin_wall=SINCE,
        length_s=10.0,
        counts={"requests": float(len(values)), "errors": 0.0},
        sketches={"latency_s": sketch.of(values)},
    )


def share(node: str, **more: Any) -> tuple[float, Share]:
    begin = more.pop("begin", SINCE)
    return begin, Share(node=node, revision=0, **{"requests": 100.0, **more})


def test_the_worst_node_comes_first_and_those_held_elsewhere_by_their_shares() -> None:
    windows = {"n1": [window(*[0.1] * 50)], "n2": [window(*[0.9] * 50)]}
    shares = {
        "n1": [share("n1")],
        "n2": [share("n2")],
        "n3": [share("n3", latency_p99_s=2.0)],
        "n4": [share("n4")],
        "~labels.x": [share("~labels.x")],
    }
    found = parts_of(SPECS["latency-p99"], verdict(), windows, shares)
    assert [(p.node, p.is_bad) for p in found] == [
        ("n3", True),
        ("n2", True),
        ("n1", False),
        ("n4", None),
    ]
    assert found[-1].value is None


def test_of_too_few_requests_no_node_is_called_bad() -> None:
    (part,) = parts_of(
        SPECS["latency-p99"], verdict(), {"n1": [window(9.0, 9.0)]}, {"n1": [share("n1")]}
    )
    assert part.is_bad is False


def test_a_share_of_errors_is_told_of_every_node() -> None:
    shares = {"n1": [share("n1", errors=20.0)], "n2": [share("n2", errors=1.0)]}
    found = parts_of(SPECS["error-rate"], verdict(0.05), {}, shares)
    assert [(p.node, p.value, p.is_bad) for p in found] == [("n1", 0.2, True), ("n2", 0.01, False)]


def test_below_the_limit_is_bad_where_that_is_the_bad_side() -> None:
    told = Window(
        cohort=CHAT, begin_wall=SINCE, length_s=10.0, counts={"labels": 9, "predictions": 90}
    )
    good = Window(
        cohort=CHAT, begin_wall=SINCE, length_s=10.0, counts={"labels": 90, "predictions": 90}
    )
    shares = {"n1": [share("n1")], "n2": [share("n2")]}
    found = parts_of(SPECS["label-coverage"], verdict(0.95), {"n1": [told], "n2": [good]}, shares)
    assert [(p.node, p.is_bad) for p in found] == [("n1", True), ("n2", False)]


def test_carriers_say_where_and_how_the_clocks_were_before_and_since() -> None:
    part = Part(node="n1", requests=10.0, value=0.9, is_bad=True)
    shares = {
        "n1": [
            share("n1", begin=SINCE - BEFORE_S - 10, throttled=0.1, tenant="old", devices=("a",)),
            share("n1", begin=SINCE, throttled=0.9, tenant="new", devices=("b",)),
        ]
    }
    (carrier,) = carriers_of(verdict(), [part], shares, {"n1"})
    assert (carrier.tenant, carrier.devices) == ("new", frozenset({"b"}))
    assert (carrier.throttled_before, carrier.throttled) == (0.1, 0.9)
    assert carrier.is_heard
    (deaf,) = carriers_of(verdict(), [part], {}, ())
    assert (deaf.is_heard, deaf.devices, deaf.throttled) == (False, frozenset(), None)
