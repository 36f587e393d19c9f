"""The ``KernelLog`` port: what the reading thread has found, and how far it was dealt with."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from gpuwarden.adapters.kmsg.inbox import Inbox
from gpuwarden.adapters.kmsg.placefile import PlaceFile
from gpuwarden.adapters.kmsg.reader import NAME, Find, Reader
from gpuwarden.adapters.kmsg.source import Place
from gpuwarden.clock import Clock
from gpuwarden.model.kernel_record import KernelForgery
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.model.views import KernelView

NUMBERED = frozenset({"kmsg", "simulated"})
"""Sources whose places are numbers of records (``Ring``)."""
LOSS_SHOWN_S = 60.0
FORGERY_EVERY_S = 60.0
SAVE_EVERY_S, SAVE_IDLE_S = 0.1, 30.0
"""How often a place is written: after records that were handed out, and when there were none."""


class NoKernelLog:
    """Where the operator wants none."""

    def drain(self, now: float) -> KernelView:
        return KernelView()

    def settle(self) -> None:
        return

    def filenos(self) -> Sequence[int]:
        return ()

    def counters(self) -> Mapping[tuple[str, str], int]:
        return {}

    def close(self) -> None:
        return


class KernelLogFollower:
    """The loop's thread only. What is handed out is the next agent's again until ``settle`` was called
    after it.
    """

    def __init__(self, find: Find, clock: Clock, file: PlaceFile, heard: int | None = None) -> None:
        """``heard``: the newest record of this boot that the journal knows was dealt with, -1 for none. What
        follows it is read again, wherever the last agent was: it alone is remembered. ``None``: the place
        in the file counts."""
        self._clock = clock
        self._file = file
        self._saved = _rewound(file.load(), heard)
        self._settled = self._drained = self._saved
        self._saved_at = clock.now()
        self._has_records = False
        self._lost_known = self._lost_shown = 0
        self._lost_at: float | None = None
        self._forgery_at: float | None = None
        self._inbox = Inbox()
        self._reader = Reader(find, clock, self._inbox, self._saved)

    def drain(self, now: float) -> KernelView:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._reader.wake)
        records, place, has_more = self._inbox.take()
        if has_more:
            os.eventfd_write(self._reader.wake, 1)
        self._has_records |= bool(records)
        self._drained = place or self._drained
        trust, blind = self._inbox.sight
        gaps = (blind, self._loss(now))
        return KernelView(
            records=records,
            trust=trust,
            gaps=tuple(gap for gap in gaps if gap is not None),
            forgery=self._forgery(now),
        )

    def settle(self) -> None:
        self._settled = self._drained
        if self._settled is None or self._settled == self._saved:
            return
        now = self._clock.now()
        if now - self._saved_at >= (SAVE_EVERY_S if self._has_records else SAVE_IDLE_S):
            self._saved_at, self._has_records = now, False
            if self._file.save(self._settled):
                self._saved = self._settled

    def filenos(self) -> Sequence[int]:
        return (self._reader.wake,)

    def counters(self) -> Mapping[tuple[str, str], int]:
        counts = asdict(self._inbox.counts)
        dropped = counts.pop("dropped")
        said = {(f"{NAME}_{name}", ""): count for name, count in counts.items()}
        said["dropped", NAME] = dropped
        said["errors", f"{NAME} place"] = self._file.failures
        return said

    def close(self) -> None:
        self._reader.close()
        if self._settled is not None and self._settled != self._saved:
            self._file.save(self._settled, is_last=True)

    def _loss(self, now: float) -> Gap | None:
        """What was overwritten, for a while after it was."""
        lost = self._inbox.counts.lost
        if lost != self._lost_known:
            self._lost_shown += lost - self._lost_known
            self._lost_known, self._lost_at = lost, now
        elif self._lost_at is None or now - self._lost_at > LOSS_SHOWN_S:
            self._lost_at, self._lost_shown = None, 0
            return None
        return Gap(
            source=NAME,
            subject="kernel records",
            kind=GapKind.GONE,
            detail=f"{self._lost_shown} were overwritten before they could be read",
        )

    def _forgery(self, now: float) -> KernelForgery | None:
        """At most once a minute; until then they are added up."""
        if self._forgery_at is not None and now - self._forgery_at < FORGERY_EVERY_S:
            return None
        forgery = self._inbox.accused()
        if forgery is not None:
            self._forgery_at = now
        return forgery


def _rewound(place: Place | None, heard: int | None) -> Place | None:
    """A place in a stream of numbered records, not beyond what was heard of it."""
    if place is None or heard is None or place.source not in NUMBERED or not place.at.isdecimal():
        return place
    if heard < 0:
        return None
    return replace(place, at=str(min(int(place.at), heard)))
