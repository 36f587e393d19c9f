"""Totals and own cost: the keys of ``View.counters`` and ``View.durations`` and their metrics.

A counter's label values stand in its second key, joined by ``/`` in the order of ``labels``; the last one
takes the rest. A key that is in no table is still exported, under ``other``: nothing is lost silently.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One counter. ``kind`` gauge: a Unix time or the like, kept beside the counters."""

    metric: str
    help: str
    labels: tuple[str, ...] = ()
    kind: str = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One number of the agent's own cost."""

    metric: str
    help: str
    kind: str = "gauge"


TOTALS: Mapping[str, Total] = {
    "ticks": Total(metric="ticks_total", help="Passes of observe, decide, act."),
    "findings": Total(metric="findings_total", help="Findings begun, by rule.", labels=("rule",)),
    "withheld": Total(
        metric="withheld_total",
        help="Actions not taken, by the budget or mode that stopped them.",
        labels=("budget",),
    ),
    "actions": Total(
        metric="actions_total", help="Actions by kind and result.", labels=("kind", "result")
    ),
    "gaps": Total(
        metric="gaps_total",
        help="Ticks in which something could not be seen, by source and reason.",
        labels=("source", "kind"),
    ),
    "incidents": Total(
        metric="incidents_total", help="Incidents opened and closed.", labels=("event",)
    ),
    "fleet": Total(
        metric="fleet_events_total",
        help="The connection to the aggregator: connects, failures, permits, renewals and the like.",
        labels=("event",),
    ),
    "driver_events": Total(
        metric="driver_events_total",
        help="Events the driver reported, by kind and code.",
        labels=("kind", "code"),
    ),
    "xid_events": Total(
        metric="gpu_xid_events_total", help="Xid errors by device.", labels=("uuid", "xid")
    ),
    "xid_last_wall_s": Total(
        metric="gpu_xid_last_timestamp_seconds",
        help="When an Xid was last seen.",
        labels=("uuid", "xid"),
        kind="gauge",
    ),
    "errors": Total(
        metric="port_errors_total",
        help="Unexpected errors caught where a port is called.",
        labels=("port",),
    ),
    "dropped": Total(
        metric="dropped_total", help="What a full queue dropped, by queue.", labels=("queue",)
    ),
    "notices": Total(
        metric="notices_total",
        help="Messages to people by sink, reason and what became of them.",
        labels=("sink", "reason", "result"),
    ),
    "config_reloads": Total(
        metric="config_reloads_total", help="Reloads by result.", labels=("result",)
    ),
    "api": Total(
        metric="api_connections_total",
        help="Connections to the node's socket, by what became of them.",
        labels=("event",),
    ),
    "metrics": Total(
        metric="metrics_requests_total",
        help="Requests to the metrics page, by what became of them.",
        labels=("event",),
    ),
    "kernel_log_records": Total(
        metric="kernel_log_records_total", help="Records of the kernel log that were read."
    ),
    "kernel_log_bytes": Total(
        metric="kernel_log_bytes_total", help="Bytes of the kernel log that were read."
    ),
    "kernel_log_kept": Total(
        metric="kernel_log_kept_total",
        help="Records that are the driver's, or the kernel's about a task, and were handed on.",
    ),
    "kernel_log_urgent": Total(
        metric="kernel_log_urgent_total", help="Those of them that may name a fault."
    ),
    "kernel_log_lost": Total(
        metric="kernel_log_lost_total",
        help="Records that were overwritten before they could be read.",
    ),
    "kernel_log_overruns": Total(
        metric="kernel_log_overruns_total",
        help="Reads that failed because records had been overwritten (EPIPE).",
    ),
    "kernel_log_forgeries": Total(
        metric="kernel_log_forgeries_total",
        help="Lines that pretend to be the driver's and are not the kernel's.",
    ),
    "kernel_log_garbage": Total(
        metric="kernel_log_garbage_total",
        help="What was read and is no record, and resumed places that were not there.",
    ),
    "kernel_log_cut": Total(
        metric="kernel_log_cut_total", help="Lines too long to be handed on whole."
    ),
    "kernel_log_opens": Total(
        metric="kernel_log_opens_total", help="Times the kernel log was opened."
    ),
    "nvml_calls": Total(
        metric="nvml_calls_total",
        help="Calls into the driver's library by the present probes.",
        labels=("thread",),
    ),
    "nvml_errors": Total(
        metric="nvml_errors_total",
        help="Calls into the driver's library that failed, other than by not being supported.",
        labels=("call", "code"),
    ),
    "probe_restarts": Total(metric="probe_restarts_total", help="Probe children started anew."),
    "probe_left_behind": Total(
        metric="probe_left_behind_total",
        help="Probe children left behind in a call that did not return.",
    ),
    "probe_garbage": Total(
        metric="probe_garbage_total", help="Answers of the driver that cannot be true."
    ),
}

COSTS: Mapping[str, Cost] = {
    "tick_wall_s": Cost(metric="tick_duration_seconds", help="Duration of the last tick."),
    "rss_bytes": Cost(metric="agent_resident_memory_bytes", help="Memory of the agent."),
    "probe_rss_bytes": Cost(
        metric="probe_resident_memory_bytes", help="Memory of the probe children."
    ),
    "cpu_s_total": Cost(
        metric="agent_cpu_seconds_total", help="CPU time of the agent.", kind="counter"
    ),
    "probe_cpu_s_total": Cost(
        metric="probe_cpu_seconds_total",
        help="CPU time of the present probe children.",
        kind="counter",
    ),
    "fast_period_s": Cost(metric="fast_period_seconds", help="Period of the fast loop now."),
    "observe_s": Cost(metric="observe_duration_seconds", help="Duration of the last look."),
    "decide_s": Cost(metric="decide_duration_seconds", help="Duration of the last decision."),
}
