"""Which children run: one for the healthy devices, one of its own for each that hung, and the stuck.

A child whose call does not return is left behind: pipe closed, TERM, never KILL. At most two are ever
left behind; a third stuck child is kept, still attached, and NVML is off until a call returns.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gpuwarden.adapters.probe.backoff import Backoff
from gpuwarden.adapters.probe.decode import Entry
from gpuwarden.adapters.probe.worker import Start, Worker
from gpuwarden.errors import Unavailable

LEFT_MAX = 2
LEAVE_S = 5.0
"""A child that was told to end and is still there after this is stuck in the driver."""
MERGE_AFTER_S = 60.0
"""A device that hung is taken back by the common child after its own has served it for so long."""


@dataclass(slots=True)
class Post:
    """A running child and what it was said to look after."""

    worker: Worker
    index: int | None = None
    """The one GPU it looks after; None: all that are not blamed."""
    entries: list[Entry] = field(default_factory=list)
    """Its inventory, in order of ordinals; empty until it came."""
    served_at: float | None = None
    """When its first memory frame came."""
    is_stuck: bool = False
    plan_sent: bytes = b""


@dataclass(slots=True)
class Blame:
    """A GPU that hung, by its index: out of the common child until its own has proven it well."""

    call: str
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=1.0))


@dataclass(slots=True)
class Leaver:
    """A child that was told to end."""

    worker: Worker
    since: float
    is_stuck: bool


class Crew:
    """The children. The loop's thread only."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._retry = Backoff(first_s=0.0)
        self.main: Post | None = None
        self.relief: Post | None = None
        """The next common child while the present one still serves."""
        self.own: dict[int, Post] = {}
        self.blames: dict[int, Blame] = {}
        self._leavers: list[Leaver] = []
        self.started_total = 0
        self.left_total = 0
        self.merge_after_s = MERGE_AFTER_S
        self.is_paused = False
        """No child is started: every device has been let go of."""
        self.fault = ""
        """Why no child could be started, the last time it was tried."""

    def posts(self) -> Iterator[Post]:
        """Every attached child."""
        for post in (self.main, self.relief):
            if post is not None:
                yield post
        yield from self.own.values()

    @property
    def left(self) -> int:
        """Children left behind, stuck in the driver."""
        return sum(leaver.is_stuck for leaver in self._leavers)

    @property
    def is_off(self) -> bool:
        """The healthy devices have no child that answers, and may have no other."""
        return self.main is not None and self.main.is_stuck and self.relief is None

    def tend(self, now: float) -> None:
        """Collect what ended, start what is due."""
        for leaver in list(self._leavers):
            if leaver.worker.has_ended() and leaver.worker.release():
                self._leavers.remove(leaver)
            leaver.is_stuck |= now - leaver.since > LEAVE_S
        if self.is_paused:
            return
        if self.main is None and self._retry.is_due(now):
            self.main = self._begin(now, None, self._retry)
        for index, blame in self.blames.items():
            if index not in self.own and blame.backoff.is_due(now):
                post = self._begin(now, index, blame.backoff)
                if post is not None:
                    self.own[index] = post
        self._merge(now)

    def due_at(self, now: float) -> float:
        """When ``tend`` has something to do at the latest."""
        times = [now + self.merge_after_s]
        if self.main is None and not self.is_paused:
            times.append(self._retry.due)
        if not self.is_paused:
            times += [b.backoff.due for i, b in self.blames.items() if i not in self.own]
        if self._leavers:
            times.append(now + 1.0)
        return min(times)

    def _begin(self, now: float, index: int | None, backoff: Backoff) -> Post | None:
        skip = tuple(sorted(self.blames)) if index is None else ()
        start = Start(
            library=self._start.library,
            fast_deadline_s=self._start.fast_deadline_s,
            slow_deadline_s=self._start.slow_deadline_s,
            only=() if index is None else (index,),
            skip=skip,
            has_clock_events=self._start.has_clock_events,
        )
        backoff.begin(now)
        try:
            worker = Worker(start, now)
        except Unavailable as error:
            self.fault = str(error)
            backoff.fail(now)
            return None
        self.fault = ""
        self.started_total += 1
        return Post(worker=worker, index=index)

    def ended(self, post: Post, now: float) -> None:
        """A child hung up by itself: its like follows, at once where this one had served for long."""
        self._dismiss(post, now)
        if post is self.relief:
            self.relief = None
        elif post is self.main:
            self.main, self.relief = self.relief, None
            self._retry.fail(now)
        elif post.index is not None and self.own.pop(post.index, None) is not None:
            blame = self.blames.setdefault(post.index, Blame(call="its probe child ended"))
            blame.backoff.fail(now)

    def stuck(self, post: Post, index: int | None, call: str, now: float) -> None:
        """A call of this child does not return: blame the GPU, replace the child."""
        if post.is_stuck:
            return
        if index is not None and index not in self.blames:
            self.blames[index] = Blame(call=call)
            self.blames[index].backoff.fail(now)
        if post.index is not None or self.left >= LEFT_MAX:
            post.is_stuck = True  # kept: when its call returns it goes on from there
            return
        self._dismiss(post, now, is_stuck=True)
        self.left_total += 1
        if post is self.relief:
            self.relief = None
            return
        self.main, self.relief = self.relief, None
        if index is None:
            self._retry.fail(now)  # it hung on no device: another would hang as well

    def forget_blames(self, now: float) -> None:
        """The devices are not those any more (driver reload): indexes say nothing now."""
        self.blames.clear()
        for post in self.own.values():
            self._dismiss(post, now)
        self.own.clear()

    def pause(self, now: float) -> None:
        """Tell every child to end, and start none before ``resume``."""
        self.is_paused = True
        for post in list(self.posts()):
            self._dismiss(post, now)
        self.main = self.relief = None
        self.own.clear()

    def resume(self, now: float) -> None:
        """Start anew: what was blamed may have been healed by what the pause was for."""
        if not self.is_paused:
            return
        self.is_paused = False
        self.blames.clear()
        self._retry = Backoff(first_s=0.0)

    def served(self, post: Post, now: float) -> None:
        """A good memory frame came from this child."""
        post.is_stuck = False
        if post.served_at is None:
            post.served_at = now
        if post is self.relief:
            if self.main is not None:
                self._dismiss(self.main, now)
            self.main, self.relief = self.relief, None
            for index in [i for i in self.own if i not in self.blames]:
                self._dismiss(self.own.pop(index), now)

    def _merge(self, now: float) -> None:
        """Give a device that has been well for long back to the common child, without a gap."""
        if self.main is None or self.main.is_stuck or self.relief or self.left:
            return
        well = [
            index
            for index, post in self.own.items()
            if not post.is_stuck
            and post.served_at is not None
            and now - post.served_at > self.merge_after_s
        ]
        if not well:
            return
        kept = {index: self.blames.pop(index) for index in well if index in self.blames}
        self.relief = self._begin(now, None, Backoff(first_s=0.0))
        for index in well:
            self.own[index].served_at = now  # not tried again before it has been well for as long
        if self.relief is None:
            self.blames.update(kept)

    def _dismiss(self, post: Post, now: float, *, is_stuck: bool = False) -> None:
        post.worker.hang_up()
        self._leavers.append(Leaver(worker=post.worker, since=now, is_stuck=is_stuck))

    def close(self, now: float, timeout_s: float) -> None:
        """End every child politely; whoever is stuck in the driver is left."""
        for post in self.posts():
            self._dismiss(post, now)
        self.main = self.relief = None
        self.own.clear()
        for leaver in self._leavers:
            leaver.worker.wait(0.0 if leaver.is_stuck else timeout_s)
            leaver.worker.release()
