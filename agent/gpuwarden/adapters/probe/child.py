"""The probe child: a process that may hang so that the agent never does.

Started fresh by ``worker`` with three descriptors: the frame socket, the request socket, the shared
memory. The main thread makes no NVML call: it watches the others' deadlines, and it ends the child in
order when the parent hangs up or on TERM. A thread that is stuck in the driver is waited for: a
killed NVML client has frozen GPUs (NVIDIA/dcgm-exporter#84).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import select
import signal
import sys
import threading
import time

from gpuwarden.adapters.probe import inventory, layout
from gpuwarden.adapters.probe.channel import Channel, frame
from gpuwarden.adapters.probe.events import WAIT_MS, EventLoop
from gpuwarden.adapters.probe.fast import FastLoop
from gpuwarden.adapters.probe.library import Library, Marks
from gpuwarden.adapters.probe.limits import Requests
from gpuwarden.adapters.probe.shared import Listed
from gpuwarden.adapters.probe.slow import SlowLoop
from gpuwarden.adapters.probe.symbols import NUMBERS

_PR_SET_NAME = 15
_WATCH_LATE_S = 0.005
_STACK_BYTES = 512 * 1024


class Options:
    """Command line of the child: written by ``worker`` alone, so it is taken as it comes."""

    def __init__(self, argv: list[str]) -> None:
        frames, requests, shared, fast, slow, library, only, skip, clock = argv
        self.frames_fd, self.requests_fd, self.shared_fd = int(frames), int(requests), int(shared)
        self.fast_deadline_s, self.slow_deadline_s = float(fast), float(slow)
        self.library = library or None
        self.only = frozenset(map(int, only.split(","))) if only else None
        self.skip = frozenset(map(int, skip.split(","))) if skip else frozenset()
        self.has_clock = clock == "clock"


class Child:
    """The threads and what they share."""

    def __init__(self, options: Options) -> None:
        self._options = options
        os.set_blocking(options.frames_fd, False)
        os.set_blocking(options.requests_fd, False)
        self._shared = mmap.mmap(options.shared_fd, layout.SHARED_BYTES)
        self._channel = Channel(options.frames_fd)
        # Nobody reads this pipe: once written to, it stays readable for every thread that polls it.
        self._stop_fd, self._stopper_fd = os.pipe()
        os.set_blocking(self._stopper_fd, False)
        self._marks = [Marks(self._shared, thread) for thread in range(layout.THREADS)]
        for marks in self._marks:
            marks.leave()

    def run(self) -> None:
        """From start to orderly end; returns when no thread is in the driver any more."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, not the terminal
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self._stopper_fd, warn_on_full_buffer=False)
        fast = threading.Thread(target=self._fast, name="fast", daemon=True)
        fast.start()
        self._watch()
        self.stop()
        fast.join()

    def stop(self) -> None:
        """Tell every thread to end; safe to call again."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._stopper_fd, b"s")

    def _fast(self) -> None:
        """The fast thread: load, initialise, take the inventory, then the loop; the last one out."""
        try:
            library = Library(self._options.library)
        except OSError:
            self._end(layout.LIBRARY_NOT_FOUND, 0)
            return
        code = inventory.start(library, self._marks[layout.FAST])
        if code != layout.SUCCESS:
            self._end(code, NUMBERS["nvmlInitWithFlags"])
            return
        try:
            self._serve(library)
        finally:
            library.call(self._marks[layout.FAST], -1, "nvmlShutdown")
            self.stop()

    def _serve(self, library: Library) -> None:
        marks, options, channel = self._marks, self._options, self._channel
        hello = inventory.hello(library, marks[layout.FAST])
        code, handles = inventory.devices(library, marks[layout.FAST], options.only, options.skip)
        if code != layout.SUCCESS:
            self._end(code, NUMBERS["nvmlDeviceGetCount_v2"])
            return
        records = b"".join(handle.record() for handle in handles)
        channel.send([frame(layout.HELLO, hello), frame(layout.INVENTORY, records)])
        listed = Listed(len(handles))
        fast = FastLoop(library, marks[layout.FAST], handles, channel, listed, self._stop_fd)
        requests = Requests(options.requests_fd, library, handles)
        slow = SlowLoop(
            library,
            marks[layout.SLOW],
            handles,
            channel,
            listed,
            fast.plan,
            requests,
            self._stop_fd,
        )
        events = EventLoop(
            library,
            marks[layout.EVENTS],
            handles,
            channel,
            self._stop_fd,
            has_clock=options.has_clock,
        )
        others = [
            threading.Thread(target=self._slow, args=(slow,), name="slow", daemon=True),
            threading.Thread(target=events.run, name="events", daemon=True),
        ]
        for thread in others:
            thread.start()
        try:
            fast.run()
        finally:
            self.stop()
            for thread in others:
                thread.join()
        if gone := fast.gone or slow.gone:
            self._end(*gone)

    def _slow(self, slow: SlowLoop) -> None:
        try:
            slow.run()
        finally:
            self.stop()

    def _end(self, code: int, number: int) -> None:
        """Say why, and end."""
        self._channel.send([frame(layout.GONE, layout.GONE_BODY.pack(code, number))])
        self.stop()

    def _watch(self) -> None:
        """Until told to stop: report calls past their deadline, rarer the longer they last."""
        deadlines = (
            self._options.fast_deadline_s,
            self._options.slow_deadline_s,
            self._options.slow_deadline_s + WAIT_MS / 1000,
        )
        said = [(0.0, 0.0)] * layout.THREADS  # (mark's since, age at which to speak again)
        poller = select.poll()
        poller.register(self._channel.fd, 0)  # hang-up and errors are always reported
        poller.register(self._stop_fd, select.POLLIN)
        wait_s = deadlines[0] / 2
        while not poller.poll(wait_s * 1000.0):
            now = time.monotonic()
            wait_s = deadlines[0] / 2
            for thread, deadline_s in enumerate(deadlines):
                since, _, number = layout.MARK.unpack_from(self._shared, thread * layout.MARK.size)
                last_since, due_s = said[thread]
                if since != last_since:
                    due_s = deadline_s
                if number and now - since > due_s:
                    self._channel.send([frame(layout.LATE, b"", part=thread)])
                    said[thread] = (since, min(2 * (now - since), now - since + 60.0))
                elif number and thread != layout.EVENTS:
                    wait_s = min(wait_s, max(since + due_s - now, 0.0) + _WATCH_LATE_S)


def main() -> None:
    """Entry point of the child process."""
    threading.stack_size(_STACK_BYTES)
    gc.disable()  # nothing here makes cycles; a collection would only cost pages and time
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"gpuwarden-probe", 0, 0, 0)
    Child(Options(sys.argv[1:])).run()
