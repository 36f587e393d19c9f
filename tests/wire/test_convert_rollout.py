"""Rollouts as messages: every field there and back, and what no value can be is refused."""

from __future__ import annotations

import dataclasses
import math
from enum import StrEnum
from typing import Any, get_args, get_type_hints

import pytest

from gpuwarden.errors import Refused
from gpuwarden.model import ramp as model
from gpuwarden.model.ramp import ArmShare, Campaign, NodeTurn, Ramp, Shares
from gpuwarden.wire.convert_rollout import PAIRS, from_body, from_message, to_body, to_message
from gpuwarden.wire.v1 import rollout_pb2 as pb


def filled(kind: type[Any]) -> Any:
    """A value of which no field is what it is when it is left out."""
    said: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        said[name] = _value(hint, name)
    return kind(**said)


def _value(hint: Any, name: str) -> Any:
    inner = get_args(hint)
    if inner and hint not in PAIRS:
        return (_value(inner[0], name),) if inner[-1] is Ellipsis else _value(inner[0], name)
    if hint in PAIRS:
        return filled(hint)
    if hint is bool:
        return True
    if hint in (int, float):
        return hint(3)
    return list(hint)[-1] if issubclass(hint, StrEnum) else f"a {name}"


@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.__name__)
def test_every_field_goes_there_and_back(kind: type[Any]) -> None:
    value = filled(kind)
    assert from_body(kind, to_body(value)) == value
    names = {field.name for field in PAIRS[kind].DESCRIPTOR.fields}
    assert names == {field.name for field in dataclasses.fields(kind)}


def test_what_is_not_known_stays_so() -> None:
    experiment = model.Experiment(id="e", service="s", arms=(), p_value=None)
    assert from_body(model.Experiment, to_body(experiment)).p_value is None
    zero = dataclasses.replace(experiment, p_value=0.0)
    assert from_body(model.Experiment, to_body(zero)).p_value == 0.0


@pytest.mark.parametrize("share", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(share: float) -> None:
    message = pb.Shares(service="s", arms=[pb.ArmShare(arm="a", version="v", share=share)])
    with pytest.raises(Refused, match="finite"):
        from_message(Shares, message)


def test_a_word_that_nobody_knows_is_refused() -> None:
    message = to_message(Ramp(id="r", service="s", version="v", base="b"))
    message.stage = "flying"
    with pytest.raises(Refused, match="flying"):
        from_message(Ramp, message)


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\xff", bytes(64)])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        from_body(Campaign, body)


def test_a_campaign_of_a_whole_fleet_fits_a_document() -> None:
    nodes = tuple(
        NodeTurn(node=f"node-{n:04}.example.org", order="rb-" + "0" * 24, detail="x" * 60)
        for n in range(1000)
    )
    body = to_body(Campaign(id="c", service="s", version="v", nodes=nodes))
    assert len(body) <= 256 * 1024
    assert from_body(Campaign, body).nodes[-1] == nodes[-1]


def test_text_that_is_no_unicode_does_not_break_a_message() -> None:
    arms = (ArmShare(arm="a", version="v\ud800", share=1.0),)
    assert to_body(Shares(service="s", arms=arms))
