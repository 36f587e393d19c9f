"""Merged windows on their way through the store: to the other aggregators, and to this one's next life.

Every aggregator has the same picture of all services: what it holds itself, and what the others have written. What
has been acknowledged to a node is in the store.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from google.protobuf.message import DecodeError

from gpuwarden.aggregator.archive import MINUTE_S, QUARTER_S
from gpuwarden.aggregator.committer import Committer
from gpuwarden.aggregator.lead import Lead
from gpuwarden.aggregator.picture import FINE_S, Picture
from gpuwarden.aggregator.slots import Slot
from gpuwarden.aggregator.store import Store
from gpuwarden.aggregator.store_windows import KeptWindow
from gpuwarden.errors import GpuwardenError
from gpuwarden.log import get_log
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.policy.fleet.parts import Share
from gpuwarden.wire.convert_window import of_cohort, of_window, to_cohort, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

WRITE_S = 5.0
READ_MAX = 2000
READ_PAGES_MAX = 200
OVERLAP_S = 15.0
"""Rows become visible in another order than they were stamped: a transaction takes at most STATEMENT_S."""
HEAL_S = 15.0
"""So long after the store was ill the others may not have written yet what they could not write."""
FINE_ROW_S = 0.0
"""What fine rows have for a length: it may grow with what is merged, and is no part of what a row is called."""
RECENT_MAX = 2000
"""Closed minutes a new leader writes, for the one before may not have."""


class WindowRelay:
    """One thread: that of ``Services``."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        picture: Picture,
        name: str,
        lead: Callable[[], Lead],
        *,
        is_shared: bool,
    ) -> None:
        """``name``: of this life of this aggregator. ``is_shared``: others may use the same store."""
        self._store = store
        self._committer = committer
        self._picture = picture
        self._name = name
        self._lead = lead
        self._is_shared = is_shared
        self._read_upto = 0.0
        self._ill_wall: float | None = None
        """When what the others hold could not be read last; None: since HEAL_S it can."""
        self._recent: list[Window] = []
        self._written_epoch: int | None = None
        self.failures = 0
        self.fault = "not read yet"
        """Why the picture is not whole; empty: it is."""

    def load(self, now_wall: float) -> None:
        """What was known before this life began; ``Unavailable`` when it cannot be read."""
        edge = (now_wall - FINE_S) // MINUTE_S * MINUTE_S
        coarse: dict[tuple[Cohort, float], pb.ServiceWindow] = {}
        quarters: set[tuple[Cohort, float]] = set()
        fine: list[tuple[str, pb.MergedWindow]] = []
        for row in self._rows(after=0.0, begin_after=0.0):
            message = _parsed(row)
            if message is None:
                self.failures += 1
            elif row.holder:
                fine.append((row.holder, message))
            elif row.length_s >= QUARTER_S:
                quarters.add((of_cohort(message.window.cohort), row.begin_wall))
                self._remember(message.window)
            else:
                coarse[of_cohort(message.window.cohort), row.begin_wall] = message.window
        for (cohort, minute), kept in coarse.items():
            if (cohort, minute // QUARTER_S * QUARTER_S) not in quarters:
                self._remember(kept)
        for holder, message in fine:
            window = of_window(message.window)
            minute = window.begin_wall // MINUTE_S * MINUTE_S
            if window.begin_wall >= edge:
                shares = _shares(message.nodes)
                self._picture.put_other(holder, message.window.revision, window, shares)
            elif (window.cohort, minute) not in coarse:
                self._picture.archive.put(_in_minute(window, minute))
        self.fault = ""

    def _remember(self, message: pb.ServiceWindow) -> None:
        self._picture.archive.load(
            of_cohort(message.cohort),
            message.begin_wall,
            message.length_s,
            message.SerializeToString(),
        )

    def _rows(self, *, after: float, begin_after: float) -> list[KeptWindow]:
        found: list[KeptWindow] = []
        for _ in range(READ_PAGES_MAX):
            rows = self._store.windows(
                touched_after=after,
                begin_after=begin_after,
                not_holder=self._name,
                limit=READ_MAX,
            )
            found += rows
            if len(rows) < READ_MAX:
                break
            after = rows[-1].touched
        if found:
            self._read_upto = max(self._read_upto, found[-1].touched)
        return found

    def write(self) -> bool:
        """What has changed here; whether all of it is in the store now."""
        changed = self._picture.changed()
        if not changed:
            return True
        rows = [row for slot in changed if (row := self._row(slot)) is not None]
        told = [(slot, slot.revision) for slot in changed]
        if not self._put(rows, None):
            return False
        for slot, revision in told:
            slot.told = max(slot.told, revision)
        return True

    def _row(self, slot: Slot) -> KeptWindow | None:
        window = slot.own()
        if window is None:
            return None
        message = pb.MergedWindow(
            window=to_window(window), nodes=[_to_share(s) for s in slot.shares.values()]
        )
        message.window.revision = slot.revision
        return KeptWindow(
            holder=self._name,
            cohort=_key(slot.cohort),
            begin_wall=slot.begin_wall,
            length_s=FINE_ROW_S,
            revision=slot.revision,
            body=message.SerializeToString(),
        )

    def read(self, now_wall: float) -> None:
        """What the others have written since."""
        if not self._is_shared:
            return
        try:
            rows = self._rows(
                after=max(0.0, self._read_upto - OVERLAP_S), begin_after=now_wall - FINE_S
            )
        except GpuwardenError as error:
            self.failures += 1
            self._ill_wall = now_wall
            self.fault = f"what other aggregators hold is not known: {error}"
            return
        if self._ill_wall is None or not 0 <= now_wall - self._ill_wall < HEAL_S:
            self._ill_wall, self.fault = None, ""
        for row in rows:
            message = _parsed(row) if row.holder else None
            if message is None:
                continue
            window = of_window(message.window)
            self._picture.put_other(
                row.holder, message.window.revision, window, _shares(message.nodes)
            )
            if row.holder < self._name:
                self._picture.yield_to(row.holder, window.cohort, window.begin_wall)

    def close(self, closed: Sequence[Window], now_wall: float, keep_s: float) -> None:
        """Minutes that are over: whoever leads writes them for the whole fleet, and lets go of what is too old."""
        self._recent = [*self._recent, *closed][-RECENT_MAX:]
        lead = self._lead()
        if not lead.is_ours:
            return
        is_new = self._written_epoch != lead.epoch
        if not self._recent or not (closed or is_new):
            return
        rows = [_coarse_row(window) for window in self._recent]
        if not self._put(rows, lead.epoch):
            return
        self._written_epoch, self._recent = lead.epoch, []
        fine, coarse = now_wall - 2 * FINE_S, now_wall - keep_s
        self._committer.do(lambda store: store.prune_windows(fine, coarse))

    def _put(self, rows: Sequence[KeptWindow], epoch: int | None) -> bool:
        future = self._committer.do(lambda store: store.put_windows(rows, epoch))
        try:
            future.result(WRITE_S)
        except (GpuwardenError, TimeoutError) as error:
            future.cancel()
            self.failures += 1
            reason = str(error) or "the store is slow"
            get_log().warning("service_windows_not_kept", reason=reason, rows=len(rows))
            return False
        return True


def _key(cohort: Cohort) -> bytes:
    return to_cohort(cohort).SerializeToString(deterministic=True)


def _coarse_row(window: Window) -> KeptWindow:
    return KeptWindow(
        holder="",
        cohort=_key(window.cohort),
        begin_wall=window.begin_wall,
        length_s=QUARTER_S if window.length_s >= QUARTER_S else MINUTE_S,
        revision=1,
        body=pb.MergedWindow(window=to_window(window)).SerializeToString(),
    )


def _in_minute(window: Window, minute: float) -> Window:
    return replace(window, begin_wall=minute, length_s=max(MINUTE_S, window.length_s))


def _parsed(row: KeptWindow) -> pb.MergedWindow | None:
    try:
        return pb.MergedWindow.FromString(row.body)
    except DecodeError:
        return None


def _to_share(share: Share) -> pb.NodeShare:
    return pb.NodeShare(
        node=share.node,
        revision=share.revision,
        requests=share.requests,
        errors=share.errors,
        latency_p99_s=share.latency_p99_s,
        throttled=share.throttled,
        tenant=share.tenant,
        devices=share.devices,
    )


def _shares(messages: Iterable[pb.NodeShare]) -> dict[str, Share]:
    return {
        each.node: Share(
            node=each.node,
            revision=each.revision,
            requests=each.requests,
            errors=each.errors,
            latency_p99_s=each.latency_p99_s if each.HasField("latency_p99_s") else None,
            throttled=each.throttled if each.HasField("throttled") else None,
            tenant=each.tenant,
            devices=tuple(each.devices),
        )
        for each in messages
    }
