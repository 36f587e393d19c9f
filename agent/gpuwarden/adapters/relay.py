"""The door of the node's socket: peer credentials first, then bytes to the inner gRPC server.

gRPC for Python does not tell who is at the other end of a unix socket, so one thread accepts, asks the
kernel, and shuttles bytes to the server's own socket, which lies where nobody else may go. Each inner
connection comes from an abstract name that only this thread uses, and gRPC does tell that name: it
stands for the peer in ``peer_named``.

Everything is bounded: connections, connections a user, buffers, idle time, the time a reader may leave
its data lying, and the rate at which anybody but an operator may send.
"""

import errno
import secrets
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.adapters.peers import Peer, Role, read_peer
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE
_ACCEPT_PAUSE_S = 0.2
"""After accept() ran out of descriptors: the listener stays readable and would spin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Bounds of the door. A short-lived command costs ``connect_cost_bytes`` plus about 500 bytes."""

    connections: int = 64
    connections_a_user: int = 16
    buffer_bytes: int = 32 * 1024
    idle_s: float = 120.0
    stall_s: float = 15.0
    viewer_bytes_a_second: float = 32 * 1024.0
    viewer_burst_bytes: float = 128 * 1024.0
    connect_cost_bytes: float = 4096.0


@dataclass(slots=True, eq=False)
class _Pipe:
    """One direction: what was read from ``source`` and not yet written to ``sink``."""

    source: socket.socket
    sink: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    is_shut: bool = False


@dataclass(slots=True, eq=False)
class _Link:
    """One reader's connection and its inner twin."""

    name: str
    peer: Peer
    inbound: _Pipe
    outbound: _Pipe
    moved_at: float

    @property
    def pipes(self) -> tuple[_Pipe, _Pipe]:
        return (self.inbound, self.outbound)


@dataclass(slots=True)
class _Purse:
    """What one user may still send."""

    left_bytes: float
    at: float


class Relay:
    """Accepts on ``listener`` (bound and listening) until ``stop``; its thread is a daemon."""

    def __init__(
        self,
        listener: socket.socket,
        inner_path: str,
        *,
        clock: Clock,
        operator_gids: tuple[int, ...] = (),
        limits: RelayLimits | None = None,
    ) -> None:
        self._listener = listener
        self._inner_path = inner_path
        self._clock = clock
        self._operator_gids = operator_gids
        self._limits = limits or RelayLimits()
        self._token = secrets.token_hex(16)
        self._peers: dict[str, Peer] = {}
        self._links: dict[socket.socket, _Link] = {}
        self._masks: dict[socket.socket, int] = {}
        self._purses: dict[int, _Purse] = {}
        self._counts: Counter[str] = Counter()
        self._number = 0
        self._deaf_until: float | None = None
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="gpuwarden-door", daemon=True)

    def start(self) -> None:
        self._listener.setblocking(False)
        self._selector.register(self._listener, _READ)
        self._selector.register(self._stop_read, _READ)
        self._thread.start()

    def stop(self) -> None:
        """Close the door and every connection; returns when the thread has ended."""
        self._stop_write.close()
        if self._thread.is_alive():
            self._thread.join()

    def peer_named(self, name: str) -> Peer | None:
        """Who is behind an inner connection's name; ``None`` for a name that is not ours."""
        return self._peers.get(name)

    def counts(self) -> Mapping[str, int]:
        """accepted, too_many, too_many_of_user, too_fast, idle, stalled, no_credentials, no_inner."""
        return dict(self._counts)

    def _run(self) -> None:
        running = True
        while running:
            ready = self._selector.select(self._patience_s())
            now = self._clock.now()
            for key, mask in ready:
                if key.fileobj is self._stop_read:
                    running = False
                elif key.fileobj is self._listener:
                    self._accept(now)
                elif isinstance(key.fileobj, socket.socket):
                    self._serve(key.fileobj, mask, now)
            self._sweep(now)
        for link in self._all_links():
            self._drop(link)
        self._selector.close()
        self._stop_read.close()
        self._listener.close()

    def _patience_s(self) -> float | None:
        if self._deaf_until is not None or self._is_anybody_poor():
            return 0.1
        return 1.0 if self._links else None

    def _all_links(self) -> list[_Link]:
        return [link for side, link in self._links.items() if side is link.inbound.source]

    def _is_anybody_poor(self) -> bool:
        return any(purse.left_bytes < 1 for purse in self._purses.values())

    def _accept(self, now: float) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._counts["accept_failed"] += 1
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._selector.unregister(self._listener)
                self._deaf_until = now + _ACCEPT_PAUSE_S
            return
        if not self._admit(client, now):
            client.close()

    def _admit(self, client: socket.socket, now: float) -> bool:
        try:
            peer = read_peer(client, self._operator_gids)
        except Unavailable:
            return self._refuse("no_credentials")
        links = self._all_links()
        mine = sum(link.peer.uid == peer.uid for link in links)
        if len(links) >= self._limits.connections:
            return self._refuse("too_many")
        if peer.role is Role.VIEWER and mine >= self._limits.connections_a_user:
            return self._refuse("too_many_of_user")
        purse = self._purse(peer, now)
        if purse is not None:
            if purse.left_bytes < self._limits.connect_cost_bytes:
                return self._refuse("too_fast")
            purse.left_bytes -= self._limits.connect_cost_bytes
        self._number += 1
        name = f"gpuwarden-{self._token}-{self._number}"
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            inner.bind(f"\0{name}")
            inner.connect(self._inner_path)
        except OSError:
            inner.close()
            return self._refuse("no_inner")
        client.setblocking(False)
        link = _Link(
            name=name,
            peer=peer,
            inbound=_Pipe(source=client, sink=inner),
            outbound=_Pipe(source=inner, sink=client),
            moved_at=now,
        )
        self._peers[name] = peer
        self._links[client] = self._links[inner] = link
        self._counts["accepted"] += 1
        self._watch(link, now)
        return True

    def _refuse(self, reason: str) -> bool:
        self._counts[reason] += 1
        return False

    def _serve(self, side: socket.socket, mask: int, now: float) -> None:
        link = self._links.get(side)
        if link is None:
            return  # dropped by an earlier event of this round
        try:
            for pipe in link.pipes:
                if mask & _READ and pipe.source is side:
                    self._fill(link, pipe, now)
                if mask & _WRITE and pipe.sink is side:
                    self._drain(link, pipe, now)
        except OSError:
            self._drop(link)
            return
        if all(pipe.is_shut for pipe in link.pipes):
            self._drop(link)
        else:
            self._watch(link, now)

    def _fill(self, link: _Link, pipe: _Pipe, now: float) -> None:
        room = self._limits.buffer_bytes - len(pipe.buffer)
        if room <= 0 or pipe.is_ended:
            return
        try:
            data = pipe.source.recv(room)
        except BlockingIOError:
            return
        if pipe is link.inbound and (purse := self._purse(link.peer, now)) is not None:
            purse.left_bytes -= len(data)
        pipe.is_ended = not data
        pipe.buffer += data
        link.moved_at = now
        self._drain(link, pipe, now)

    def _drain(self, link: _Link, pipe: _Pipe, now: float) -> None:
        if pipe.buffer:
            try:
                sent = pipe.sink.send(pipe.buffer)
            except BlockingIOError:
                return
            del pipe.buffer[:sent]
            link.moved_at = now
        if pipe.is_ended and not pipe.buffer and not pipe.is_shut:
            pipe.is_shut = True
            pipe.sink.shutdown(socket.SHUT_WR)

    def _watch(self, link: _Link, now: float) -> None:
        """Ask for exactly what can go on: reading with room left, writing with data left."""
        purse = self._purse(link.peer, now)
        is_poor = purse is not None and purse.left_bytes < 1
        for side in (link.inbound.source, link.outbound.source):
            mask = 0
            for pipe in link.pipes:
                has_room = len(pipe.buffer) < self._limits.buffer_bytes and not pipe.is_ended
                may_send = pipe is link.outbound or not is_poor
                if pipe.source is side and has_room and may_send:
                    mask |= _READ
                if pipe.sink is side and pipe.buffer:
                    mask |= _WRITE
            self._set_mask(side, mask)

    def _set_mask(self, side: socket.socket, mask: int) -> None:
        old = self._masks.get(side, 0)
        if mask == old:
            return
        if not old:
            self._selector.register(side, mask)
        elif not mask:
            self._selector.unregister(side)
        else:
            self._selector.modify(side, mask)
        self._masks[side] = mask

    def _purse(self, peer: Peer, now: float) -> _Purse | None:
        """What the user may still send, as of now; ``None`` for an operator, who always may."""
        if peer.role is Role.OPERATOR:
            return None
        full = self._limits.viewer_burst_bytes
        purse = self._purses.setdefault(peer.uid, _Purse(left_bytes=full, at=now))
        earned = (now - purse.at) * self._limits.viewer_bytes_a_second
        purse.left_bytes, purse.at = min(full, purse.left_bytes + earned), now
        return purse

    def _sweep(self, now: float) -> None:
        if self._deaf_until is not None and now >= self._deaf_until:
            self._deaf_until = None
            self._selector.register(self._listener, _READ)
        was_poor = self._is_anybody_poor()
        for link in self._all_links():
            quiet_s = now - link.moved_at
            if any(pipe.buffer for pipe in link.pipes) and quiet_s > self._limits.stall_s:
                self._counts["stalled"] += 1
                self._drop(link)
            elif quiet_s > self._limits.idle_s:
                self._counts["idle"] += 1
                self._drop(link)
            elif was_poor:
                self._watch(link, now)
        refill_s = self._limits.viewer_burst_bytes / self._limits.viewer_bytes_a_second
        present = {link.peer.uid for link in self._links.values()}
        for uid in [uid for uid, purse in self._purses.items() if uid not in present]:
            purse = self._purses[uid]
            if now - purse.at > refill_s:
                del self._purses[uid]  # full again: nothing to remember

    def _drop(self, link: _Link) -> None:
        for side in (link.inbound.source, link.outbound.source):
            self._set_mask(side, 0)
            self._masks.pop(side, None)
            self._links.pop(side, None)
            side.close()
        self._peers.pop(link.name, None)
