"""Pages of the servers that are met most, in the form their documentation shows; and pages nobody should serve."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from gpuwarden.adapters.objective_page import reader_of
from gpuwarden.adapters.service_page import LINES_MAX, PageReader, PageReading
from gpuwarden.adapters.service_series import PageSeries
from gpuwarden.config_services import ServiceConfig
from gpuwarden.evaluate.fast import histogram as histograms
from gpuwarden.evaluate.fast.histogram import Cumulative
from gpuwarden.model.evaluation import Missing, Window

PAGES = Path(__file__).parents[1] / "data" / "pages"
INF = math.inf


def page(name: str) -> str:
    return (PAGES / f"{name}.prom").read_text()


def read(name: str) -> PageReading:
    reading = PageReader().read(page(name), 10.0)
    assert not reading.faults
    return reading


@pytest.mark.parametrize(
    ("name", "counts", "levels", "spreads"),
    [
        (
            "vllm",
            {"requests": 1000, "errors": 3, "tokens": 98765},
            {"in_flight": 7, "queue_length": 2, "cache_usage": 0.42},
            {"latency_s": (1000, 842.5), "first_token_s": (1000, 842.5), "queue_s": (1000, 842.5)},
        ),
        (
            "tgi",
            {"requests": 150, "errors": 2, "tokens": 9120},
            {"in_flight": 5, "queue_length": 3},
            {"latency_s": (150, 22.5), "queue_s": (150, 1.5)},
        ),
        (
            "triton",
            {"requests": 1206, "errors": 6},
            {"queue_length": 3},
            {"latency_s": (1200, 96.0), "queue_s": (1200, 6.0), "first_token_s": (1200, 91.0)},
        ),
        (
            "torchserve",
            {"requests": 24, "errors": 2},
            {},
            {"latency_s": (24, 0.591362951), "queue_s": (24, 0.010568458)},
        ),
        (
            "bentoml",
            {"requests": 100, "errors": 3},
            {"in_flight": 4},
            {"latency_s": (100, 17.0)},
        ),
        (
            "plain",
            {"requests": 1000, "errors": 30},
            {"in_flight": 12},
            {"latency_s": (980, 241.0)},
        ),
    ],
)
def test_a_known_servers_page_is_understood(
    name: str,
    counts: dict[str, float],
    levels: dict[str, float],
    spreads: dict[str, tuple[float, float]],
) -> None:
    reading = read(name)
    assert reading.family == name
    assert dict(reading.counts) == counts
    assert dict(reading.levels) == levels
    assert {n: each.count for n, each in reading.spreads.items()} == {
        n: count for n, (count, _) in spreads.items()
    }
    for series, (_, total) in spreads.items():
        assert reading.spreads[series].total == pytest.approx(total)


def test_vllms_own_numbers_are_taken_and_not_those_of_its_web_server() -> None:
    reading = read("vllm")
    assert reading.spreads["latency_s"].bounds[0] == 0.3
    assert reading.start == pytest.approx(1.76403922218e09)


def test_milliseconds_are_scaled() -> None:
    assert read("triton").spreads["first_token_s"].bounds == (0.1, 0.5, 2.0, 5.0, INF)


def test_a_mean_is_all_there_is_without_buckets() -> None:
    spread = read("torchserve").spreads["latency_s"]
    later = Cumulative(bounds=spread.bounds, counts=(34.0,), total=spread.total)
    grown = histograms.between(spread, later)
    assert not isinstance(grown, histograms.Break)
    assert histograms.quantile(grown, 0.99) is None


def test_a_page_of_the_usual_library() -> None:
    registry = CollectorRegistry()
    latency = Histogram(
        "http_request_duration_seconds", "d", ["path"], registry=registry, buckets=(0.1, 1)
    )
    for path, seconds in (("/a", 0.05), ("/b", 0.5), ("/b", 5), ("/metrics", 0.01)):
        latency.labels(path).observe(seconds)
    Gauge("http_requests_inprogress", "g", registry=registry).set(2)
    Gauge("other", "x" * 1000, registry=registry).set(1)
    reading = PageReader().read(generate_latest(registry).decode(), 7.0)
    spread = reading.spreads["latency_s"]
    assert (spread.bounds, spread.counts) == ((0.1, 1.0, INF), (1, 2, 3))
    assert reading.levels == {"in_flight": 2}
    assert reading.counts == {"requests": 3, "errors": 0}


OVERLOADED = """
http_request_duration_seconds_bucket{le="0.3"} 40
http_request_duration_seconds_bucket{le="+Inf"} 50
http_request_duration_seconds_sum 30
http_request_duration_seconds_count 50
http_requests_total{code="200"} 40
http_requests_total{code="500"} 0
http_requests_total{code="503"} 100
http_requests_total{code="504"} 10
"""


@pytest.mark.parametrize("is_reversed", [False, True])
def test_errors_are_a_part_of_the_requests_they_are_counted_with(is_reversed: bool) -> None:
    """A histogram leaves out who was turned away; which of the two stands first on the page decides nothing."""
    lines = OVERLOADED.strip().split("\n")
    page = "\n".join(reversed(lines) if is_reversed else lines)
    counts = PageReader().read(page, 1.0).counts
    assert (counts["requests"], counts["errors"]) == (150.0, 110.0)


def test_a_counter_of_nothing_but_the_pages_own_scrapes_counts_no_requests() -> None:
    page = 'http_requests_total{handler="/metrics"} 9\nhttp_request_duration_seconds_count 7\n'
    assert PageReader().read(page, 1.0).counts["requests"] == 7.0


def test_the_file_maps_what_is_called_otherwise() -> None:
    cfg = ServiceConfig(
        name="risk",
        url="http://127.0.0.1:1/metrics",
        histogram="my_seconds",
        series=(  # type: ignore[arg-type]
            {"name": "errors", "metric": "my_total", "labels": {"outcome": "fail*"}},
            {"name": "requests", "metric": "my_total"},
            {"name": "custom.temperature", "metric": "my_temp", "kind": "level", "scale": 0.1},
        ),
    )
    text = (
        'my_seconds_bucket{le="1"} 4\nmy_seconds_bucket{le="+Inf"} 5\nmy_seconds_sum 2.5\n'
        'my_total{outcome="ok"} 3\nmy_total{outcome="failed"} 2\nmy_temp 410\n'
        'http_requests_total{code="200"} 77\n'
    )
    reading = reader_of(cfg).read(text, 1.0)
    assert reading.counts == {"requests": 5, "errors": 2}
    assert reading.levels == {"custom.temperature": 41.0}
    assert reading.spreads["latency_s"].counts == (4, 5)


@pytest.mark.parametrize(
    "text",
    [
        'h_bucket{le="x"} 1',
        'h_bucket{le="1"} nan',
        'h_bucket{le="1"} -5',
        'h_bucket{le="1"} +Inf',
        'h_bucket{le="nan"} 1',
        'h_bucket{le="1" 5',
        "h_bucket{",
        'h_bucket{le="1"}',
        'h_bucket{le="1"} 1e300',
        'h_bucket{le="1"} 5\nh_bucket{le="+Inf"} 4',
        'h_bucket{le="1"} 5',
        "h_bucket 5",
    ],
)
def test_what_is_no_histogram_costs_its_series_and_nothing_else(text: str) -> None:
    cfg = ServiceConfig(name="s", url="http://127.0.0.1:1/", histogram="h")
    reading = reader_of(cfg).read(f'{text}\nhttp_requests_total{{code="500"}} 3\n', 0.0)
    assert "latency_s" in reading.faults
    assert "latency_s" not in reading.spreads
    assert reading.counts == {"requests": 3, "errors": 3}


def test_a_page_with_more_lines_than_any_service_has_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 2000 lines"):
        PageReader().read('http_requests_total{code="1"} 1\n' * (LINES_MAX + 1), 0.0)


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_no_page_raises_anything_else(text: str) -> None:
    for each in (
        text,
        f"http_requests_total{text}",
        f'tgi_request_duration_bucket{{le="{text}"}} 1',
    ):
        try:
            PageReader().read(each, 0.0)
        except ValueError:
            continue


def between(first: str, second: str) -> Window:
    series, reader = PageSeries("risk"), PageReader()
    assert series.look(reader.read(first, 100.0)) is None
    window = series.look(reader.read(second, 102.0))
    assert window is not None
    return window


def requests(count: int, extra: str = "") -> str:
    return f'http_requests_total{{code="200"}} {count}\n{extra}'


def test_what_came_between_two_looks() -> None:
    window = between(requests(10), requests(25, 'http_requests_total{code="500"} 2\n'))
    assert (window.begin_wall, window.length_s) == (100.0, 2.0)
    assert window.counts == {"requests": 17, "errors": 2}


def test_a_reset_is_said_and_never_a_negative_count() -> None:
    window = between(requests(1000), requests(3))
    assert window.counts == {}
    assert {(lack.series, lack.why) for lack in window.lacks} == {
        ("requests", Missing.UNREADABLE),
        ("errors", Missing.UNREADABLE),
    }


def test_other_buckets_are_said() -> None:
    def spread(*bounds: str) -> str:
        return "".join(f'http_request_duration_seconds_bucket{{le="{b}"}} 5\n' for b in bounds)

    window = between(spread("1", "+Inf"), spread("1", "2", "+Inf"))
    assert not window.histograms
    assert [(lack.series, lack.detail) for lack in window.lacks] == [
        ("latency_s", "changed-buckets")
    ]


def test_a_new_process_counts_as_a_restart() -> None:
    window = between(
        requests(5, "process_start_time_seconds 1000\n"),
        requests(9, "process_start_time_seconds 2000\n"),
    )
    assert window.counts["restarts"] == 1.0


def test_after_a_pause_nothing_is_said_of_it() -> None:
    series, reader = PageSeries("risk"), PageReader()
    series.look(reader.read(requests(1), 100.0))
    assert series.look(reader.read(requests(1_000_000), 1000.0)) is None
    series.miss()
    assert series.look(reader.read(requests(1_000_010), 1001.0)) is None
