"""The agent on the metrics page: mode, health, findings, incidents, totals, what it costs."""

import re
from collections import Counter

from gpuwarden.adapters.exposition import Page, labels
from gpuwarden.adapters.own_facts import COSTS, TOTALS
from gpuwarden.model.finding import Severity
from gpuwarden.model.status import View

_DOC_AGE = "Age of the newest finished tick: it grows when the loop hangs."


def add_agent(page: Page, view: View, *, now: float) -> None:
    agent = view.agent
    info = labels(
        (
            ("version", agent.version),
            ("mode", agent.mode),
            ("kernel_log", agent.kernel_log),
            ("limiter", agent.limiter),
        )
    )
    page.gauge("agent_info", "The agent.", 1, info)
    if agent.driver_version:
        driver = labels(
            (
                ("driver_version", agent.driver_version),
                ("nvml_version", agent.nvml_version),
                ("cuda_version", agent.cuda_version),
            )
        )
        page.gauge("driver_info", "The driver.", 1, driver)
    gpus = sum(1 for device in view.snapshot.devices if device.parent is None)
    page.gauge("gpus", "GPUs that are known, seen or not; 0: no driver, or none here.", gpus)
    page.gauge("agent_start_timestamp_seconds", "When it started.", agent.started_wall)
    page.gauge("tick_age_seconds", _DOC_AGE, max(0.0, now - view.at))
    page.gauge("tick_timestamp_seconds", "When that tick was.", view.snapshot.wall)
    page.gauge(
        "config_reload_success",
        "Whether the newest configuration is in force; 0: it was refused and the old one is.",
        agent.config_ok,
    )
    page.gauge("config_loaded_timestamp_seconds", "Since when.", agent.config_loaded_wall)
    page.gauge("journal_ok", "Whether the journal can be written.", agent.journal_ok)
    page.gauge("degraded", "How many parts do not work right now.", len(agent.degraded))
    page.gauge("debts", "Changes to tenants that are owed back.", len(view.debts))
    _add_claims(page, view)
    _add_oncall(page, view)
    _add_totals(page, view)
    _add_costs(page, view)


def _add_claims(page: Page, view: View) -> None:
    """What holds now. Counts by bounded words only: rule, severity, budget, source."""
    findings = Counter((finding.rule, finding.severity) for finding in view.findings)
    family = page.family("findings", "gauge", "Findings that hold now.")
    for (rule, severity), count in sorted(findings.items()):
        said = labels((("rule", rule), ("severity", Severity(severity).name.lower())))
        family.add(said, count)
    held = Counter((withheld.kind.value, withheld.budget) for withheld in view.withheld)
    family = page.family("withheld", "gauge", "Actions that are withheld now.")
    for (kind, budget), count in sorted(held.items()):
        family.add(labels((("kind", kind), ("budget", budget))), count)
    gaps = Counter((gap.source, gap.kind.value) for gap in view.snapshot.gaps)
    family = page.family("gaps", "gauge", "What cannot be seen now.")
    for (source, kind), count in sorted(gaps.items()):
        family.add(labels((("source", source), ("kind", kind))), count)
    is_open = Counter(incident.rule for incident in view.incidents if incident.closed_at is None)
    page.gauge("incidents_open", "Incidents that are open.", is_open.total())


def _add_oncall(page: Page, view: View) -> None:
    """Whether people can be told. Absent where no sink is set."""
    state = view.oncall
    if not state.sinks:
        return
    waiting = page.family("oncall_waiting", "gauge", "Messages that wait, by sink.")
    for sink in state.sinks:
        waiting.add(labels((("sink", sink.name),)), sink.due)
    failing = page.family(
        "oncall_failing_seconds", "gauge", "How long a sink has taken nothing; 0: it works."
    )
    for sink in state.sinks:
        since = sink.failing_wall
        lasts_s = 0.0 if since is None else max(0.0, view.snapshot.wall - since)
        failing.add(labels((("sink", sink.name),)), lasts_s)
    page.gauge(
        "oncall_unreached",
        "Incidents of which nobody could be told who should have been.",
        len(state.unreached),
    )
    page.gauge("oncall_silences", "Silences that hold now.", len(state.silences))


def _add_totals(page: Page, view: View) -> None:
    for (name, said), value in sorted(view.counters.items()):
        total = TOTALS.get(name)
        if total is None:
            pairs = (("name", name), ("member", said))
            page.family("other_total", "counter", "Totals without a name of their own.").add(
                labels(pairs), value
            )
            continue
        values = said.split("/", len(total.labels) - 1) if total.labels else []
        values += [""] * (len(total.labels) - len(values))
        page.family(total.metric, total.kind, total.help).add(
            labels(zip(total.labels, values, strict=True)), value
        )


def _add_costs(page: Page, view: View) -> None:
    for name, value in sorted(view.durations.items()):
        cost = COSTS.get(name)
        if cost is not None:
            page.family(cost.metric, cost.kind, cost.help).add("", value)
        elif re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name):
            page.family("other_cost", "gauge", "Costs without a name of their own.").add(
                labels((("name", name),)), value
            )
