"""The metrics page as readers fetch it: built at most once a second, whatever the number of scrapers."""

import gzip
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.adapters.exposition import Remembered
from gpuwarden.adapters.metrics_page import STALE_AFTER_S, PageOptions, render
from gpuwarden.adapters.view_source import ViewSource
from gpuwarden.clock import Clock
from gpuwarden.errors import Unavailable

PAGE_AGE_S = 1.0
"""How old a page may be when it is handed out; its ages are then wrong by no more than this."""
_GZIP_LEVEL = 1  # of a page of a few hundred kB: a tenth of the size for 2 ms; 6 takes 8 ms


@dataclass(frozen=True, slots=True)
class _Built:
    at: float
    page: bytes
    packed: bytes | None = None


class MetricsPage:
    """Hands out the page of the newest view. Nothing is built while nobody asks."""

    def __init__(
        self, source: ViewSource, *, clock: Clock, options: PageOptions | None = None
    ) -> None:
        self._source = source
        self._clock = clock
        self._options = options or PageOptions()
        self._lock = threading.Lock()
        self._built: _Built | None = None
        self._remembered = Remembered()
        self._builds = 0

    def page(self, *, is_packed: bool = False) -> bytes:
        """The page, gzip when asked; ``Unavailable`` before the first tick."""
        with self._lock:
            now = self._clock.now()
            built = self._built
            if built is None or now - built.at >= PAGE_AGE_S:
                page = render(
                    self._source.view(),
                    now=now,
                    options=self._options,
                    remembered=self._remembered,
                )
                built = self._built = _Built(at=now, page=page)
                self._builds += 1
            if not is_packed:
                return built.page
            if built.packed is None:
                packed = gzip.compress(built.page, _GZIP_LEVEL)
                built = self._built = _Built(at=built.at, page=built.page, packed=packed)
            return built.packed or b""

    def health(self) -> str:
        """``ok``; ``Unavailable`` when no tick has finished lately, with since when."""
        age_s = self._clock.now() - self._source.view().at
        if age_s > STALE_AFTER_S:
            raise Unavailable(f"no tick has finished for {age_s:.0f} s")
        return "ok"

    def ready(self, name: str) -> tuple[bool, bytes] | None:
        """Whether the instance of that name is fit, and one line of JSON that says why not; ``None``: nobody
        is called so."""
        found = self._source.fitness(name, self._clock.now())
        if found is None:
            return None
        said = {
            "name": found.name,
            "ready": found.is_fit,
            "service": found.service or None,
            "tenant": found.tenant,
            "reasons": found.reasons,
        }
        return found.is_fit, json.dumps(said).encode("ascii") + b"\n"

    def counts(self) -> Mapping[str, int]:
        """How many pages were built."""
        return {"built": self._builds}
