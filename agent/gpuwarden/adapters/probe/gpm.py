"""GPM: what the multiprocessors, tensor cores, pipes and the memory did between two looks.

Hopper and later. A ratio is of the whole time since the last look, not of a moment: nothing is missed
between two scrapes. A device that cannot be measured leaves the list for good.
"""

from __future__ import annotations

import ctypes
import struct

from gpuwarden.adapters.probe import layout
from gpuwarden.adapters.probe.library import Handle, Library, Marks
from gpuwarden.adapters.probe.specs import GPM_METRICS

# nvmlGpmMetricsGet_t: version, count, two samples; the metrics follow.
_REQUEST = struct.Struct("@IIPP")
_METRICS_MAX = 333  # of the newest nvml.h: the struct is handed over whole, whatever is asked for
_SUPPORT = struct.Struct("@II")  # nvmlGpmSupport_t: version, whether it is
_VERSION = 1


class _Samples:
    """The last sample of one device and the one to take next."""

    def __init__(self, device: ctypes.c_void_p, slice_id: int | None) -> None:
        self.device = device
        self.slice_id = slice_id
        self.last = ctypes.c_void_p()
        self.next = ctypes.c_void_p()
        self.is_taken = False


class Gpm:
    """The GPM calls of one thread, on samples made once."""

    def __init__(self, library: Library, marks: Marks, handles: list[Handle]) -> None:
        self._library = library
        self._marks = marks
        self._handles = handles
        self._samples: dict[int, _Samples | None] = {}
        """By ordinal; ``None``: it cannot be measured."""
        each = layout.GPM_VALUE.size
        self._request = ctypes.create_string_buffer(_REQUEST.size + _METRICS_MAX * each)
        for place, metric in enumerate(GPM_METRICS):
            at = _REQUEST.size + place * each
            layout.GPM_VALUE.pack_into(self._request, at, metric.id, 0, 0.0)
        self._answer = slice(_REQUEST.size, _REQUEST.size + len(GPM_METRICS) * each)

    def read(self, ordinal: int) -> bytes:
        """Payload of a GPM frame: each metric with its code, over the time since the last call."""
        if ordinal not in self._samples:
            self._samples[ordinal] = self._open(ordinal)
        samples = self._samples[ordinal]
        if samples is None:
            return b""
        code = self._take(ordinal, samples)
        if code != layout.SUCCESS:
            samples.is_taken = False
            if code in (layout.NOT_SUPPORTED, layout.FUNCTION_NOT_FOUND):
                self._samples[ordinal] = None
            return b""
        payload = self._compare(ordinal, samples) if samples.is_taken else b""
        samples.last, samples.next, samples.is_taken = samples.next, samples.last, True
        return payload

    def _open(self, ordinal: int) -> _Samples | None:
        handle = self._handles[ordinal]
        if handle.flags & layout.IS_MIG_SLICE:
            code, slice_id = self._library.number(
                self._marks, ordinal, "nvmlDeviceGetGpuInstanceId", handle.pointer
            )
            if code != layout.SUCCESS or not 0 <= handle.parent < len(self._handles):
                return None
            found = _Samples(self._handles[handle.parent].pointer, slice_id)
        elif handle.flags & layout.IS_MIG_PARENT:
            return None  # measured slice by slice
        else:
            found = _Samples(handle.pointer, None)
        support = ctypes.create_string_buffer(_SUPPORT.pack(_VERSION, 0), _SUPPORT.size)
        code = self._call(ordinal, "nvmlGpmQueryDeviceSupport", found.device, support)
        if code != layout.SUCCESS or not _SUPPORT.unpack(support.raw)[1]:
            return None
        for sample in (found.last, found.next):
            if self._call(ordinal, "nvmlGpmSampleAlloc", ctypes.byref(sample)) != layout.SUCCESS:
                return None
        return found

    def _take(self, ordinal: int, samples: _Samples) -> int:
        if samples.slice_id is None:
            return self._call(ordinal, "nvmlGpmSampleGet", samples.device, samples.next)
        number = ctypes.c_uint(samples.slice_id)
        return self._call(ordinal, "nvmlGpmMigSampleGet", samples.device, number, samples.next)

    def _compare(self, ordinal: int, samples: _Samples) -> bytes:
        count = len(GPM_METRICS)
        last, following = samples.last.value or 0, samples.next.value or 0
        _REQUEST.pack_into(self._request, 0, _VERSION, count, last, following)
        if self._call(ordinal, "nvmlGpmMetricsGet", self._request) != layout.SUCCESS:
            return b""
        return self._request.raw[self._answer]

    def _call(self, ordinal: int, symbol: str, *args: object) -> int:
        return self._library.call(self._marks, ordinal, symbol, *args)
