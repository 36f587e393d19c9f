"""What the status board tells of the agent itself. A part of wiring."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gpuwarden
from gpuwarden.adapters.own_cost import OwnCost, cuda_words
from gpuwarden.model.status import AgentInfo
from gpuwarden.node.status import Sources
from gpuwarden.reload import Reloader

if TYPE_CHECKING:
    from gpuwarden.wiring import Parts


def sources_of(parts: "Parts", reloader: Reloader) -> Sources:
    started = parts.clock.wall()
    own_cost = OwnCost(parts.clock)

    def agent() -> AgentInfo:
        node = parts.node
        fault = node.journal_fault
        degraded = [f"{fault}: harm is withheld until it can"] if fault else []
        if reloader.waiting:
            settings = ", ".join(reloader.waiting)
            degraded.append(f"the configuration has changed; a restart puts in force: {settings}")
        degraded += [*parts.notifier.complaints, *(parts.fleet.complaints() if parts.fleet else ())]
        return AgentInfo(
            version=gpuwarden.__version__,
            pid=os.getpid(),
            mode=node.cfg.agent.mode,
            started_wall=started,
            boot_id=node.memory.boot_id,
            config_ok=reloader.is_ok,
            config_error=reloader.error,
            config_loaded_wall=reloader.loaded_wall,
            limiter=node.ports.limiter.name,
            driver_version=parts.probe.driver_version,
            nvml_version=parts.probe.nvml_version,
            cuda_version=cuda_words(parts.probe.cuda_version),
            journal_ok=not fault,
            degraded=tuple(degraded),
        )

    def counters() -> Mapping[tuple[str, str], int]:
        counts = {("errors", k): v for k, v in parts.node.observer.port_errors.items()}
        counts["errors", "act"] = parts.node.actor.port_errors
        counts["dropped", "commands"] = parts.commands.dropped
        counts["dropped", "workers"] = parts.workers.dropped
        counts["dropped", "journal"] = parts.journal.failures
        counts["errors", "services"] = parts.services.failures
        counts["errors", "senses"] = parts.senses.failures
        counts["config_reloads", "accepted"] = reloader.accepted
        counts["config_reloads", "rejected"] = reloader.rejected
        counts.update((("api", k), v) for k, v in parts.api.counts().items())
        counts.update((("metrics", k), v) for k, v in parts.metrics.counts().items())
        counts.update(parts.notifier.counters())
        counts.update(parts.probe.counters())
        counts.update(parts.kernel_log.counters())
        if parts.fleet is not None:
            counts.update(parts.fleet.counters())
        if parts.evaluation is not None:
            counts.update(parts.evaluation.counters())
        return counts

    return Sources(
        agent=lambda: reloader.told(agent()),
        details=lambda: parts.probe.details,
        counters=counters,
        durations=lambda: {
            **own_cost(),
            **parts.probe.durations(),
            **parts.node.durations,
        },
        oncall=lambda: parts.notifier.state,
    )


def no_sources() -> Sources:
    """Before the agent is whole there is nothing to tell."""
    info = AgentInfo(
        version=gpuwarden.__version__, pid=os.getpid(), mode="", started_wall=0.0, boot_id=""
    )
    return Sources(agent=lambda: info, details=dict, counters=dict, durations=dict)
