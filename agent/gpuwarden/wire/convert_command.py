"""Operators' commands as messages and back."""

from gpuwarden.model.command import Command, Verb
from gpuwarden.wire.fields import text
from gpuwarden.wire.v1 import node_pb2 as pb


def to_command(command: Command) -> pb.Command:
    return pb.Command(
        id=command.id,
        verb=command.verb.value,
        subject=text(command.subject),
        reason=text(command.reason),
        uid=command.uid,
        name=text(command.name),
    )


def from_command(message: pb.Command) -> Command:
    return Command(
        id=message.id,
        verb=Verb(message.verb),
        subject=message.subject,
        reason=message.reason,
        uid=message.uid,
        name=message.name,
    )
