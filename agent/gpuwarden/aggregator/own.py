"""The certificates that the aggregator makes for itself."""

import asyncio
from typing import Any

import grpc

from gpuwarden.adapters.pki.authority import Authority
from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, Credentials, write_credentials
from gpuwarden.clock import Clock
from gpuwarden.config_aggregator import AggregatorConfig
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.log import get_log
from gpuwarden.model.fleet import Identity, Role

RENEW_EVERY_S = 60.0


class Own:
    """The aggregator's own certificate, and one for root on this host; both renewed at half life."""

    def __init__(self, cfg: AggregatorConfig, authority: Authority, clock: Clock) -> None:
        self._cfg = cfg
        self._authority = authority
        self._clock = clock
        self.now: Credentials

    def renew(self) -> None:
        """Make both anew. ``Unavailable`` when root's cannot be written."""
        centre, wall = self._cfg.aggregator, self._clock.wall()
        self.now = self._authority.credentials(
            Identity(role=Role.AGGREGATOR, name="aggregator"),
            ttl_s=centre.certificate_s,
            wall=wall,
            names=(AGGREGATOR_NAME, *centre.names),
        )
        admin = self._authority.credentials(
            Identity(role=Role.ADMIN, name="root"), ttl_s=centre.certificate_s, wall=wall
        )
        try:
            write_credentials(centre.state_dir / "admin", admin)
        except OSError as error:
            raise Unavailable(f"{centre.state_dir}/admin: {error.strerror}") from error

    def configuration(self, *, is_mutual: bool) -> Any:
        roots = self.now.authorities_pem if is_mutual else None
        pair = (self.now.key_pem, self.now.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def serving(self, *, is_mutual: bool) -> grpc.ServerCredentials:
        """Credentials of a server that shows the newest certificate in every handshake."""
        served = self.now

        def fetch() -> Any:
            nonlocal served
            if self.now is served:
                return None
            served = self.now
            return self.configuration(is_mutual=is_mutual)

        return grpc.dynamic_ssl_server_credentials(
            self.configuration(is_mutual=is_mutual), fetch, is_mutual
        )

    async def keep(self) -> None:
        """For ever: renew in time."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if self.now.is_half_over(self._clock.wall()):
                try:
                    self.renew()
                except GpuwardenError as error:
                    get_log().error("renewal_failed", reason=str(error))
