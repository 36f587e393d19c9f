"""Asks one runtime about its tenants on a thread of its own, so that a hung one delays nobody else."""

import math
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpuwarden.clock import Clock
from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.model.ids import CgroupId, TenantId
from gpuwarden.model.owner import CgroupOwner, RuntimeFacts
from gpuwarden.ports import Runtime

QUEUE = 256
MAX_TENANTS = 4096
_RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)


@dataclass(slots=True)
class _Entry:
    facts: RuntimeFacts
    owner: CgroupOwner
    cgroup: CgroupId | None
    is_asked: bool = False
    failures: int = 0
    ask_again_at: float = 0.0
    is_gone: bool = False
    epoch: int = 0
    """Counts what happened to it, so that an answer given meanwhile is known to be old."""


class Describer:
    """Descriptions of one runtime's tenants, cached; the thread starts with the first question.

    ``told`` is called (on the thread) when a description arrived or changed. ``dropped`` counts
    questions that found the queue full; they are asked again on the next look. ``trouble`` is why the
    runtime does not answer, ``None`` while it does. ``errors`` counts what no adapter should raise.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        clock: Clock,
        told: Callable[[], None],
        refresh_s: float,
    ) -> None:
        self._name = name
        self._runtime = runtime
        self._clock = clock
        self._told = told
        self._refresh_s = refresh_s
        self._entries: dict[TenantId, _Entry] = {}
        self._lock = threading.Lock()
        self._asked: queue.Queue[TenantId | None] = queue.Queue(maxsize=QUEUE)
        self._thread: threading.Thread | None = None
        self.trouble: str | None = None
        self.dropped = 0
        self.errors = 0

    def facts(
        self, owner: CgroupOwner, tenant: TenantId, cgroup: CgroupId | None = None
    ) -> RuntimeFacts:
        """What is known now; asks in the background where that is nothing or old. Never blocks.

        What was told of an earlier run under the same name (its group had another inode) is nothing.
        """
        now = self._clock.now()
        with self._lock:
            entry = self._entries.get(tenant)
            if entry is None:
                while len(self._entries) >= MAX_TENANTS:
                    self._forget_one()
                unknown = RuntimeFacts(tenant=tenant, described=False)
                entry = self._entries[tenant] = _Entry(facts=unknown, owner=owner, cgroup=cgroup)
            if _is_another_run(entry.cgroup, cgroup):
                entry.facts = RuntimeFacts(tenant=tenant, described=False)
                entry.epoch += 1
                entry.is_gone, entry.failures, entry.ask_again_at = False, 0, 0.0
            entry.owner, entry.cgroup = owner, cgroup or entry.cgroup
            if not entry.is_asked and now >= entry.ask_again_at:
                self._ask(tenant, entry)
            return entry.facts

    def touch(self, key: str, *, is_paused: bool | None = None, is_gone: bool = False) -> None:
        """Something happened to the tenant whose name holds ``key``: what is known of it is old."""
        with self._lock:
            for tenant in [one for one in self._entries if key in one]:
                entry = self._entries[tenant]
                if is_gone:
                    # Its bytes may be listed for a while yet: until then it is what it was.
                    entry.is_gone, entry.ask_again_at = True, math.inf
                    continue
                entry.epoch += 1
                entry.failures = 0
                entry.ask_again_at = 0.0
                if is_paused is not None:
                    entry.facts = replace(entry.facts, is_paused=is_paused)

    def _forget_one(self) -> None:
        """The oldest that its runtime has removed, else the oldest."""
        oldest = next(iter(self._entries))
        del self._entries[next((t for t, e in self._entries.items() if e.is_gone), oldest)]

    def close(self, wait_s: float) -> None:
        """Ask the thread to end and wait for it at most ``wait_s``; it is a daemon thread."""
        if self._thread is None:
            return
        try:
            self._asked.put(None, timeout=wait_s)
        except queue.Full:
            return
        self._thread.join(wait_s)

    def _ask(self, tenant: TenantId, entry: _Entry) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name=f"describe {self._name}", daemon=True
            )
            self._thread.start()
        try:
            self._asked.put_nowait(tenant)
        except queue.Full:
            self.dropped += 1
            return
        entry.is_asked = True

    def _work(self) -> None:
        while (tenant := self._asked.get()) is not None:
            with self._lock:
                entry = self._entries.get(tenant)
                if entry is None:
                    continue
                owner, cgroup, epoch = entry.owner, entry.cgroup, entry.epoch
            facts = self._describe(tenant, owner)
            with self._lock:
                if _is_another_run(cgroup, entry.cgroup):
                    entry.is_asked = False  # told of a run that is over
                    continue
                is_news = self._settle(entry, facts, epoch)
            if is_news:
                self._told()

    def _describe(self, tenant: TenantId, owner: CgroupOwner) -> RuntimeFacts | Unavailable:
        """The runtime's word; a tenant it refuses or can never describe cannot be acted on by it."""
        try:
            facts = self._runtime.describe(owner)
        except Unavailable as error:
            self.trouble = str(error)
            return error
        except GpuwardenError as error:
            return RuntimeFacts(tenant=tenant, described=False, cannot_act=str(error)[:300])
        except Exception as error:  # noqa: BLE001  the port boundary of HOUSE_STYLE rule 11
            self.errors += 1
            return Unavailable(f"{type(error).__name__}: {error}")
        self.trouble = None
        return replace(facts, tenant=tenant)

    def _settle(self, entry: _Entry, facts: RuntimeFacts | Unavailable, epoch: int) -> bool:
        """Keep the answer and when to ask again; whether it is news."""
        now = self._clock.now()
        entry.is_asked = False
        if isinstance(facts, RuntimeFacts) and facts.described:
            entry.failures = 0
            entry.ask_again_at = now + self._refresh_s if entry.epoch == epoch else 0.0
        else:
            entry.ask_again_at = now + _RETRY_S[min(entry.failures, len(_RETRY_S) - 1)]
            entry.failures += 1
        if entry.is_gone:
            entry.ask_again_at = math.inf
        if isinstance(facts, Unavailable):
            return False
        if entry.facts.described and not facts.described:
            # No longer known there: it cannot be acted on, and it is still what it was.
            facts = replace(entry.facts, cannot_act=facts.cannot_act)
        is_news = facts != entry.facts
        entry.facts = facts
        return is_news


def _is_another_run(before: CgroupId | None, now: CgroupId | None) -> bool:
    """Whether the group was made anew. Groups of other paths or hierarchies tell nothing."""
    if before is None or now is None:
        return False
    is_same_place = (before.path, before.hierarchy) == (now.path, now.hierarchy)
    return is_same_place and before.inode != now.inode
