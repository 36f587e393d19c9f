"""Who is at the other end of a unix socket, as the kernel tells; and whether they may act."""

import os
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

from gpuwarden.errors import Unavailable

_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13; not named by the socket module
_GROUPS_MAX_BYTES = 1024  # the most that socket.getsockopt takes
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class Role(StrEnum):
    """What somebody may do: a viewer reads, an operator also acts."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process that connected, at the time when it connected. ``pid`` is for logs only."""

    uid: int
    gid: int
    pid: int
    role: Role


def read_peer(connection: socket.socket, operator_gids: tuple[int, ...]) -> Peer:
    """Credentials of a connected unix socket's other end; ``Unavailable`` when they cannot be had.

    Operators are root, the agent's own user and members of ``operator_gids`` (supplementary groups
    count where the kernel tells them).
    """
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError as error:
        raise Unavailable(f"peer credentials: {error.strerror}") from error
    pid, uid, gid = _UCRED.unpack(raw)
    groups = {gid, *_supplementary(connection)}
    may_act = uid in (0, os.geteuid()) or not groups.isdisjoint(operator_gids)
    return Peer(uid=uid, gid=gid, pid=pid, role=Role.OPERATOR if may_act else Role.VIEWER)


def _supplementary(connection: socket.socket) -> tuple[int, ...]:
    """None told (old kernel, more than 256 groups) leaves the primary group alone to decide."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX_BYTES)
    except OSError:
        return ()
    return tuple(gid for (gid,) in struct.iter_unpack("I", raw))
