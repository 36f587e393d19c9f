"""Carries decisions out. The target is compared with the world again just before each act."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gpuwarden.clock import Clock
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.action import (
    BLOCKING,
    ENDS_SIGHT,
    REPAIRS,
    Action,
    Kind,
    Outcome,
    Result,
    Target,
)
from gpuwarden.model.ids import CgroupId, Pid
from gpuwarden.model.oncall import Page
from gpuwarden.model.repair import NODE, Subject
from gpuwarden.model.tenant import HostLimits
from gpuwarden.node.workers import PAGE_LANE
from gpuwarden.ports import Ports

Old = Mapping[str, str]

ON_THE_GROUP = frozenset(
    {
        Kind.THROTTLE,
        Kind.UNTHROTTLE,
        Kind.FREEZE,
        Kind.THAW,
        Kind.TERM,
        Kind.KILL,
        Kind.DETACH,
        Kind.SET_LIMIT,
        Kind.SET_HOST_LIMITS,
    }
)
"""Kinds whose target is compared by its cgroup first. The others name their target by the
runtime's own
full id, and must reach it when its cgroup is long gone (a stopped container gets its policy
back)."""


class Actor:
    """Executes actions: cgroup files and pidfds at once, whatever may block on a worker."""

    def __init__(self, ports: Ports, clock: Clock) -> None:
        self._ports = ports
        self._clock = clock
        self.port_errors = 0
        self._do: Mapping[Kind, Callable[[Action, Target], Old]] = {
            Kind.THROTTLE: self._throttle,
            Kind.UNTHROTTLE: self._restore,
            Kind.FREEZE: self._freeze,
            Kind.THAW: self._thaw,
            Kind.TERM: self._term,
            Kind.KILL: self._kill,
            Kind.STOP: self._stop,
            Kind.RESTART_OFF: self._restart_off,
            Kind.RESTART_BACK: self._restart_back,
            Kind.DETACH: self._detach,
            Kind.SET_LIMIT: self._set_limit,
            Kind.CLEAR_LIMIT: self._clear_limit,
            Kind.SET_HOST_LIMITS: self._host_limits,
            Kind.RELOCATE: self._relocate,
            Kind.RESTART_TENANT: self._restart,
            Kind.ROLL_BACK: self._roll_back,
        }
        self._do_on_device: Mapping[Kind, Callable[[Action], Old]] = {
            Kind.CORDON: self._cordon,
            Kind.UNCORDON: self._uncordon,
            Kind.RESTART_SERVICES: self._marked(lambda action: ports.remedies.restart_services()),
            Kind.RESET_GPU: self._marked(lambda action: ports.remedies.reset_gpu(_subject(action))),
            Kind.RELOAD_DRIVER: self._marked(lambda action: ports.remedies.reload_driver()),
            Kind.REBOOT: self._marked(lambda action: ports.remedies.reboot(action.why)),
            Kind.KEEP_EVIDENCE: self._keep_evidence,
        }
        self._blinding: set[str] = set()
        """Actions under way for which the probe has let go of every device."""

    def act(self, actions: Sequence[Action]) -> list[Outcome]:
        """Execute in order; blocking ones answer ``started`` now and their outcome later."""
        outcomes = []
        for action in actions:
            self._ports.steps.reached(action, "intended")
            if action.kind in ENDS_SIGHT:
                self._blinding.add(action.id)
                self._ports.probe.pause()
            if action.kind not in BLOCKING:
                outcomes.append(self._run(action))
            elif self._ports.workers.submit(_lane(action), action, partial(self._run, action)):
                outcomes.append(self._outcome(action, Result.STARTED))
            else:
                outcomes.append(self._outcome(action, Result.FAILED, "its worker's queue is full"))
        return outcomes

    def concluded(self, outcomes: Sequence[Outcome]) -> None:
        """Look again once nothing is under way that needs the devices let go of."""
        over = {o.action for o in outcomes if o.result is not Result.STARTED}
        if not self._blinding & over:
            return
        self._blinding -= over
        if not self._blinding:
            self._ports.probe.resume()

    def _run(self, action: Action) -> Outcome:
        """One action to its outcome. Whatever a port raises becomes a result, never an exception."""
        try:
            old = self._execute(action)
        except Refused as error:
            return self._outcome(action, Result.REFUSED, str(error))
        except Unsupported as error:
            return self._outcome(action, Result.UNSUPPORTED, str(error))
        except Unavailable as error:
            return self._outcome(action, Result.FAILED, str(error))
        except Exception as error:  # noqa: BLE001  the port boundary of HOUSE_STYLE rule 11
            self.port_errors += 1
            return self._outcome(action, Result.FAILED, f"{type(error).__name__}: {error}")
        self._ports.steps.reached(action, "acted")
        told = action.kind in (Kind.CORDON, Kind.UNCORDON, Kind.ROLL_BACK)
        detail = ", ".join(f"{who}: {what}" for who, what in old.items()) if told else ""
        if action.kind is Kind.KEEP_EVIDENCE:
            detail = old.get("said", "")
        return self._outcome(action, Result.DONE, detail, old=old)

    def _execute(self, action: Action) -> Old:
        if action.kind is Kind.PAGE:
            self._ports.steps.reached(action, "checked")
            self._ports.pager.send(_page(action, self._clock.wall()))
            return {}
        on_device = self._do_on_device.get(action.kind)
        if on_device is not None:
            self._ports.steps.reached(action, "checked")
            return on_device(action)
        do = self._do.get(action.kind)
        if do is None or action.target is None:  # warn: kept in the journal
            self._ports.steps.reached(action, "checked")
            return {}
        if action.kind in ON_THE_GROUP:
            self._compare(action.target)
        elif action.kind in (Kind.STOP, Kind.RESTART_TENANT) and action.target.cgroup is not None:
            # Its turn may have come late: who was started under the same id since is judged anew.
            self._ports.cgroups.is_populated(action.target.cgroup)
        self._ports.steps.reached(action, "checked")
        return do(action, action.target)

    def _compare(self, target: Target) -> None:
        """Refuse when the group stands for something else now; pids are compared as they are
        hit.
        """
        if target.cgroup is not None and not self._ports.cgroups.is_same(target.cgroup):
            raise Refused(f"cgroup {target.cgroup.path} is gone or is another one now")

    def _throttle(self, action: Action, target: Target) -> Old:
        params = dict(action.params)
        high = params.get("memory_high_bytes")
        return self._ports.cgroups.throttle(
            _cgroup(target),
            cpu_cores=float(params["cpu_cores"]) if "cpu_cores" in params else None,
            memory_high_bytes=int(high) if high is not None else None,
            keep=partial(self._keep, action),
        )

    def _keep(self, action: Action, old: Old) -> None:
        """What the undo will need, on disk before it is changed: nobody could read it back later."""
        self._ports.journal.conclude([self._outcome(action, Result.STARTED, old=old)])

    def _restore(self, action: Action, target: Target) -> Old:
        self._ports.cgroups.restore(_cgroup(target), dict(action.params))
        return {}

    def _freeze(self, action: Action, target: Target) -> Old:
        self._ports.cgroups.freeze(_cgroup(target))
        return {}

    def _thaw(self, action: Action, target: Target) -> Old:
        self._ports.cgroups.thaw(_cgroup(target))
        return {}

    def _term(self, action: Action, target: Target) -> Old:
        self._signal(target, signal.SIGTERM)
        return {}

    def _kill(self, action: Action, target: Target) -> Old:
        if target.cgroup is not None:
            self._ports.cgroups.kill(target.cgroup)
        else:
            self._signal(target, signal.SIGKILL)
        return {}

    def _signal(self, target: Target, signum: int) -> None:
        """Signal every process of the target that still is the target's; refused if none is."""
        hit, refused = 0, ""
        for pid in self._members(target):
            try:
                facts = self._ports.processes.reread(pid)
                if facts is None:
                    continue
                if self._ports.tenant_of(facts) != target.tenant:
                    refused = f"pid {pid.pid} belongs to another tenant now"
                    continue
                self._ports.processes.signal(pid, signum)
                hit += 1
            except Refused as error:
                refused = str(error)
        if hit == 0 and refused:
            raise Refused(refused)
        if hit == 0:
            raise Refused("none of its processes is there any more")

    def _members(self, target: Target) -> list[Pid]:
        ports = self._ports
        if target.cgroup is None:
            members = set(target.pids)
            pgrp = target.tenant.partition(":")[2].partition("@")[0]
            if target.runtime == "pgrp" and pgrp.isdecimal():
                members.update(ports.processes.group(int(pgrp)))
            return sorted(members)
        found = []
        for raw_pid in ports.cgroups.members(target.cgroup):
            facts = ports.processes.facts(raw_pid)
            if facts is not None:
                found.append(facts.pid)
        return found

    def _stop(self, action: Action, target: Target) -> Old:
        runtime = self._ports.runtimes.for_runtime(target.runtime)
        if runtime is None:
            raise Unsupported(f"nothing here can stop a tenant of runtime {target.runtime}")
        runtime.stop(target, float(dict(action.params).get("grace_s", "0")))
        return {}

    def _restart(self, action: Action, target: Target) -> Old:
        runtime = self._ports.runtimes.for_runtime(target.runtime)
        if runtime is None:
            raise Unsupported(f"nothing here can restart a tenant of runtime {target.runtime}")
        runtime.restart(target, float(dict(action.params).get("grace_s", "0")))
        return {}

    def _roll_back(self, action: Action, target: Target) -> Old:
        if self._ports.versions is None:
            raise Unsupported("no versions are recorded here ([rollback] record)")
        params = dict(action.params)
        return self._ports.versions.roll_back(
            target,
            params["service"],
            params["place"],
            params["version"],
            has_room=params.get("has_room") == "yes",
        )

    def _restart_off(self, action: Action, target: Target) -> Old:
        runtime = self._ports.runtimes.for_runtime(target.runtime)
        if runtime is None:
            raise Unsupported(f"runtime {target.runtime} is not here")
        return runtime.restart_off(target)

    def _restart_back(self, action: Action, target: Target) -> Old:
        runtime = self._ports.runtimes.for_runtime(target.runtime)
        if runtime is None:
            raise Unsupported(f"runtime {target.runtime} is not here")
        runtime.restart_back(target, dict(action.params))
        return {}

    def _detach(self, action: Action, target: Target) -> Old:
        server = self._ports.runtimes.for_runtime("mps")
        if server is None:
            raise Unsupported("nothing here speaks with an MPS server")
        server.stop(replace(target, pids=tuple(self._members(target))), 0.0)
        return {}

    def _set_limit(self, action: Action, target: Target) -> Old:
        params = dict(action.params)
        if action.device is None:
            raise Refused("a limit needs a device")
        self._ports.limiter.set(
            target, action.device, int(params["soft_bytes"]), int(params["hard_bytes"])
        )
        return {}

    def _clear_limit(self, action: Action, target: Target) -> Old:
        if action.device is None:
            raise Refused("a limit needs a device")
        self._ports.limiter.clear(target, action.device)
        return {}

    def _host_limits(self, action: Action, target: Target) -> Old:
        params = dict(action.params)
        memory, cores = params.get("memory_bytes"), params.get("cpu_cores")
        return self._ports.cgroups.limit(
            _cgroup(target),
            HostLimits(
                memory_bytes=int(memory) if memory is not None else None,
                cpu_cores=float(cores) if cores is not None else None,
            ),
        )

    def _relocate(self, action: Action, target: Target) -> Old:
        runtime = self._ports.runtimes.for_runtime(target.runtime)
        if runtime is None or action.device is None:
            raise Unsupported(f"runtime {target.runtime} cannot move a tenant")
        new = runtime.relocate(target, action.device, int(dict(action.params)["index"]))
        return {"new": new}

    def _marked(self, step: Callable[[Action], str]) -> Callable[[Action], Old]:
        """A step of a repair with its marks: whether it was taken can seldom be measured afterwards."""

        def take(action: Action) -> Old:
            mark = self._ports.remedies.mark
            mark(action.id, is_done=False)
            try:
                words = step(action)
            except (Refused, Unsupported):
                mark("", is_done=False)  # nothing was done: an agent after this one may try
                raise
            except Unavailable:
                mark(action.id, is_done=True)  # tried to its end: what came of it will be measured
                raise
            mark(action.id, is_done=True)
            return {"said": words} if words else {}

        return take

    def _keep_evidence(self, action: Action) -> Old:
        subject = _subject(action)
        return {"said": self._ports.remedies.keep_evidence(subject, action.incident, action.why)}

    def _cordon(self, action: Action) -> Old:
        return self._ports.cordons.cordon(_subject(action), action.incident, action.why)

    def _uncordon(self, action: Action) -> Old:
        still = [i for i in dict(action.params).get("still", "").split(",") if i]
        return self._ports.cordons.uncordon(_subject(action), action.incident, still)

    def _outcome(
        self, action: Action, result: Result, detail: str = "", old: Old | None = None
    ) -> Outcome:
        return Outcome(
            action=action.id,
            kind=action.kind,
            incident=action.incident,
            tenant=action.target.tenant if action.target is not None else None,
            device=action.device,
            result=result,
            at=self._clock.now(),
            wall=self._clock.wall(),
            detail="".join(c if c.isprintable() else "?" for c in detail[:300]),
            old=tuple((old or {}).items()),
        )


def _page(action: Action, wall: float) -> Page:
    params = dict(action.params)
    return Page(
        id=action.id,
        incident=action.incident,
        severity=params.get("severity", "error"),
        summary=params.get("summary", action.why),
        wall=wall,
        device=action.device or "",
        fault=params.get("fault", ""),
        pci=params.get("pci", ""),
    )


def _cgroup(target: Target) -> CgroupId:
    if target.cgroup is None:
        raise Unsupported("the tenant has no cgroup of its own")
    return target.cgroup


def _subject(action: Action) -> Subject:
    params = dict(action.params)
    index = params.get("index", "")
    return Subject(
        device=None if action.device == NODE else action.device,
        index=int(index) if index.isdecimal() else None,
        pci=params.get("pci", ""),
    )


def _lane(action: Action) -> str:
    """One lane a device for evictions; pages and settings have their own, so that they never queue
    behind a runtime that hangs."""
    if action.kind is Kind.PAGE:
        return PAGE_LANE
    if action.kind in REPAIRS or action.kind is Kind.KEEP_EVIDENCE:
        return "repair"  # in order: no step before the evidence of the last one is kept
    if action.kind in (Kind.CORDON, Kind.UNCORDON):
        return "cordon"
    if action.kind in (Kind.SET_LIMIT, Kind.CLEAR_LIMIT):
        return "limiter"
    if action.kind is Kind.ROLL_BACK:
        return "rollback"  # it waits for a service to load: no eviction is to wait for that
    return f"device {action.device}" if action.device is not None else "node"
