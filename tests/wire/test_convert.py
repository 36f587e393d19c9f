"""What the socket carries is what was published: round trips over generated pictures.

The strategies are drawn from the dataclasses themselves: a field that is added to the model and
forgotten in the schema or in a conversion turns these red.
"""

import dataclasses
import typing
from enum import Enum
from types import NoneType, UnionType
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwarden.errors import Unsupported
from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident
from gpuwarden.model.device import Sight
from gpuwarden.model.finding import Severity
from gpuwarden.model.kernel_record import KernelTrust
from gpuwarden.model.memory import Rung
from gpuwarden.model.snapshot import GapKind, Health, Snapshot
from gpuwarden.model.status import AgentInfo, View
from gpuwarden.model.tenant import TenantClass
from gpuwarden.wire.convert import INPUTS, SCHEMA_VERSION, check_schema, from_view, to_view
from gpuwarden.wire.convert_node import from_device
from gpuwarden.wire.convert_work import from_incident, to_incident
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import node_pb2 as pb

EMPTY = Snapshot(at=0.0, wall=0.0, boot_id="b")
WORDS = st.sampled_from(["", "a", "héllo", "\x1b[2J\n", "docker:" + "f" * 64, "\u202e"])
SPECIAL_INTS = {"index": st.integers(-1, 63), "recovery_action": st.integers(0, 7)}


def values_of(kind: Any, name: str = "") -> st.SearchStrategy[Any]:
    """A strategy for a field's annotation."""
    kind = getattr(kind, "__supertype__", kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return st.one_of([values_of(argument, name) for argument in arguments])
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return st.lists(values_of(arguments[0], name), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(argument, name) for argument in arguments))
    if origin is not None:
        keys, values = arguments
        return st.dictionaries(values_of(keys), values_of(values), max_size=2)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {
            field.name: values_of(hints[field.name], field.name)
            for field in dataclasses.fields(kind)
            if not ((kind.__name__, field.name) in INPUTS)
        }
        return st.builds(kind, **fields)
    if kind is NoneType:
        return st.none()
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    plain: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: SPECIAL_INTS.get(name, st.sampled_from([0, 1, 2**31 - 1])),
        float: st.sampled_from([0.0, -1.5, 1e300, 1_700_000_000.25]),
        str: WORDS,
    }
    return plain[kind]


def filled(kind: Any) -> Any:
    """A value of a field's annotation that is neither absent nor a default."""
    kind = getattr(kind, "__supertype__", kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (UnionType, typing.Union):
        return filled(next(argument for argument in arguments if argument is not NoneType))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return (filled(arguments[0]),)
    if origin is tuple:
        return tuple(filled(argument) for argument in arguments)
    if origin is not None:
        return {filled(arguments[0]): filled(arguments[1])}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        made = {}
        for field in dataclasses.fields(kind):
            if (kind.__name__, field.name) in INPUTS:
                continue
            value = filled(hints[field.name])
            made[field.name] = not field.default if isinstance(value, bool) else value
        return kind(**made)
    if issubclass(kind, Enum):
        return list(kind)[-1]
    plain: dict[type, Any] = {bool: True, int: 7, float: 7.5, str: "seven"}
    return plain[kind]


def test_no_field_is_forgotten() -> None:
    """The plain case of the property below: it names the field at once."""
    view = filled(View)
    again = from_view(pb.View.FromString(to_view(view).SerializeToString()))
    for field in dataclasses.fields(View):
        assert getattr(again, field.name) == getattr(view, field.name)


@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(values_of(View))
def test_a_picture_survives_the_wire(view: View) -> None:
    data = to_view(view).SerializeToString()
    assert from_view(pb.View.FromString(data)) == view


@settings(max_examples=60, deadline=None)
@given(values_of(Incident))
def test_an_incident_survives_the_wire(incident: Incident) -> None:
    data = to_incident(incident).SerializeToString()
    assert from_incident(pb.Incident.FromString(data)) == incident


def test_absent_is_not_zero() -> None:
    empty = from_device(pb.Device(id="GPU-1", sight=pb.SIGHT_BLIND, recovery_action=0))
    assert empty.used_bytes is None
    assert empty.at is None
    assert empty.recovery_action == 0


@pytest.mark.parametrize(
    ("wire", "prefix", "members"),
    [
        (pb.Sight, "SIGHT", Sight),
        (pb.TenantClass, "TENANT_CLASS", TenantClass),
        (pb.Health, "HEALTH", Health),
        (pb.GapKind, "GAP_KIND", GapKind),
        (pb.KernelTrust, "KERNEL_TRUST", KernelTrust),
        (pb.Severity, "SEVERITY", Severity),
        (pb.ActionKind, "ACTION_KIND", Kind),
        (pb.ActionResult, "ACTION_RESULT", Result),
        (pb.Rung, "RUNG", Rung),
    ],
)
def test_enums_hold_the_same_words(wire: Any, prefix: str, members: type[Enum]) -> None:
    said = {name.removeprefix(f"{prefix}_") for name in wire.keys()}  # noqa: SIM118  not a dict
    assert said == {member.name for member in members} | {"UNSPECIFIED"}
    assert wire.Value(f"{prefix}_UNSPECIFIED") == 0


@pytest.mark.parametrize("number", [0, 99])
def test_a_word_of_a_newer_agent_is_refused_with_advice(number: int) -> None:
    with pytest.raises(Unsupported, match="agent's own version"):
        from_device(pb.Device(id="GPU-1", sight=typing.cast("Any", number)))


def test_a_newer_schema_is_refused_and_an_older_one_read() -> None:
    check_schema(SCHEMA_VERSION)
    check_schema(0)
    with pytest.raises(Unsupported, match="schema 2"):
        check_schema(SCHEMA_VERSION + 1)


def test_bytes_that_were_no_text_do_not_stop_a_message() -> None:
    assert text("name \udcff") == "name ?"
    hostile = AgentInfo(
        version="\ud800", pid=1, mode="observe", started_wall=0.0, boot_id="b", degraded=("\udc80",)
    )
    message = to_view(View(serial=1, at=0.0, agent=hostile, snapshot=EMPTY))
    assert message.agent.version == "?"
    assert list(message.agent.degraded) == ["?"]
    assert isinstance(message, Message)
