"""What the probe knows of the devices: fills itself from frames, keyed by UUID; an index may move."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gpuwarden.adapters.probe import decode, layout, sighted
from gpuwarden.adapters.probe.crew import Post
from gpuwarden.adapters.probe.decode import Entry
from gpuwarden.adapters.probe.sighted import FactSet, Known
from gpuwarden.adapters.probe.specs import period_s
from gpuwarden.adapters.probe.worker import Frame
from gpuwarden.model.device import Device, DriverEvent, Listing, Sight
from gpuwarden.model.health import SPEAKS_PERIODS, DriverVersions
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.model.views import ProbeView

_EVENTS_MAX = 1024
_PASSING_MAX = 64
_STANDS = SPEAKS_PERIODS
"""A slow fact stands for so many periods of its class; then it is withdrawn, not repeated."""
_LIST_HEAD = slice(layout.MEMORY_RECORD.size, layout.MEMORY_RECORD.size + layout.LIST_HEAD.size)
_COUNTS_STAND_S = 10.0
_FOREVER_S = float("inf")
"""Strings are told once a child; they stand until the next one tells them."""
Decoder = Callable[[bytes], tuple[Mapping[str, float | str | None], Sequence[str]]]
_FACTS: Mapping[int, Decoder] = {
    layout.FACTS: decode.facts,
    layout.GPM: decode.gpm,
    layout.FIELDS: decode.fields,
    layout.TEXTS: decode.texts,
}
"""Frames of slow facts, and what reads them."""


class Book:
    """The newest of everything. The loop's thread only."""

    def __init__(self, process_top: int = 0) -> None:
        self._process_top = process_top
        self._known: dict[DeviceId, Known] = {}
        self._places: dict[int, DeviceId] = {}
        """Which GPU sits at which index."""
        self._members: frozenset[DeviceId] = frozenset()
        self.epoch = 0
        self.is_away = False
        """The driver went away since the last inventory."""
        self.gone: int | None = None
        """Why the last child ended by itself; None since the next one took its inventory."""
        self._events: list[DriverEvent] = []
        self._passing: list[Gap] = []
        """Gaps told once: garbage seen since the last view."""
        self.event_codes: dict[str, int] = {}
        """Newest return codes of the event sets and of the devices in them, by what a gap calls them."""
        self.details: dict[DeviceId, Mapping[str, float | str | None]] = {}
        self.driver_version = ""
        self.nvml_version = ""
        self.cuda_version = 0
        self.counters: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Calls that failed, by ``symbol/code``."""

    def take(self, post: Post, frame: Frame) -> None:
        """Fold one frame in; bytes that do not fit their layout are garbage, counted and dropped."""
        self.counters["frames"] += 1
        try:
            self._frame(post, frame)
        except (layout.Error, IndexError, ValueError) as error:
            self.garbage("probe", f"frame {frame.kind}: {error}")

    def renew(self, post: Post, finished: float) -> None:
        """A pass of this child ended then and everything it saw has been taken: sizes still hold."""
        for entry in post.entries:
            known = self._known.get(entry.id) if entry.id else None
            if known is not None and known.is_current and known.at is not None:
                known.at = max(known.at, finished)

    def withdraw(self, post: Post) -> None:
        """This child ended: what it looked after is not seen until another one serves."""
        for entry in post.entries:
            known = self._known.get(entry.id) if entry.id else None
            if known is not None:
                known.is_current = False

    def blame(self, index: int, call: str) -> None:
        """A call on this GPU does not return: it and its slices are blind until a sample comes."""
        gpu = self._places.get(index)
        for known in self._known.values():
            if gpu is not None and gpu in (known.id, known.parent):
                known.hung = call
                known.is_current = False

    def has_place(self, index: int) -> bool:
        """Whether the GPU at this index is known by its UUID."""
        return index in self._places

    def get(self, device: DeviceId) -> Known | None:
        return self._known.get(device)

    def _frame(self, post: Post, frame: Frame) -> None:
        decoded = _FACTS.get(frame.kind)
        if decoded is not None:
            self._facts(post, frame, decoded)
            return
        match frame.kind:
            case layout.MEMORY:
                self._memory(post, frame)
            case layout.LIST:
                self._list(post, frame)
            case layout.PROCESS_UTILIZATION:
                if (known := self._at(post, frame.ordinal)) is not None:
                    known.utilization = dict(decode.utilization(frame.payload))
                    if known.utilization:
                        ratios = {pid: each[0] for pid, each in known.utilization.items()}
                        known.cores = frame.at, ratios
            case layout.EVENT:
                self._event(post, frame)
            case layout.EVENT_MASK:
                _, code, _, _ = layout.EVENT_BODY.unpack(frame.payload)
                known = self._at(post, frame.ordinal)
                whole = "events" if post.index is None else f"events of GPU {post.index}"
                self.event_codes[whole if known is None else f"events {known.id}"] = code
            case layout.HELLO:
                driver, nvml, cuda = layout.HELLO_BODY.unpack(frame.payload)
                self.driver_version, self.nvml_version = decode.text(driver), decode.text(nvml)
                self.cuda_version = cuda
            case layout.INVENTORY:
                self._inventory(post, decode.inventory(frame.payload), frame.at)
            case layout.GONE:
                self.gone, _ = layout.GONE_BODY.unpack(frame.payload)

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
                self.garbage(known.id, reading.fault)
            if reading.code != layout.SUCCESS:
                self.failed("nvmlDeviceGetMemoryInfo_v2", reading.code)
            known.sample(reading, frame.at)

    def _list(self, post: Post, frame: Frame) -> None:
        known = self._at(post, frame.ordinal)
        if known is None:
            return
        taken, faults = sighted.listing(known, frame.payload, frame.at)
        for fault in faults:
            self.garbage(known.id, fault)
        if known.list_code != layout.SUCCESS:
            self.failed("nvmlDeviceGetComputeRunningProcesses_v3", known.list_code)
        if taken is not None and (known.listing is None or taken.at >= known.listing.at):
            known.listing = taken
            self._count(known, frame)

    def _count(self, known: Known, frame: Frame) -> None:
        """How many processes of each kind its newest list has."""
        name = (layout.LIST, 0)
        old = known.facts.get(name)
        head = frame.payload[_LIST_HEAD]
        until = frame.at + _COUNTS_STAND_S
        if self._process_top:
            self.details.pop(known.id, None)
        if old is not None and old.raw == head:
            old.at, old.until = frame.at, until
            return
        values = decode.counts(head, old.values if old is not None else {})
        if old is None or old.values != values:
            self.details.pop(known.id, None)
        known.facts[name] = FactSet(raw=head, values=values, at=frame.at, until=until)

    def _facts(self, post: Post, frame: Frame, decoded: Decoder) -> None:
        known = self._at(post, frame.ordinal)
        if known is None:
            return
        kind, part, _, at, payload = frame
        until = at + (_STANDS * period_s(part) if kind != layout.TEXTS else _FOREVER_S)
        self.details.pop(known.id, None)
        facts = known.facts.get((kind, part))
        if facts is not None and _is_same(kind, facts.raw, payload):
            facts.at, facts.until = at, until
        else:
            values, faults = decoded(payload)
            for fault in faults:
                self.garbage(known.id, fault)
            failed = decode.failures(payload) if kind == layout.FACTS else ()
            facts = FactSet(raw=payload, values=values, at=at, until=until, failed=failed)
        known.take_facts(kind, part, facts)
        for symbol, code in facts.failed:
            self.failed(symbol, code)

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

    def failed(self, symbol: str, code: int) -> None:
        """One call failed; a code that nvml.h does not name is counted with the others of its sort."""
        self.failures[f"{symbol}/{layout.CODE_NAMES.get(code, 'other')}"] += 1

    def garbage(self, subject: str, detail: str) -> None:
        self.counters["garbage"] += 1
        if len(self._passing) < _PASSING_MAX:
            gap = Gap(source="nvml", subject=subject, kind=GapKind.GARBAGE, detail=detail)
            self._passing.append(gap)

    # --- which devices there are ---

    def _inventory(self, post: Post, entries: list[Entry], at: float) -> None:
        post.entries = entries
        self.gone = None
        places = dict(self._places) if post.index is not None else self._kept_places(post, entries)
        for entry in entries:
            if entry.id is None:
                self._unnamed(entry)
                continue
            parent = entries[entry.parent].id if 0 <= entry.parent < len(entries) else None
            known = self._known.setdefault(
                entry.id, Known(id=entry.id, index=entry.index, since=at)
            )
            index = entries[entry.parent].index if parent is not None else entry.index
            known.enrol(entry, parent, index)
            if not entry.flags & layout.IS_MIG_SLICE:
                places[entry.index] = entry.id
        self._settle(post, places)

    def _kept_places(self, post: Post, entries: list[Entry]) -> dict[int, DeviceId]:
        """Places that this inventory says nothing of: GPUs that hung, and those that cannot be opened."""
        silent = {e.index for e in entries if e.id is None} | set(post.worker.start.skip)
        return {index: ident for index, ident in self._places.items() if index in silent}

    def _unnamed(self, entry: Entry) -> None:
        """A GPU that cannot be opened or named: the one known at its place is lost or blind."""
        ident = self._places.get(entry.index)
        if ident is None or self.is_away:
            detail = f"index {entry.index}: {sighted.advice(entry.code)}"
            if entry.code == layout.SUCCESS:
                detail = f"index {entry.index} has no usable UUID"
            self.garbage("driver", detail)
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
        if self.is_away or (places, members) != (self._places, self._members):
            self.epoch += 1
        self._places, self._members = places, members
        self.is_away = False

    def view(self, now: float, fresh_s: float) -> ProbeView:
        """Everything as of ``now``; events and passing gaps are told once."""
        devices: list[Device] = []
        listings: list[Listing] = []
        gaps = self._passing
        for known in sorted(self._known.values(), key=lambda k: (k.index, k.place)):
            if known.at is None and not known.code and now - known.since <= fresh_s:
                continue  # its first sample is on its way: neither seen nor unseen yet
            sight = known.sight(now, fresh_s)
            devices.append(known.device(sight, now))
            if known.listing is not None:
                listings.append(known.listing)
            if (gap := known.gap(sight, now)) is not None:
                gaps.append(gap)
            self._detail(known, sight, now)
        view = ProbeView(
            devices=tuple(devices),
            listings=tuple(listings),
            events=tuple(self._events),
            gaps=tuple(gaps),
            epoch=self.epoch,
            driver=self.versions(),
            utilization={k.id: k.cores for k in self._known.values() if k.cores[1]},
        )
        self._events, self._passing = [], []
        return view

    def _detail(self, known: Known, sight: Sight, now: float) -> None:
        if sight is not Sight.OK:
            self.details.pop(known.id, None)
        elif known.id not in self.details and known.facts:
            self.details[known.id] = known.details(now, self._process_top)

    def versions(self) -> DriverVersions | None:
        """Of driver and library; None before the first child has told either, or why it cannot."""
        is_refused = self.gone == layout.LIB_RM_VERSION_MISMATCH
        if not (self.driver_version or self.nvml_version or is_refused):
            return None
        return DriverVersions(
            driver=self.driver_version, library=self.nvml_version, is_refused=is_refused
        )

    def own_gaps(self) -> list[Gap]:
        """What is wrong with the driver as a whole, and with its events."""
        gaps: list[Gap] = []
        if self.gone is not None and self.gone != layout.INVENTORY_CHANGED:
            kind, detail = sighted.kind_of(self.gone), sighted.advice(self.gone)
            gaps.append(Gap(source="nvml", subject="driver", kind=kind, detail=detail))
        for subject, code in self.event_codes.items():
            if code not in (layout.SUCCESS, layout.TIMEOUT):
                gaps.append(
                    Gap(
                        source="nvml",
                        subject=subject,
                        kind=sighted.kind_of(code),
                        detail=f"driver events: {layout.code_name(code)}",
                    )
                )
        return gaps


def _is_same(kind: int, old: bytes, new: bytes) -> bool:
    """Whether a frame of slow facts tells what the one before it told."""
    return old == new or (kind == layout.FIELDS and decode.is_same_but_for_time(old, new))
