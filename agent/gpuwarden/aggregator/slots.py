"""Merged windows of the newest minutes, by cohort and begin: each node's counts once, whatever comes twice or late.

A node's window is kept as it came (bytes) for ``settle_s``, so that a revision can take its place; then only that it
came. What other aggregators have of the same span stands beside it, one window each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuwarden.evaluate.fast import sketch as sketches
from gpuwarden.evaluate.fast.window import merge
from gpuwarden.model.evaluation import Cohort, Window
from gpuwarden.policy.fleet.parts import Share
from gpuwarden.wire.convert_window import of_window, to_window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

LATENCY, THROTTLED = "latency_s", "gpu_throttled"
SHARE_BYTES = 300
BIN_BYTES, NUMBER_BYTES, WINDOW_BYTES = 40, 120, 600
"""What an entry of a dict of small whole numbers, one of a float or level, and an empty window take (CPython 3.11)."""


def share_of(node: str, window: Window, tenant: str, devices: tuple[str, ...]) -> Share:
    sketch, throttled = window.sketches.get(LATENCY), window.levels.get(THROTTLED)
    return Share(
        node=node,
        revision=window.revision,
        requests=window.counts.get("requests", 0.0),
        errors=window.counts.get("errors", 0.0),
        latency_p99_s=None if sketch is None else sketches.quantile(sketch, 0.99),
        throttled=None if throttled is None else throttled.total / throttled.count,
        tenant=tenant,
        devices=devices,
    )


def size_of(window: Window) -> int:
    """About how many bytes of memory it takes."""
    many = sum(len(s.bins) + len(s.negatives) for s in window.sketches.values())
    many += 2 * sum(len(each.counts) for each in window.categories.values())
    numbers = len(window.counts) + len(window.levels)
    bounds = sum(len(h.bounds) for h in window.histograms.values())
    return WINDOW_BYTES + BIN_BYTES * many + NUMBER_BYTES * numbers + 2 * BIN_BYTES * bounds


@dataclass(slots=True)
class Slot:
    """One cohort, one begin."""

    cohort: Cohort
    begin_wall: float
    parts: dict[str, bytes] = field(default_factory=dict)
    """By node held here, its window as it came, until it is settled."""
    shares: dict[str, Share] = field(default_factory=dict)
    """By node held here."""
    others: dict[str, tuple[int, Window, Mapping[str, Share]]] = field(default_factory=dict)
    """By other aggregator: the revision, its merged window, and whose are in it."""
    revision: int = 0
    """Of what is merged here; grows with each change."""
    told: int = 0
    """Up to which revision it is in the store."""
    is_settled: bool = False
    size: int = 0
    _own: Window | None = None
    _waiting: list[Window] = field(default_factory=list)
    _whole: Window | None = None

    def put(self, share: Share, window: Window, data: bytes = b"") -> str:
        """Take a window (``data``: the same as a message); why not (``duplicate``, ``late``), or empty."""
        before = self.shares.get(share.node)
        if before is not None and before.revision >= share.revision:
            return "duplicate"
        for _, _, shares in self.others.values():
            if share.node in shares:
                is_same = shares[share.node].revision >= share.revision
                return "duplicate" if is_same else "late"
        if before is not None and self.is_settled:
            return "late"  # it is in the sum, and a sum cannot be taken apart
        if not self.is_settled:
            self.parts[share.node] = data or to_window(window).SerializeToString()
            self.size += len(self.parts[share.node])
        self.shares[share.node] = share
        self.size += size_of(window) + SHARE_BYTES
        if before is None:
            self._waiting.append(window)
        else:
            self._own, self._waiting = None, [_parsed(part) for part in self.parts.values()]
        self.revision += 1
        self._whole = None
        return ""

    def put_other(
        self, holder: str, revision: int, window: Window, shares: Mapping[str, Share]
    ) -> bool:
        """What another aggregator, or an earlier life of this one, has of it."""
        before = self.others.get(holder)
        if before is not None and before[0] >= revision:
            return False
        self.others[holder] = (revision, window, shares)
        self._whole = None
        return True

    def give_up(self, node: str) -> None:
        """Another aggregator has this node's window as well, and keeps it."""
        if self.parts.pop(node, None) is not None and self.shares.pop(node, None) is not None:
            self._own, self._waiting = None, [_parsed(part) for part in self.parts.values()]
            self.revision += 1
            self._whole = None

    def own(self) -> Window | None:
        """Of the nodes held here."""
        if self._waiting:
            before = [] if self._own is None else [self._own]
            self._own, self._waiting = merge([*before, *self._waiting], self.cohort), []
            self.measure()
        return self._own

    def whole(self) -> Window | None:
        """Of all nodes."""
        if self._whole is None:
            mine = self.own()
            parts = [] if mine is None else [mine]
            parts += [window for _, window, _ in self.others.values()]
            self._whole = parts[0] if len(parts) == 1 else merge(parts, self.cohort)
        return self._whole

    def part(self, node: str) -> Window | None:
        """One node's window as it came; None: it is not held here, or settled."""
        data = self.parts.get(node)
        return None if data is None else _parsed(data)

    def every_share(self) -> dict[str, Share]:
        found: dict[str, Share] = {}
        for _, _, shares in self.others.values():
            found.update(shares)
        return {**found, **self.shares}

    def settle(self) -> None:
        """Of each node only its share stays."""
        self.own()
        self.parts.clear()
        self.measure()
        self.is_settled = True

    def measure(self) -> int:
        """About how much memory it takes."""
        parts = sum(len(part) for part in self.parts.values())
        windows = [w for w in (self._own, self._whole, *self._waiting) if w is not None]
        windows += [window for _, window, _ in self.others.values()]
        many = len(self.shares) + sum(len(shares) for _, _, shares in self.others.values())
        self.size = parts + sum(map(size_of, windows)) + SHARE_BYTES * many
        return self.size


def _parsed(data: bytes) -> Window:
    return of_window(pb.ServiceWindow.FromString(data))
