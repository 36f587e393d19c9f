"""Serves the metrics page of the newest view: the page and the small HTTP server, put together."""

from collections.abc import Mapping

from gpuwarden.adapters.metrics import MetricsPage
from gpuwarden.adapters.metrics_http import HttpLimits, HttpServer
from gpuwarden.adapters.metrics_page import PageOptions
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock


class MetricsServer:
    """GET /metrics and /healthz on ``address`` from ``start`` to ``stop``."""

    def __init__(
        self,
        address: str,
        source: ViewSource,
        *,
        clock: Clock,
        options: PageOptions | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        """Bind; ``Unavailable`` with what to do when the address cannot be had."""
        self._page = MetricsPage(source, clock=clock, options=options)
        self._server = HttpServer(address, self._page, clock=clock, limits=limits)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def counts(self) -> Mapping[str, int]:
        """Requests by what became of them, and pages built."""
        return {**self._server.counts(), **self._page.counts()}
