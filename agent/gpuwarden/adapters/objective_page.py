"""The metrics page of a service with an objective: read several times a second, judged, and passed on."""

from gpuwarden.adapters.objective import Objective
from gpuwarden.adapters.scrape import Scrape
from gpuwarden.adapters.service_maps import Line
from gpuwarden.adapters.service_page import PageReader
from gpuwarden.adapters.service_series import PageSeries
from gpuwarden.config_services import PLAIN_HISTOGRAM, ServiceConfig
from gpuwarden.errors import Unavailable
from gpuwarden.evaluate.fast.series import Kind
from gpuwarden.ports_evaluation import WindowDesk

TIMEOUT_S = 1.0
EVERY_MIN_S = 0.05
_LATENCY = "latency_s"


def reader_of(cfg: ServiceConfig) -> PageReader:
    """What reads its page: the file's own lines first, then those of known servers."""
    lines = [
        Line(
            series=each.name,
            metric=each.metric,
            scale=each.scale,
            where=tuple((name, (pattern,)) for name, pattern in each.labels.items()),
        )
        for each in cfg.series
    ]
    if cfg.histogram != PLAIN_HISTOGRAM:
        lines.insert(0, Line(series=_LATENCY, metric=cfg.histogram))
    kinds = {each.name: Kind(each.kind) for each in cfg.series if each.kind is not None}
    return PageReader(lines, kinds)


class ObjectivePage:
    """Implements ``services.Asked``."""

    timeout_s = TIMEOUT_S

    def __init__(self, cfg: ServiceConfig, now: float) -> None:
        assert cfg.url is not None
        self.objective = Objective(cfg, now)
        self.every_s = max(cfg.every_s, EVERY_MIN_S)
        self.desk: WindowDesk | None = None
        self._url = cfg.url
        self._reader = reader_of(cfg)
        self._series = PageSeries(cfg.name)

    def begin(self, deadline: float) -> Scrape:
        return Scrape(self._url, deadline)

    def answered(self, page: str, at: float) -> bool:
        cfg = self.objective.cfg
        reading = self._reader.read(page, at)
        if (fault := reading.faults.get(_LATENCY)) is not None:
            raise ValueError(fault)
        if _LATENCY not in reading.spreads:
            raise Unavailable(f"no histogram {cfg.histogram} on its page")
        window = self._series.look(reading)
        if window is None:
            return self.objective.begin(at)
        is_news = self.objective.read(window)
        if self.desk is not None:
            self.desk.page(cfg.name, window, self.objective.verdict)
        return is_news

    def missed(self, why: str, at: float) -> bool:
        self._series.miss()
        if self.desk is not None:
            self.desk.unread(self.objective.cfg.name, why)
        return self.objective.miss(at)
