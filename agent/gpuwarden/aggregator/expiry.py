"""Looks now and then whose certificates run out; a part of wiring."""

import asyncio
from collections.abc import Callable

from cryptography import x509

from gpuwarden.aggregator.store import Store
from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError
from gpuwarden.log import get_log
from gpuwarden.model.fleet import FleetClaim
from gpuwarden.policy.fleet import certificates

LOOK_EVERY_S = 30.0


class Expiry:
    """``claims`` is for any thread; ``keep`` lives as long as the aggregator."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        lasts_s: float,
        root_der: bytes,
        is_denied: Callable[[str], str | None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._lasts_s = lasts_s
        root = x509.load_der_x509_certificate(root_der)
        self._root_ends = root.not_valid_after_utc.timestamp()
        self._is_denied = is_denied
        self._claims: tuple[FleetClaim, ...] = ()

    def claims(self) -> tuple[FleetClaim, ...]:
        return self._claims

    async def look(self) -> None:
        ends = await asyncio.to_thread(self._store.certificates_end)
        kept = {node: end for node, end in ends.items() if not self._is_denied(node)}
        self._claims = certificates.claims(kept, self._lasts_s, self._root_ends, self._clock.wall())

    async def keep(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look()
            except GpuwardenError as error:
                get_log().error("certificates_unread", reason=str(error))
            await asyncio.sleep(LOOK_EVERY_S)
