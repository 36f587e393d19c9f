"""The slow calls on a device: getters, field values, strings, utilisation of processes."""

from __future__ import annotations

import ctypes
import struct

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.specs import (
    CLASSES_S,
    DEEP_S,
    FIELDS,
    NUMBERED,
    OF_SLICES,
    SPECS,
    TEXTS,
    Field,
)
from gpuwarden.adapters.probe.symbols import NUMBERS

_FINAL = frozenset({layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND})
_TO_FALLBACK = frozenset(
    {layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND, layout.ARGUMENT_VERSION_MISMATCH}
)
_SAMPLES = 1024
_SETTLED_AFTER = 4
"""Passes in which a device says which fields it never has; then its answers are only passed on."""


class Call:
    """One slow call on one device, with its arguments and its buffer made once."""

    def __init__(self, library: Library, handle: Handle, number: int) -> None:
        self.spec = NUMBERED[number]
        self.number = number
        self.function = library.function(self.spec.symbol)
        self.mark = NUMBERS[self.spec.symbol]
        self.buffer = ctypes.create_string_buffer(self.spec.size)
        base = ctypes.addressof(self.buffer)
        self.args = (
            handle.pointer,
            *(ctypes.c_uint(value) for value in self.spec.ints),
            *(ctypes.c_void_p(base + offset) for offset in self.spec.pointers),
        )
        self.good = layout.FACT.pack(number, layout.SUCCESS, self.spec.size)

    def make(self, marks: Marks, ordinal: int) -> int:
        """Its return code; the answer is in the buffer when that is SUCCESS."""
        if self.function is None:
            return layout.FUNCTION_NOT_FOUND
        if self.spec.version:
            struct.pack_into("=I", self.buffer, 0, self.spec.version)
        marks.enter(ordinal, self.mark)
        return int(self.function(*self.args)) & 0xFFFFFFFF


class _Asked:
    """Field values asked for in one call, and the bytes of the question."""

    def __init__(self, fields: tuple[Field, ...], passes: int = 0) -> None:
        self.fields = fields
        self.passes = passes
        pack = layout.FIELD_VALUE.pack
        self.template = b"".join(pack(f.id, f.scope, 0, 0, 0, 0, 0) for f in fields)

    def without_final(self, raw: bytes) -> _Asked:
        """What to ask the next time: no field that this answer says can never be had."""
        answered = zip(self.fields, layout.FIELD_VALUE.iter_unpack(raw), strict=True)
        kept = tuple(
            field
            for field, (_, _, _, _, _, code, _) in answered
            # a field that this driver does not know yet, or a link that this device does not have
            if code not in _FINAL and code != layout.INVALID_ARGUMENT
        )
        return _Asked(kept, self.passes + 1)


class Facts:
    """The slow calls of one thread, on buffers made once."""

    def __init__(self, library: Library, marks: Marks, handles: list[Handle]) -> None:
        self._library = library
        self._marks = marks
        self._handles = handles
        numbers = {id(spec): number for number, spec in enumerate(NUMBERED)}
        self._fallbacks = {
            numbers[id(spec)]: numbers[id(spec.fallback)]
            for spec in SPECS
            if spec.fallback is not None
        }
        self._calls = {
            (ordinal, every_s): [
                Call(library, handle, number)
                for number, spec in enumerate(SPECS)
                if spec.every_s == every_s
                and (spec.symbol in OF_SLICES or not handle.flags & layout.IS_MIG_SLICE)
            ]
            for ordinal, handle in enumerate(handles)
            if handle.is_open
            for every_s in (*CLASSES_S, DEEP_S)
        }
        """What is asked of each device: a call that it can never answer leaves the list."""
        self._fields: dict[tuple[int, int], _Asked] = {}
        """What is asked of each device by class; a field that it can never answer leaves it."""
        self._samples = ctypes.create_string_buffer(_SAMPLES * layout.UTILIZATION_SAMPLE.size)
        self._seen_us = [0] * len(handles)
        # One entry more than asked for: the library has written one past the end on NVLink queries.
        self._values = ctypes.create_string_buffer((len(FIELDS) + 1) * layout.FIELD_VALUE.size)

    def read(self, ordinal: int, every_s: int) -> bytes:
        """Payload of a FACTS frame: each call of this class with its code and raw answer."""
        parts: list[bytes] = []
        never: list[Call] = []
        calls = self._calls.get((ordinal, every_s), [])
        for place, call in enumerate(calls):
            code = call.make(self._marks, ordinal)
            if code == layout.SUCCESS:
                parts += (call.good, call.buffer.raw)
                continue
            if code in _TO_FALLBACK and call.number in self._fallbacks:
                call = Call(self._library, self._handles[ordinal], self._fallbacks[call.number])
                calls[place] = call
                code = call.make(self._marks, ordinal)
            answer = call.buffer.raw if code == layout.SUCCESS else b""
            parts += (layout.FACT.pack(call.number, code & 0xFFFF, len(answer)), answer)
            if code in _FINAL or (call.spec.ints and code == layout.INVALID_ARGUMENT):
                never.append(call)
        self._marks.leave()
        for call in never:
            calls.remove(call)
        return b"".join(parts)

    def fields(self, ordinal: int, every_s: int) -> bytes:
        """Payload of a FIELDS frame: raw values of this class, asked for in one call."""
        asked = self._fields.get((ordinal, every_s))
        if asked is None:
            asked = _Asked(tuple(field for field in FIELDS if field.every_s == every_s))
            self._fields[ordinal, every_s] = asked
        if not asked.fields:
            return b""
        ctypes.memmove(self._values, asked.template, len(asked.template))
        code = self._library.call(
            self._marks,
            ordinal,
            "nvmlDeviceGetFieldValues",
            self._handles[ordinal].pointer,
            ctypes.c_int(len(asked.fields)),
            self._values,
        )
        if code != layout.SUCCESS:
            return b""
        raw = self._values.raw[: len(asked.template)]
        if asked.passes < _SETTLED_AFTER:
            self._fields[ordinal, every_s] = asked.without_final(raw)
        return raw

    def texts(self, ordinal: int) -> bytes:
        """Payload of a TEXTS frame: strings in the order of TEXTS, each with its length."""
        parts: list[bytes] = []
        for number, text in enumerate(TEXTS):
            code, value = self._library.text(
                self._marks, ordinal, text.symbol, text.size, self._handles[ordinal].pointer
            )
            parts.append(layout.FACT.pack(number, code & 0xFFFF, len(value)) + value)
        return b"".join(parts)

    def utilization(self, ordinal: int) -> bytes:
        """Payload of a PROCESS_UTILIZATION frame: samples newer than those of the last call."""
        count = ctypes.c_uint(_SAMPLES)
        code = self._library.call(
            self._marks,
            ordinal,
            "nvmlDeviceGetProcessUtilization",
            self._handles[ordinal].pointer,
            self._samples,
            ctypes.byref(count),
            ctypes.c_ulonglong(self._seen_us[ordinal]),
        )
        if code != layout.SUCCESS:  # NOT_FOUND: no sample newer than the last
            return b""
        size = layout.UTILIZATION_SAMPLE.size
        raw = self._samples.raw[: min(count.value, _SAMPLES) * size]
        for sample in layout.UTILIZATION_SAMPLE.iter_unpack(raw):
            self._seen_us[ordinal] = max(self._seen_us[ordinal], sample[2])
        return raw
