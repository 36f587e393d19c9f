"""From raw NVML bytes to plain data, with the sanity rules: what cannot be is dropped and counted."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.specs import FIELDS, GPM_METRICS, NUMBERED, TEXTS, Out
from gpuwarden.model.device import ProcessUse
from gpuwarden.model.ids import DeviceId

PID_MAX = 4_194_304
"""Largest pid the kernel ever gives (include/linux/threads.h, PID_MAX_LIMIT)."""
_TOTAL_MAX = 1 << 50
_FIELD_FORMATS = tuple(struct.Struct("=" + letter) for letter in "dIQQqiH")
"""nvmlValueType_t: double, unsigned int, unsigned long, unsigned long long, signed long long, signed
int, unsigned short."""
_NO_FAILURE = frozenset({layout.SUCCESS, layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND})
_UINT, _ULL = 1, 3
_UNKNOWN = (0xFFFFFFFF, layout.NOT_AVAILABLE)
_BITS = struct.Struct("=Q")
_FACT_FORMATS = {letter: struct.Struct("=" + letter) for letter in ("B", "I", "Q", "i", "16s")}
_FIELD_BY_ID = {(field.id, field.scope): field for field in FIELDS}
_GPM_KEYS = {metric.id: metric.key for metric in GPM_METRICS}
_GPM_MOST = 101.0  # the driver rounds: a hundred and a little is a hundred
_LIST_KINDS = ("compute", "graphics", "mps")
_UUID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/")

_EVENTS = {
    0x1: "ecc-corrected",
    0x2: "ecc-uncorrected",
    0x8: "xid",
    0x10: "clock",
    0x100: "mig",
    0x200: "ecc-storm",
    0x400: "retirement",
    0x800: "retirement-failed",
    0x1000: "poison-contained",
    0x2000: "poison",
    0x4000: "lost",
    0x8000: "recovery-action",
}
"""nvmlEventType* of nvml.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One device of a child's inventory. ``id`` None: it could not be opened or named."""

    code: int
    index: int
    parent: int
    flags: int
    id: DeviceId | None
    name: str
    pci: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReading:
    """One memory record. ``fault`` says why the numbers cannot be true; then they are not to be used."""

    code: int
    total: int
    reserved: int
    used: int
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """One process list. ``code``: of the compute list, without which there is no list."""

    code: int
    memory: MemoryReading
    rows: tuple[ProcessUse, ...] = ()
    faults: tuple[str, ...] = ()


def text(raw: bytes) -> str:
    """A driver's string: up to the first NUL, printable, whatever its bytes."""
    shown = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in shown)


def inventory(payload: bytes) -> list[Entry]:
    """The devices of an INVENTORY frame; an unusable or doubled UUID names nothing."""
    found: list[Entry] = []
    seen: set[str] = set()
    for code, index, parent, flags, _, uuid, name, pci in layout.RECORD.iter_unpack(payload):
        ident: DeviceId | None = None
        if code == layout.SUCCESS:
            said = text(uuid)
            if said and said not in seen and _UUID_CHARS.issuperset(said):
                seen.add(said)
                ident = DeviceId(said)
        found.append(
            Entry(
                code=code,
                index=index,
                parent=parent,
                flags=flags,
                id=ident,
                name=text(name),
                pci=text(pci) or None,
            )
        )
    return found


def memory(record: bytes, offset: int = 0) -> MemoryReading:
    """One memory record, judged."""
    _, code, total, reserved, free, used = layout.MEMORY_RECORD.unpack_from(record, offset)
    fault = ""
    if code == layout.SUCCESS:
        if not 0 < total <= _TOTAL_MAX:
            fault = f"total of {total} bytes"
        elif used > total or reserved > total or free > total:
            fault = f"{used} used, {reserved} reserved, {free} free of {total} bytes"
    return MemoryReading(code=code, total=total, reserved=reserved, used=used, fault=fault)


def rows_part(payload: bytes) -> bytes:
    """What of a LIST frame tells the rows: equal bytes are equal rows."""
    return payload[layout.MEMORY_RECORD.size :]


def rows(device: DeviceId, payload: bytes) -> Rows:
    """The rows of a LIST frame: compute, graphics and MPS lists as one, each pid once.

    A size that the driver withholds (all ones) is None and beats nothing; rows that cannot be (a pid
    no kernel gives, more bytes than the device has) are dropped and said.
    """
    reading = memory(payload)
    head = layout.LIST_HEAD.unpack_from(payload, layout.MEMORY_RECORD.size)
    code, _, _, _, _, _, stride, _ = head
    if code != layout.SUCCESS:
        return Rows(code=code, memory=reading)
    start = layout.MEMORY_RECORD.size + layout.LIST_HEAD.size
    row = layout.ROW_535 if stride == layout.ROW_535.size else layout.ROW
    body = payload[start : start + (len(payload) - start) // row.size * row.size]
    sizes: dict[int, int | None] = {}
    faults: list[str] = []
    before_mps = sum(min(n, layout.ROWS_MAX) for c, n in _pairs(head)[:2] if c == layout.SUCCESS)
    clients = {pid for pid, *_ in row.iter_unpack(body[before_mps * row.size :])}
    for pid, _, used, *_ in row.iter_unpack(body):
        size = None if used == layout.NOT_AVAILABLE else used
        if not 0 < pid <= PID_MAX:
            faults.append(f"pid {pid} in a process list")
        elif size is not None and size > reading.total:
            faults.append(f"pid {pid} with {size} of {reading.total} bytes")
        elif size is not None:
            sizes[pid] = max(size, sizes.get(pid) or 0)
        else:
            sizes.setdefault(pid, None)
    told = sum(count for list_code, count in _pairs(head) if list_code == layout.SUCCESS)
    if told > len(body) // row.size:
        faults.append(f"{told} rows, of which {len(body) // row.size} were taken")
    return Rows(
        code=code,
        memory=reading,
        rows=tuple(
            ProcessUse(pid=None, raw_pid=pid, device=device, used_bytes=size, is_mps=pid in clients)
            for pid, size in sizes.items()
        ),
        faults=tuple(faults),
    )


def counts(head_raw: bytes, before: Mapping[str, float | str | None]) -> dict[str, float | None]:
    """Processes by kind of list, as the driver counts them; a list that was left out is as before."""
    head = layout.LIST_HEAD.unpack(head_raw)
    found: dict[str, float | None] = {}
    for kind, (code, count) in zip(_LIST_KINDS, _pairs(head), strict=True):
        key = f"processes:{kind}"
        old = before.get(key)
        if code == layout.LIST_SKIPPED:
            found[key] = old if isinstance(old, float) else None
        else:
            found[key] = float(count) if code == layout.SUCCESS else None
    return found


def _pairs(head: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(head[n], head[n + 1]) for n in (0, 2, 4)]


def facts(payload: bytes) -> tuple[dict[str, float | None], list[str]]:
    """Values of a FACTS frame by key, and what could not be believed. A failed call: key with None."""
    values: dict[str, float | None] = {}
    faults: list[str] = []
    offset = 0
    while offset + layout.FACT.size <= len(payload):
        number, code, length = layout.FACT.unpack_from(payload, offset)
        offset += layout.FACT.size
        answer = payload[offset : offset + length]
        offset += length
        if number >= len(NUMBERED):
            continue
        spec = NUMBERED[number]
        for out in spec.outs:
            is_told = code == layout.SUCCESS
            values[out.key] = _judge(out, answer, faults) if is_told else None
        if spec.verdict is not None:
            key, bad = spec.verdict
            values[key] = {layout.SUCCESS: 0.0, bad: 1.0}.get(code)
    return values, faults


def failures(payload: bytes) -> list[tuple[str, int]]:
    """Calls of a FACTS frame that failed, each with its code; what is not supported is no failure."""
    found: list[tuple[str, int]] = []
    offset = 0
    while offset + layout.FACT.size <= len(payload):
        number, code, length = layout.FACT.unpack_from(payload, offset)
        offset += layout.FACT.size + length
        if code not in _NO_FAILURE and number < len(NUMBERED):
            found.append((NUMBERED[number].symbol, code))
    return found


def gpm(payload: bytes) -> tuple[dict[str, float | None], list[str]]:
    """Ratios of a GPM frame by key, and what could not be believed."""
    values: dict[str, float | None] = {}
    faults: list[str] = []
    usable = len(payload) // layout.GPM_VALUE.size * layout.GPM_VALUE.size
    for number, code, percent in layout.GPM_VALUE.iter_unpack(payload[:usable]):
        key = _GPM_KEYS.get(number)
        if key is None:
            continue
        values[key] = None
        if code != layout.SUCCESS:
            continue
        if 0.0 <= percent <= _GPM_MOST:
            values[key] = min(1.0, percent / 100.0)
        elif not math.isnan(percent):  # which is what a device that did nothing may tell
            faults.append(f"{key} of {percent:g} %")
    return values, faults


def _judge(out: Out, answer: bytes, faults: list[str]) -> float | None:
    (raw,) = _FACT_FORMATS[out.format].unpack_from(answer, out.offset)
    if isinstance(raw, bytes):
        return float(any(raw))
    if raw in (0xFFFFFFFF, layout.NOT_AVAILABLE):
        return None
    value = float(raw * out.scale)
    if not out.low <= value <= out.high:
        faults.append(f"{out.key} of {value:g}")
        return None
    return value


def fields(payload: bytes) -> tuple[dict[str, float | None], list[str]]:
    """Values of a FIELDS frame by key, and what could not be believed."""
    values: dict[str, float | None] = {}
    faults: list[str] = []
    usable = len(payload) // layout.FIELD_VALUE.size * layout.FIELD_VALUE.size
    field_of = _FIELD_BY_ID.get
    for number, scope, _, _, kind, code, bits in layout.FIELD_VALUE.iter_unpack(payload[:usable]):
        field = field_of((number, scope))
        if field is None:
            continue
        key, _, _, scale, high, _ = field
        values.setdefault(key, None)
        if code:
            continue
        if kind == _ULL:  # most of them; the others cost a pack and an unpack
            raw: float = bits
        elif kind == _UINT:
            raw = bits & 0xFFFFFFFF
        elif kind < len(_FIELD_FORMATS):
            (raw,) = _FIELD_FORMATS[kind].unpack_from(_BITS.pack(bits))
        else:
            faults.append(f"{key} of value type {kind}")
            continue
        if raw in _UNKNOWN:
            continue
        value = raw * scale
        if 0.0 <= value <= high:
            values[key] = value + (values[key] or 0.0)
        else:
            faults.append(f"{key} of {value:g}")
    return values, faults


def is_same_but_for_time(old: bytes, new: bytes) -> bool:
    """Whether two FIELDS frames tell the same: the driver stamps each value anew with when it was read."""
    if len(old) != len(new) or len(new) % layout.FIELD_VALUE.size:
        return False
    before, after = memoryview(old).cast("Q"), memoryview(new).cast("Q")
    # Words of a record: id and scope, time stamp, latency, type and return code, value.
    return before[4::5] == after[4::5] and before[3::5] == after[3::5] and before[::5] == after[::5]


def texts(payload: bytes) -> tuple[dict[str, str | None], list[str]]:
    """Strings of a TEXTS frame by key, None where the driver has none; nothing in them is doubted."""
    values: dict[str, str | None] = {}
    offset = 0
    while offset + layout.FACT.size <= len(payload):
        number, code, length = layout.FACT.unpack_from(payload, offset)
        offset += layout.FACT.size
        if number < len(TEXTS):
            said = text(payload[offset : offset + length])
            values[TEXTS[number].key] = said if code == layout.SUCCESS and said else None
        offset += length
    return values, []


def utilization(payload: bytes) -> Mapping[int, tuple[float, float, float, float]]:
    """Newest SM, memory, encoder and decoder ratios by pid; impossible percentages are left out."""
    newest: dict[int, tuple[int, tuple[float, float, float, float]]] = {}
    usable = len(payload) // layout.UTILIZATION_SAMPLE.size * layout.UTILIZATION_SAMPLE.size
    for pid, _, stamp, *ratios in layout.UTILIZATION_SAMPLE.iter_unpack(payload[:usable]):
        if not 0 < pid <= PID_MAX or max(ratios) > 100:
            continue
        if pid not in newest or stamp > newest[pid][0]:
            sm, mem, enc, dec = (ratio / 100.0 for ratio in ratios)
            newest[pid] = (stamp, (sm, mem, enc, dec))
    return {pid: ratios for pid, (_, ratios) in newest.items()}


def event_kind(kind: int) -> str:
    """The word for an NVML event type."""
    return _EVENTS.get(kind, "other")
