"""Pieces of messages that many types share: text, optional fields, pairs, enums, identities."""

from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from gpuwarden.errors import Unsupported
from gpuwarden.model.ids import CgroupId, Pid
from gpuwarden.wire.v1 import node_pb2 as pb

_Member = TypeVar("_Member", bound=Enum)


class WireEnum(Protocol):
    """A generated enum, as far as it is needed here."""

    def Value(self, name: str) -> Any: ...

    def Name(self, number: Any) -> str: ...


def text(value: str) -> str:
    """Text a message can carry: a lone surrogate (a byte that was no UTF-8) becomes ``?``."""
    return value.encode("utf-8", "replace").decode("utf-8")


def text_or_none(value: str | None) -> str | None:
    return None if value is None else text(value)


def known(message: Message, name: str) -> Any:
    """An optional field's value, or ``None`` when it was not sent."""
    return getattr(message, name) if message.HasField(name) else None


def to_enum(kind: WireEnum, prefix: str, member: Enum) -> Any:
    return kind.Value(f"{prefix}_{member.name}")


def from_enum(kind: WireEnum, prefix: str, number: Any, members: type[_Member]) -> _Member:
    """The member of that number; ``Unsupported`` for one that only a newer agent knows."""
    try:
        return members[kind.Name(number).removeprefix(f"{prefix}_")]
    except (KeyError, ValueError) as error:
        raise Unsupported(
            f"the agent speaks of {prefix.lower()} {number}, which this program does not know: "
            "use the gpuwarden command of the agent's own version"
        ) from error


def to_pairs(pairs: Iterable[tuple[str, str]]) -> list[pb.NamedText]:
    return [pb.NamedText(name=text(name), text=text(value)) for name, value in pairs]


def from_pairs(messages: Iterable[pb.NamedText]) -> tuple[tuple[str, str], ...]:
    return tuple((message.name, message.text) for message in messages)


def to_pids(pids: Iterable[Pid]) -> list[pb.Pid]:
    return [pb.Pid(pid=pid.pid, start=pid.start) for pid in pids]


def from_pids(messages: Iterable[pb.Pid]) -> tuple[Pid, ...]:
    return tuple(Pid(pid=message.pid, start=message.start) for message in messages)


def to_cgroup(cgroup: CgroupId | None) -> pb.CgroupId | None:
    if cgroup is None:
        return None
    return pb.CgroupId(path=text(cgroup.path), inode=cgroup.inode, hierarchy=text(cgroup.hierarchy))


def from_cgroup(message: pb.CgroupId | None) -> CgroupId | None:
    if message is None:
        return None
    return CgroupId(path=message.path, inode=message.inode, hierarchy=message.hierarchy)
