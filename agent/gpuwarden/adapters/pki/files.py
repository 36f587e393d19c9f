"""A node's own certificate on disk, and the child that renews it: the agent itself loads no cryptography."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from gpuwarden import interpreter
from gpuwarden.adapters.pki.names import Credentials, read_credentials
from gpuwarden.errors import Unavailable
from gpuwarden.log import get_log

LOOK_EVERY_S = 60.0
RENEW_S = 60.0


class OwnCertificate:
    """Read it, see that it is renewed at half its life, and serve under the newest."""

    def __init__(
        self, folder: Path, aggregators: Sequence[str], renew: Sequence[str] | None = None
    ) -> None:
        """``renew``: the command that renews; by default this very program's. It is given the aggregators one
        after the other, until one does it."""
        self._folder = folder
        usual = interpreter.own("-m", "gpuwarden", "enroll", "--renew")
        self._renew = (*(renew or usual), "--dir", str(folder), "--aggregator")
        self._aggregators = tuple(aggregators)
        self._lock = threading.Lock()
        self._newest = read_credentials(folder)
        self._looked_wall = 0.0
        self._child: subprocess.Popen[bytes] | None = None
        self._begun_wall = 0.0
        self.name = self._newest.identity.name
        self.domain = self._newest.domain
        self.renewals = 0
        self.failures = 0

    def read(self) -> Credentials:
        """The newest; ``Unavailable`` where it cannot be read or is another node's."""
        fresh = read_credentials(self._folder)
        if fresh.identity.name != self.name:
            raise Unavailable(f"{self._folder}: the identity has changed; restart the agent")
        with self._lock:
            self._newest = fresh
        return fresh

    def is_newer_than(self, used: Credentials) -> bool:
        with self._lock:
            return self._newest.certificate_pem != used.certificate_pem

    def look_after(self, wall: float) -> None:
        """Now and then: have it renewed when its half life is over. Never blocks."""
        if self._child is not None:
            self._follow(wall)
        elif abs(wall - self._looked_wall) >= LOOK_EVERY_S:
            self._looked_wall = wall
            if self._newest.is_half_over(wall):
                self._begin(wall)

    def _begin(self, wall: float) -> None:
        self._begun_wall = wall
        try:
            self._child = subprocess.Popen(
                (*self._renew, self._aggregators[self.failures % len(self._aggregators)]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self.failures += 1
            get_log().error("renewal_failed", reason=str(error))

    def _follow(self, wall: float) -> None:
        child = self._child
        assert child is not None
        status = child.poll()
        if status is None and abs(wall - self._begun_wall) < RENEW_S:
            return
        if status is None:
            child.kill()
            status = child.wait()
        self._child = None
        if status != 0:
            self.failures += 1
            get_log().error("renewal_failed", status=status)
            return
        self.renewals += 1
        try:
            self.read()
        except Unavailable as error:
            get_log().error("renewal_failed", reason=str(error))

    def complaints(self, wall: float) -> list[str]:
        """What an operator should know of it."""
        with self._lock:
            own = self._newest
        left_s = own.not_after_wall - wall
        if left_s <= 0:
            return [
                "the node's certificate has run out; fix: gpuwarden enroll, with a new invitation"
            ]
        if left_s < (own.not_after_wall - own.not_before_wall) / 4:
            return [f"the node's certificate runs out in {left_s:.0f} s and was not renewed"]
        return []

    def serving(self) -> grpc.ServerCredentials:
        """Mutual TLS under the newest certificate, in every handshake."""
        with self._lock:
            served = self._newest

        def configuration(own: Credentials) -> Any:
            pair = (own.key_pem, own.certificate_pem)
            return grpc.ssl_server_certificate_configuration([pair], own.authorities_pem)

        def fetch() -> Any:
            nonlocal served
            with self._lock:
                newest = self._newest
            if newest is served:
                return None
            served = newest
            return configuration(newest)

        return grpc.dynamic_ssl_server_credentials(configuration(served), fetch, True)
