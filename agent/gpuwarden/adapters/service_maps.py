"""Which line of a service's Prometheus page is which series: of the servers that are met most.

Names and units as the servers' own documentation has them: vLLM (usage/metrics), Triton (user guide, metrics),
TGI (reference/metrics), TorchServe (metrics API), BentoML (observability, metrics), and what instrumentation
of plain HTTP servers agrees on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Where = tuple[tuple[str, tuple[str, ...]], ...]
"""Labels and the shell patterns of which one must match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where a series stands: a metric (of a histogram its family's name), or a sum and a count of their own."""

    series: str
    metric: str
    scale: float = 1.0
    """Times this it has the series' unit."""
    where: Where = ()
    count: str = ""
    """Where there are no buckets: ``metric`` is the sum of the values and this their number; only a mean follows."""
    is_first: bool = False
    """Of several lines of one series only the first that is there counts (a metric that was renamed)."""


FAILED = ("5??", "5xx")
CODES = ("status", "code", "status_code", "http_status", "http_response_code")

FAMILIES: Mapping[str, tuple[Line, ...]] = {
    "vllm": (
        Line(series="latency_s", metric="vllm:e2e_request_latency_seconds"),
        Line(series="first_token_s", metric="vllm:time_to_first_token_seconds"),
        Line(series="queue_s", metric="vllm:request_queue_time_seconds"),
        Line(series="requests", metric="vllm:request_success_total"),
        Line(
            series="errors",
            metric="vllm:request_success_total",
            where=(("finished_reason", ("error",)),),
        ),
        Line(series="tokens", metric="vllm:generation_tokens_total"),
        Line(series="in_flight", metric="vllm:num_requests_running"),
        Line(series="queue_length", metric="vllm:num_requests_waiting"),
        Line(series="cache_usage", metric="vllm:kv_cache_usage_perc", is_first=True),
        Line(series="cache_usage", metric="vllm:gpu_cache_usage_perc", is_first=True),
    ),
    "tgi": (
        Line(series="latency_s", metric="tgi_request_duration"),
        Line(series="queue_s", metric="tgi_request_queue_duration"),
        Line(series="requests", metric="tgi_request_count"),
        Line(series="errors", metric="tgi_request_failure"),
        Line(series="tokens", metric="tgi_request_generated_tokens_sum"),
        Line(series="in_flight", metric="tgi_batch_current_size"),
        Line(series="queue_length", metric="tgi_queue_size"),
    ),
    "triton": (
        Line(
            series="latency_s",
            metric="nv_inference_request_duration_us",
            scale=1e-6,
            count="nv_inference_request_success",
        ),
        Line(
            series="queue_s",
            metric="nv_inference_queue_duration_us",
            scale=1e-6,
            count="nv_inference_request_success",
        ),
        Line(series="first_token_s", metric="nv_inference_first_response_histogram_ms", scale=1e-3),
        Line(series="requests", metric="nv_inference_request_success"),
        Line(series="requests", metric="nv_inference_request_failure"),
        Line(series="errors", metric="nv_inference_request_failure"),
        Line(series="queue_length", metric="nv_inference_pending_request_count"),
    ),
    "torchserve": (
        Line(
            series="latency_s",
            metric="ts_inference_latency_microseconds",
            scale=1e-6,
            count="ts_inference_requests_total",
        ),
        Line(
            series="queue_s",
            metric="ts_queue_latency_microseconds",
            scale=1e-6,
            count="ts_inference_requests_total",
        ),
        Line(series="requests", metric="ts_inference_requests_total"),
        Line(series="errors", metric="Requests5XX"),
    ),
    "bentoml": tuple(
        line
        for prefix in ("bentoml_service", "bentoml_api_server")  # since 1.2; before
        for line in (
            Line(series="latency_s", metric=f"{prefix}_request_duration_seconds"),
            Line(series="requests", metric=f"{prefix}_request_total"),
            Line(
                series="errors",
                metric=f"{prefix}_request_total",
                where=(("http_response_code", FAILED),),
            ),
            Line(series="in_flight", metric=f"{prefix}_request_in_progress"),
        )
    ),
    "plain": (
        Line(series="latency_s", metric="http_request_duration_seconds", is_first=True),
        Line(series="latency_s", metric="http_server_request_duration_seconds", is_first=True),
        Line(series="requests", metric="http_requests_total", is_first=True),
        Line(series="requests", metric="http_request_duration_seconds_count", is_first=True),
        Line(series="requests", metric="http_server_request_duration_seconds_count", is_first=True),
        *(
            Line(series="errors", metric=metric, where=((code, FAILED),))
            for metric in ("http_requests_total",)
            for code in CODES
        ),
        Line(series="queue_length", metric="http_requests_queued"),
    ),
}
"""By server, those whose names are theirs alone first: vLLM's page has plain HTTP metrics besides."""

IN_FLIGHT_ENDS = ("in_flight", "inprogress", "in_progress", "requests_running", "queue_size")
"""Ends of the names under which services tell how many requests they have begun and not finished."""
NOT_SERVED = ("/metrics", "/health*", "/ready*", "/live*", "/ping")
"""Paths of plain servers that are no work."""
PATHS = ("handler", "path", "endpoint", "route", "http_route")
START = "process_start_time_seconds"
