"""The probe port: NVML as seen through child processes that may hang, die or be fed nonsense.

``drain`` never blocks and never raises for what the driver does: a device is OK with a fresh size, or
it is BLIND or LOST with a gap that says why. Keyed by UUID; an index is a label that may move.
"""

import select
from collections import Counter
from collections.abc import Mapping, Sequence

from gpuwarden.adapters.probe import decode, layout, sighted
from gpuwarden.adapters.probe.crew import Crew, Post
from gpuwarden.adapters.probe.decode import Entry
from gpuwarden.adapters.probe.sighted import Known
from gpuwarden.adapters.probe.specs import CLASSES_S, FIELDS, NUMBERED
from gpuwarden.adapters.probe.symbols import symbol_name
from gpuwarden.adapters.probe.timer import Timer
from gpuwarden.adapters.probe.worker import Frame, Mark, Start, Worker, plan_payload
from gpuwarden.config import NvmlConfig, SamplingConfig
from gpuwarden.errors import Unavailable
from gpuwarden.model.decision import ProbePlan
from gpuwarden.model.device import Device, DriverEvent, Listing, Sight
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.ports import ProbeView

START_DEADLINE_S = 10.0
"""For calls that open a device: without the persistence daemon each board is initialised then,
which takes seconds."""
INIT_DEADLINE_S = 30.0
"""For calls on no device (initialise, count): the former for a host of many boards."""
SILENCE_S = 1.6
"""A child at rest sends once a second; after this long without a word the loop is woken to judge."""
CLOSE_S = 2.0
_EVENTS_MAX = 1024
_STANDS = 2.5
"""A slow fact stands for so many periods of its class; then it is withdrawn, not repeated."""
_DRIVER_GONE = frozenset(
    {
        layout.UNINITIALIZED,
        layout.DRIVER_NOT_LOADED,
        layout.LIBRARY_NOT_FOUND,
        layout.LIB_RM_VERSION_MISMATCH,
    }
)
_EVERY_S = {out.key: spec.every_s for spec in NUMBERED for out in spec.outs} | {
    f.key: f.every_s for f in FIELDS
}
_EVERY_TEXT_S = float("inf")


class NvmlProbe:
    """Probe port over NVML. The loop's thread only, but for ``ask_limits``."""

    def __init__(self, nvml: NvmlConfig, sampling: SamplingConfig, now: float) -> None:
        """Starts the first child. Raises OSError when the kernel gives no timer or epoll."""
        self._sampling = sampling
        self._known: dict[DeviceId, Known] = {}
        self._places: dict[int, DeviceId] = {}
        """Which GPU sits at which index."""
        self._members: frozenset[DeviceId] = frozenset()
        self._epoch = 0
        self._is_away = False
        """The driver went away since the last inventory."""
        self._gone: tuple[int, int] | None = None
        self._events: list[DriverEvent] = []
        self._passing: list[Gap] = []
        """Gaps told once: garbage seen since the last drain."""
        self._event_codes: dict[int, int] = {}
        self._plan = ProbePlan(
            period_s=sampling.fast_base_s,
            list_every_s=sampling.list_every_s,
            list_gap_s=sampling.list_gap_s,
        )
        self._details: dict[DeviceId, Mapping[str, float | str | None]] = {}
        self.driver_version = ""
        self.nvml_version = ""
        self.cuda_version = 0
        self.counters: Counter[str] = Counter()
        """Totals since start: garbage, dropped_events, frames."""
        self._crew = Crew(
            Start(
                library=nvml.library,
                fast_deadline_s=sampling.fast_deadline_s,
                slow_deadline_s=sampling.slow_deadline_s,
            )
        )
        self._epoll = select.epoll()
        self._watched: dict[int, Worker] = {}
        self._timer = Timer()
        self._epoll.register(self._timer.fileno(), select.EPOLLIN)
        self._now = now
        self._crew.tend(now)
        self._watch(now)

    # --- the port ---

    def drain(self, now: float) -> ProbeView:
        """Take what the children have sent; judge deadlines; never blocks."""
        self._now = now
        self._timer.clear()
        for post in list(self._crew.posts()):
            self._take(post, now)
        for post in list(self._crew.posts()):
            self._judge(post, now)
        self._crew.tend(now)
        self._watch(now)
        return self._view(now)

    def steer(self, plan: ProbePlan) -> None:
        """Tell the children how to look; unchanged plans cost nothing."""
        if plan == self._plan and not plan.list_now:
            return
        self._plan = plan
        for post in self._crew.posts():
            self._send_plan(post)

    def filenos(self) -> Sequence[int]:
        """One descriptor, for ever: it becomes readable when there is something to drain."""
        return (self._epoll.fileno(),)

    def close(self) -> None:
        """Stop the children politely (pipe closed, TERM), never SIGKILL."""
        self._crew.close(self._now, CLOSE_S)
        self._epoll.close()
        self._timer.close()

    # --- beside the port ---

    @property
    def details(self) -> Mapping[DeviceId, Mapping[str, float | str | None]]:
        """Slow facts of every device that is seen, in base units; None: the driver does not tell."""
        return self._details

    def process_utilization(self, device: DeviceId) -> Mapping[int, tuple[float, ...]]:
        """SM, memory, encoder and decoder ratios by raw pid, as of the last sample of 5 s."""
        known = self._known.get(device)
        return known.utilization if known is not None else {}

    def children(self) -> Sequence[int]:
        """Pids of the attached children, for the agent's own cost."""
        return tuple(post.worker.pid for post in self._crew.posts())

    def totals(self) -> Mapping[str, int]:
        """Counters of the probe itself since its start."""
        dropped = calls = 0
        for post in self._crew.posts():
            for thread in range(layout.THREADS):
                _, _, lost, made = post.worker.progress(thread)
                dropped += lost
                calls += made
        return {
            **self.counters,
            "children_started": self._crew.started_total,
            "children_left_behind": self._crew.left_total,
            "stuck_children": self._crew.left,
            "dropped_messages": dropped,
            "nvml_calls": calls,
        }

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
        for post in list(self._crew.posts()):
            for ordinal, entry in enumerate(post.entries):
                if entry.id == device and not post.is_stuck:
                    deadline_s = timeout_s or self._sampling.slow_deadline_s
                    return post.worker.ask(operation, ordinal, path, soft, hard, deadline_s)
        raise Unavailable(f"device {device} is not seen by any probe child")

    # --- frames ---

    def _take(self, post: Post, now: float) -> None:
        # Read before the frames: a pass counts as seen only when its frames have been taken too.
        finished, *_ = post.worker.progress(layout.FAST)
        for frame in post.worker.frames():
            self.counters["frames"] += 1
            try:
                self._frame(post, frame, now)
            except (layout.Error, IndexError, ValueError) as error:
                self._garbage("probe", f"frame {frame.kind}: {error}")
        for entry in post.entries:
            known = self._known.get(entry.id) if entry.id else None
            if known is not None and known.is_current and known.at is not None:
                known.at = max(known.at, min(finished, now))
        if not post.worker.is_open:
            self._lose(post, now)

    def _frame(self, post: Post, frame: Frame, now: float) -> None:
        match frame.kind:
            case layout.MEMORY:
                self._memory(post, frame)
                self._crew.served(post, now)
            case layout.LIST:
                self._list(post, frame)
            case layout.FACTS:
                values, faults = decode.facts(frame.payload)
                self._facts(post, frame, values, faults)
            case layout.FIELDS:
                values, faults = decode.fields(frame.payload)
                self._facts(post, frame, values, faults)
            case layout.TEXTS:
                if (known := self._at(post, frame.ordinal)) is not None:
                    for key, value in decode.texts(frame.payload).items():
                        known.note_fact(key, value, frame.at, _EVERY_TEXT_S)
            case layout.PROCESS_UTILIZATION:
                if (known := self._at(post, frame.ordinal)) is not None:
                    known.utilization = dict(decode.utilization(frame.payload))
            case layout.EVENT:
                self._event(post, frame)
            case layout.EVENT_MASK:
                _, code, _, _ = layout.EVENT_BODY.unpack(frame.payload)
                self._event_codes[frame.ordinal] = code
            case layout.HELLO:
                driver, nvml, cuda = layout.HELLO_BODY.unpack(frame.payload)
                self.driver_version, self.nvml_version = decode.text(driver), decode.text(nvml)
                self.cuda_version = cuda
            case layout.INVENTORY:
                self._inventory(post, decode.inventory(frame.payload))
            case layout.GONE:
                code, symbol = layout.GONE_BODY.unpack(frame.payload)
                self._gone = (code, symbol)

    def _at(self, post: Post, ordinal: int) -> Known | None:
        if ordinal >= len(post.entries):
            return None
        ident = post.entries[ordinal].id
        return self._known.get(ident) if ident is not None else None

    def _memory(self, post: Post, frame: Frame) -> None:
        size = layout.MEMORY_RECORD.size
        for ordinal in range(min(len(post.entries), len(frame.payload) // size)):
            known = self._at(post, ordinal)
            if known is None:
                continue
            reading = decode.memory(frame.payload, ordinal * size)
            if reading.fault and reading.fault != known.fault:
                self._garbage(known.id, reading.fault)
            known.sample(reading, frame.at)

    def _list(self, post: Post, frame: Frame) -> None:
        known = self._at(post, frame.ordinal)
        if known is None:
            return
        taken, faults, _ = sighted.listing(known, frame.payload, frame.at)
        for fault in faults:
            self._garbage(known.id, fault)
        if taken is not None and (known.listing is None or taken.at >= known.listing.at):
            known.listing = taken

    def _facts(
        self, post: Post, frame: Frame, values: Mapping[str, float | None], faults: Sequence[str]
    ) -> None:
        known = self._at(post, frame.ordinal)
        if known is None:
            return
        for fault in faults:
            self._garbage(known.id, fault)
        for key, value in values.items():
            known.note_fact(key, value, frame.at, _STANDS * _EVERY_S.get(key, CLASSES_S[-1]))
        self._details.pop(known.id, None)

    def _event(self, post: Post, frame: Frame) -> None:
        kind, data, _, _ = layout.EVENT_BODY.unpack(frame.payload)
        known = self._at(post, frame.ordinal)
        if len(self._events) >= _EVENTS_MAX:
            self.counters["dropped_events"] += 1
            return
        self._events.append(
            DriverEvent(
                kind=decode.event_kind(kind),
                at=frame.at,
                device=known.id if known is not None else None,
                code=data if data < 2**63 else None,
            )
        )

    def _garbage(self, subject: str, detail: str) -> None:
        self.counters["garbage"] += 1
        if len(self._passing) < 64:
            gap = Gap(source="nvml", subject=subject, kind=GapKind.GARBAGE, detail=detail)
            self._passing.append(gap)

    # --- which devices there are ---

    def _inventory(self, post: Post, entries: list[Entry]) -> None:
        post.entries = entries
        self._gone = None
        places = dict(self._places) if post.index is not None else self._kept_places(entries)
        for entry in entries:
            if entry.id is None:
                self._unnamed(entry)
                continue
            parent = entries[entry.parent].id if 0 <= entry.parent < len(entries) else None
            known = self._known.setdefault(entry.id, Known(id=entry.id, index=entry.index))
            index = entries[entry.parent].index if parent is not None else entry.index
            known.enrol(entry, parent, index)
            if not entry.flags & layout.IS_MIG_SLICE:
                places[entry.index] = entry.id
        self._settle(post, places)
        self._send_plan(post)

    def _kept_places(self, entries: list[Entry]) -> dict[int, DeviceId]:
        """Places that this inventory says nothing of: GPUs that hung, and those that cannot be opened."""
        silent = {e.index for e in entries if e.id is None} | set(self._crew.blames)
        return {index: ident for index, ident in self._places.items() if index in silent}

    def _unnamed(self, entry: Entry) -> None:
        """A GPU that cannot be opened or named: the one known at its place is lost or blind."""
        ident = self._places.get(entry.index)
        if ident is None or self._is_away:
            detail = f"index {entry.index}: {sighted.advice(entry.code)}"
            if entry.code == layout.SUCCESS:
                detail = f"index {entry.index} has no usable UUID"
            self._garbage("driver", detail)
            return
        known = self._known[ident]
        known.code, known.is_current = entry.code or layout.UNKNOWN, False

    def _settle(self, post: Post, places: dict[int, DeviceId]) -> None:
        """Compare with what was known: a new epoch, devices that are missing, slices that are gone."""
        listed = {entry.id for entry in post.entries}
        if post.index is None:
            for known in list(self._known.values()):
                if known.parent is not None:
                    if known.parent in listed and known.id not in listed:
                        del self._known[known.id]
                elif known.id not in listed and known.id not in places.values():
                    known.is_missing = True
        members = frozenset(self._known)
        if self._is_away or (places, members) != (self._places, self._members):
            self._epoch += 1
        self._places, self._members = places, members
        self._is_away = False

    # --- deadlines ---

    def _judge(self, post: Post, now: float) -> None:
        for mark in post.worker.marks():
            age_s = now - mark.since
            if mark.thread == layout.EVENTS or age_s <= self._deadline_s(post, mark):
                continue
            call = f"{symbol_name(mark.symbol)} has not returned for {age_s:.1f} s"
            index = self._blame(post, mark, call)
            self._crew.stuck(post, index, call, now)

    def _deadline_s(self, post: Post, mark: Mark) -> float:
        if not post.entries and post.served_at is None:
            return START_DEADLINE_S if mark.ordinal >= 0 else INIT_DEADLINE_S
        fast = mark.thread == layout.FAST
        return self._sampling.fast_deadline_s if fast else self._sampling.slow_deadline_s

    def _blame(self, post: Post, mark: Mark, call: str) -> int | None:
        """Index of the GPU the call is on, and mark it and its slices blind; None: on no GPU."""
        if mark.ordinal < 0:
            return None
        if not post.entries:
            index = mark.ordinal  # before the inventory a mark names the index
        else:
            if mark.ordinal >= len(post.entries):
                return None
            entry = post.entries[mark.ordinal]
            index = entry.index if entry.parent < 0 else post.entries[entry.parent].index
        gpu = self._places.get(index)
        for known in self._known.values():
            if gpu is not None and gpu in (known.id, known.parent):
                known.hung = call
                known.is_current = False
        return index

    def _lose(self, post: Post, now: float) -> None:
        """A child ended by itself: what it looked after is not seen until the next one serves."""
        for entry in post.entries:
            known = self._known.get(entry.id) if entry.id else None
            if known is not None:
                known.is_current = False
        if self._gone is not None and (
            self._gone[0] in _DRIVER_GONE or self._gone[0] == layout.INVENTORY_CHANGED
        ):
            self._is_away = self._is_away or self._gone[0] in _DRIVER_GONE
            self._crew.forget_blames(now)
        self._crew.ended(post, now)

    # --- to the children, to the loop ---

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
        payload = plan_payload(plan.period_s, plan.list_every_s, plan.list_gap_s, items)
        if wanted or payload != post.plan_sent:
            post.plan_sent = payload if post.worker.send(layout.PLAN, payload) else b""

    def _watch(self, now: float) -> None:
        """Watch the sockets of the children there are now; wake up in time for what is due."""
        wanted = {post.worker.fileno(): post.worker for post in self._crew.posts()}
        for fd, worker in list(self._watched.items()):
            if wanted.get(fd) is not worker:
                del self._watched[fd]
                worker.release(self._epoll)
        for fd, worker in wanted.items():
            if fd not in self._watched:
                self._epoll.register(fd, select.EPOLLIN)
                self._watched[fd] = worker
        self._timer.arm(min(SILENCE_S, max(0.01, self._crew.due_at(now) - now)))

    def _view(self, now: float) -> ProbeView:
        # One deadline for the call that hangs, one for the child that takes over the healthy devices.
        fresh_s = self._plan.period_s + 2 * self._sampling.fast_deadline_s
        devices: list[Device] = []
        listings: list[Listing] = []
        gaps = self._passing
        for known in sorted(self._known.values(), key=lambda k: (k.index, k.place)):
            sight = known.sight(now, fresh_s)
            devices.append(known.device(sight, now))
            if known.listing is not None:
                listings.append(known.listing)
            if (gap := known.gap(sight, now)) is not None:
                gaps.append(gap)
            self._detail(known, sight, now)
        gaps += self._own_gaps()
        view = ProbeView(
            devices=tuple(devices),
            listings=tuple(listings),
            events=tuple(self._events),
            gaps=tuple(gaps),
            epoch=self._epoch,
        )
        self._events, self._passing = [], []
        return view

    def _detail(self, known: Known, sight: Sight, now: float) -> None:
        if sight is not Sight.OK:
            self._details.pop(known.id, None)
        elif known.id not in self._details and known.facts:
            self._details[known.id] = {key: known.fact(key, now) for key in known.facts}

    def _own_gaps(self) -> list[Gap]:
        """What is wrong with the driver or the probe as a whole."""
        gaps: list[Gap] = []
        if self._gone is not None and self._gone[0] != layout.INVENTORY_CHANGED:
            code = self._gone[0]
            kind, detail = sighted.kind_of(code), sighted.advice(code)
            gaps.append(Gap(source="nvml", subject="driver", kind=kind, detail=detail))
        if self._crew.fault:
            gap = Gap(
                source="nvml",
                subject="probe",
                kind=GapKind.UNAVAILABLE,
                detail=self._crew.fault,
            )
            gaps.append(gap)
        if self._crew.is_off:
            detail = (
                f"NVML is off: {self._crew.left} probe children are stuck in the driver; "
                "kernel log and sysfs remain"
            )
            gaps.append(Gap(source="nvml", subject="driver", kind=GapKind.HUNG, detail=detail))
        for ordinal, code in self._event_codes.items():
            if code not in (layout.SUCCESS, layout.TIMEOUT):
                subject = "events" if ordinal == layout.NO_DEVICE else f"events {ordinal}"
                gaps.append(
                    Gap(
                        source="nvml",
                        subject=subject,
                        kind=sighted.kind_of(code),
                        detail=f"driver events: {layout.code_name(code)}",
                    )
                )
        return gaps
