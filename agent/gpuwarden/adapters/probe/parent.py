"""The probe port: NVML as seen through child processes that may hang, die or be fed nonsense.

``drain`` never blocks and never raises for what the driver does: a device is OK with a fresh size, or
it is BLIND or LOST with a gap that says why.
"""

import select
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.book import Book
from gpuwarden.adapters.probe.cost import cost
from gpuwarden.adapters.probe.crew import Crew, Post
from gpuwarden.adapters.probe.symbols import symbol_name
from gpuwarden.adapters.probe.timer import Timer
from gpuwarden.adapters.probe.worker import Mark, Start, Worker, plan_payload
from gpuwarden.errors import Unavailable
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.model.views import ProbeView

if TYPE_CHECKING:  # scripts/gpu-check runs this file where nothing but Python is installed
    from gpuwarden.config import NvmlConfig, SamplingConfig

START_DEADLINE_S = 10.0
"""For calls that open a device: without the persistence daemon each board is initialised then,
which takes seconds."""
INIT_DEADLINE_S = 30.0
"""For calls on no device (initialise, count): the former for a host of many boards."""
SILENCE_S = 1.6
"""A child at rest sends once a second; after this long without a word the loop is woken to judge."""
CLOSE_S = 2.0
COST_EVERY_S = 5.0
_LEAST_WAIT_S = 0.01
_DRIVER_GONE = frozenset(
    {
        layout.UNINITIALIZED,
        layout.DRIVER_NOT_LOADED,
        layout.LIBRARY_NOT_FOUND,
        layout.LIB_RM_VERSION_MISMATCH,
    }
)


class NvmlProbe:
    """Probe port over NVML. The loop's thread only, but for ``ask_limits``."""

    def __init__(
        self,
        nvml: "NvmlConfig",
        sampling: "SamplingConfig",
        now: float,
        *,
        process_top: int = 0,
        start_deadline_s: float = START_DEADLINE_S,
        init_deadline_s: float = INIT_DEADLINE_S,
        has_clock_events: bool = False,
    ) -> None:
        """Starts the first child. Raises OSError when the kernel gives no timer or epoll."""
        self._sampling = sampling
        self._start_deadline_s = start_deadline_s
        self._init_deadline_s = init_deadline_s
        self._book = Book(process_top)
        self._plan = ProbePlan(
            period_s=sampling.fast_base_s,
            list_every_s=sampling.list_every_s,
            list_gap_s=sampling.list_gap_s,
            slow_every_s=sampling.slow_every_s,
        )
        self._crew = Crew(
            Start(
                library=nvml.library,
                fast_deadline_s=sampling.fast_deadline_s,
                slow_deadline_s=sampling.slow_deadline_s,
                has_clock_events=has_clock_events,
            )
        )
        self._epoll = select.epoll()
        self._watched: dict[int, Worker] = {}
        self._timer = Timer()
        self._askable: dict[DeviceId, tuple[Worker, int]] = {}
        """Replaced as a whole, never changed: other threads look things up in it."""
        self._epoll.register(self._timer.fileno(), select.EPOLLIN)
        self._now = now
        self._cost_at = float("-inf")
        self._cost: Mapping[str, float] = {}
        self._crew.tend(now)
        self._watch(now)

    # --- the port ---

    def drain(self, now: float) -> ProbeView:
        """Take what the children have sent; judge deadlines; never blocks. Not after ``close``."""
        if self._epoll.closed:
            raise Unavailable("the probe is closed")
        self._now = now
        self._timer.clear()
        for post in list(self._crew.posts()):
            if self._is_attached(post):  # not one that a child before it in this pass has relieved
                self._take(post, now)
        for post in list(self._crew.posts()):
            self._judge(post, now)
        self._unwatch()  # before the crew closes what it is done with
        self._crew.tend(now)
        self._watch(now)
        # One deadline for the call that hangs, one for the child that takes over the healthy devices.
        fresh_s = self._plan.period_s + 2 * self._sampling.fast_deadline_s
        view = self._book.view(now, fresh_s)
        own = self._own_gaps()
        return replace(view, gaps=(*view.gaps, *own)) if own else view

    def steer(self, plan: ProbePlan) -> None:
        """Tell the children how to look; unchanged plans cost nothing."""
        if plan == self._plan and not plan.list_now:
            return
        self._plan = plan
        for post in self._crew.posts():
            self._send_plan(post)

    def pause(self) -> None:
        """Let go of every device until ``resume``; what is stuck in the driver already stays there."""
        if self._epoll.closed:
            return
        for post in list(self._crew.posts()):
            self._book.withdraw(post)
        self._crew.pause(self._now)
        self._unwatch()
        self._askable = {}

    def resume(self) -> None:
        """Look again, with a new child."""
        if self._epoll.closed:
            return
        self._crew.resume(self._now)
        self._crew.tend(self._now)
        self._watch(self._now)

    def filenos(self) -> Sequence[int]:
        """One descriptor, for ever: it becomes readable when there is something to drain."""
        return (self._epoll.fileno(),)

    def close(self) -> None:
        """Stop the children politely (pipe closed, TERM), never SIGKILL. Once is enough."""
        if self._epoll.closed:
            return
        self._crew.close(self._now, CLOSE_S)
        self._epoll.close()
        self._timer.close()

    # --- beside the port ---

    @property
    def details(self) -> Mapping[DeviceId, Mapping[str, float | str | None]]:
        """Slow facts of every device that is seen, in base units; None: the driver does not tell."""
        # A copy: pictures are read by other threads while the book goes on.
        return dict(self._book.details)

    @property
    def driver_version(self) -> str:
        """As the driver says it; empty before the first inventory."""
        return self._book.driver_version

    @property
    def nvml_version(self) -> str:
        return self._book.nvml_version

    @property
    def cuda_version(self) -> int:
        """1000 x major + 10 x minor; 0: not told."""
        return self._book.cuda_version

    def process_utilization(self, device: DeviceId) -> Mapping[int, tuple[float, ...]]:
        """SM, memory, encoder and decoder ratios by raw pid, as of the last sample of 5 s."""
        known = self._book.get(device)
        return known.utilization if known is not None else {}

    def children(self) -> Sequence[int]:
        """Pids of the attached children, for the agent's own cost."""
        return tuple(post.worker.pid for post in self._crew.posts())

    def counters(self) -> Mapping[tuple[str, str], int]:
        """Totals since start, by name and label; calls and drops of the children that run now."""
        dropped: Counter[str] = Counter()
        calls: Counter[str] = Counter()
        for post in self._crew.posts():
            for thread, name in enumerate(layout.THREAD_NAMES):
                _, _, lost, made = post.worker.progress(thread)
                dropped[f"probe {name}"] += lost
                calls[name] += made
        book = self._book.counters
        return {
            **{("dropped", queue): total for queue, total in dropped.items()},
            **{("nvml_calls", thread): total for thread, total in calls.items()},
            **{("nvml_errors", call): total for call, total in self._book.failures.items()},
            ("dropped", "driver events"): book["dropped_events"],
            ("probe_garbage", ""): book["garbage"],
            ("probe_restarts", ""): max(0, self._crew.started_total - 1),
            ("probe_left_behind", ""): self._crew.left_total,
        }

    def durations(self) -> Mapping[str, float]:
        """What the attached children cost: their memory and CPU time, looked at every few seconds."""
        if self._now - self._cost_at >= COST_EVERY_S:
            self._cost_at, self._cost = self._now, cost(self.children())
        return {**self._cost, "fast_period_s": self._plan.period_s}

    def ask_limits(
        self,
        operation: int,
        device: DeviceId,
        path: str,
        soft: int = 0,
        hard: int = 0,
        timeout_s: float | None = None,
    ) -> tuple[int, int, int, int]:
        """Set or get a memory limit in the child: code, soft, hard, used. Not on the loop's thread.

        Raises Unavailable when the device has no child that answers in time.
        """
        place = self._askable.get(device)
        if place is None:
            raise Unavailable(f"device {device} is not seen by any probe child")
        worker, ordinal = place
        deadline_s = timeout_s or self._sampling.slow_deadline_s
        return worker.ask(operation, ordinal, path, soft, hard, deadline_s)

    def limitable(self) -> Sequence[DeviceId]:
        """Devices whose memory limits can be asked for: seen, and no MIG slices. Any thread."""
        return tuple(self._askable)

    # --- the children ---

    def _take(self, post: Post, now: float) -> None:
        # Read before the frames: a pass counts as seen only when its frames have been taken too.
        finished, *_ = post.worker.progress(layout.FAST)
        for frame in post.worker.frames():
            self._book.take(post, frame)
            if frame.kind == layout.MEMORY:
                self._crew.served(post, now)
            elif frame.kind == layout.INVENTORY:
                self._send_plan(post)
        self._book.renew(post, min(finished, now))
        if not post.worker.is_open:
            self._lose(post, now)

    def _is_attached(self, post: Post) -> bool:
        return any(post is other for other in self._crew.posts())

    def _lose(self, post: Post, now: float) -> None:
        """A child ended by itself."""
        self._book.withdraw(post)
        gone = self._book.gone
        if gone is not None and (gone in _DRIVER_GONE or gone == layout.INVENTORY_CHANGED):
            self._book.is_away |= gone in _DRIVER_GONE
            self._crew.forget_blames(now)
        self._crew.ended(post, now)

    def _judge(self, post: Post, now: float) -> None:
        for mark in post.worker.marks():
            age_s = now - mark.since
            if mark.thread == layout.EVENTS or age_s <= self._deadline_s(post, mark):
                continue
            call = f"{symbol_name(mark.symbol)} has not returned for {age_s:.1f} s"
            index = _index(post, mark)
            if index is not None:
                self._book.blame(index, call)
            self._crew.stuck(post, index, call, now)

    def _deadline_s(self, post: Post, mark: Mark) -> float:
        if not post.entries and post.served_at is None:
            return self._start_deadline_s if mark.ordinal >= 0 else self._init_deadline_s
        if mark.thread == layout.FAST:
            return self._sampling.fast_deadline_s
        return self._sampling.slow_deadline_s

    def _send_plan(self, post: Post) -> None:
        if not post.entries:
            return
        plan = self._plan
        triggers = dict(plan.list_trigger_bytes)
        wanted = set(plan.list_now)
        default = self._sampling.list_trigger_bytes
        items = [
            (triggers.get(entry.id, default) if entry.id else default, entry.id in wanted)
            for entry in post.entries
        ]
        payload = plan_payload(plan, items)
        if wanted or payload != post.plan_sent:
            post.plan_sent = payload if post.worker.send(layout.PLAN, payload) else b""

    def _unwatch(self) -> None:
        """Stop watching children that are not attached any more."""
        attached = {id(post.worker) for post in self._crew.posts()}
        for fd, worker in list(self._watched.items()):
            if id(worker) not in attached:
                del self._watched[fd]
                self._epoll.unregister(fd)

    def _watch(self, now: float) -> None:
        """Watch the sockets of the children there are now; wake up in time for what is due."""
        for post in self._crew.posts():
            fd = post.worker.fileno()
            if fd not in self._watched:
                self._epoll.register(fd, select.EPOLLIN)
                self._watched[fd] = post.worker
        self._askable = {
            entry.id: (post.worker, ordinal)
            for post in self._crew.posts()
            if not post.is_stuck
            for ordinal, entry in enumerate(post.entries)
            if entry.id is not None and not entry.flags & layout.IS_MIG_SLICE
        }
        wait_s = max(_LEAST_WAIT_S, self._crew.due_at(now) - now)
        self._timer.arm(min(SILENCE_S, wait_s))

    def _own_gaps(self) -> list[Gap]:
        """What is wrong with the driver or the probe as a whole."""
        gaps = self._book.own_gaps()
        if self._crew.is_paused:
            detail = "every device is let go of while one is reset or the driver is loaded again"
            gaps.append(
                Gap(source="nvml", subject="probe", kind=GapKind.UNAVAILABLE, detail=detail)
            )
        if self._crew.fault:
            gap = Gap(
                source="nvml",
                subject="probe",
                kind=GapKind.UNAVAILABLE,
                detail=self._crew.fault,
            )
            gaps.append(gap)
        for index, blame in self._crew.blames.items():
            if not self._book.has_place(index):  # it hung before it could be named
                subject = f"index {index}"
                gap = Gap(source="nvml", subject=subject, kind=GapKind.HUNG, detail=blame.call)
                gaps.append(gap)
        if self._crew.is_off:
            detail = (
                f"NVML is off: {self._crew.left} probe children are stuck in the driver; "
                "kernel log and sysfs remain"
            )
            gaps.append(Gap(source="nvml", subject="driver", kind=GapKind.HUNG, detail=detail))
        return gaps


def _index(post: Post, mark: Mark) -> int | None:
    """Index of the GPU a call is on; None: on no GPU."""
    if mark.ordinal < 0 or not post.entries:
        return mark.ordinal if mark.ordinal >= 0 else None  # no inventory yet: it names the index
    if mark.ordinal >= len(post.entries):
        return None
    entry = post.entries[mark.ordinal]
    return entry.index if entry.parent < 0 else post.entries[entry.parent].index
