"""What became of messages, folded into the book; and how long a sink that fails is left alone."""

import hashlib
from dataclasses import replace

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.oncall import Book, Delivery, Notice, Reason, Result, SinkBook
from gpuwarden.policy.notify import posts, storm
from gpuwarden.policy.notify.brief import cut
from gpuwarden.policy.notify.fold import with_entry
from gpuwarden.policy.notify.posts import TRAITS, WAKING, sinks_by_name

SENT_KEPT = 1000
BACKOFF_FIRST_S = 5.0
BACKOFF_MAX_S = 300.0
RETRY_AFTER_MAX_S = 3600.0


def concluded(
    cfg: OncallConfig,
    book: Book,
    notice: Notice,
    result: Result,
    *,
    detail: str,
    wall: float,
    retry_after_s: float | None = None,
) -> Book:
    """What became of a message."""
    sinks = sinks_by_name(cfg)
    trait = sinks[notice.sink][0] if notice.sink in sinks else TRAITS["email"]
    sink = book.sinks.get(notice.sink) or SinkBook(name=notice.sink)
    sink = _sink_after(sink, notice, result, detail, wall, retry_after_s)
    wakes = notice.reason in WAKING or notice.reason is Reason.STORM_FOLDED
    if result is Result.DELIVERED and trait.folds and (wakes or notice.is_news):
        recent = [at for at in sink.sent if at > wall - cfg.storm_window_s]
        sink = replace(sink, sent=(*recent, wall)[-SENT_KEPT:])
    book = replace(book, sinks={**book.sinks, sink.name: sink})
    if notice.reason is Reason.REFRESH and result is Result.DELIVERED:
        mark = f"{notice.sink} {notice.brief.incident}"
        return replace(book, refreshed={**book.refreshed, mark: wall})
    if notice.reason in (Reason.REFRESH, Reason.TEST):
        return book
    if notice.folded_count:
        return storm.concluded(book, notice, result, wall)
    entry = book.entries.get(notice.brief.incident)
    post = posts.of(entry, notice.sink) if entry is not None else None
    if entry is None or post is None:
        return book
    serial = int(notice.id.rpartition("/")[2])
    entry = posts.put(entry, posts.settled(post, serial, result, wall))
    tries = post.tried + 1
    said = detail if tries == 1 else f"{detail} (try {tries})".strip()
    line = Delivery(
        id=_line_id(notice),
        incident=entry.incident,
        sink=notice.sink,
        reason=notice.reason,
        result=result,
        wall=wall,
        detail=cut(said, 200),
    )
    return with_entry(book, posts.noted(entry, line))


def _line_id(notice: Notice) -> str:
    """A repeat replaces the line of the one before it."""
    if notice.reason is Reason.REPEAT:
        return f"{notice.brief.incident}/{notice.sink}/repeat"
    return notice.id


def _sink_after(
    sink: SinkBook,
    notice: Notice,
    result: Result,
    detail: str,
    wall: float,
    retry_after_s: float | None,
) -> SinkBook:
    if result is Result.DELIVERED:
        return replace(
            sink, fails=0, retry_wall=0.0, ok_wall=wall, failing_wall=None, detail=cut(detail, 200)
        )
    since = wall if sink.failing_wall is None else sink.failing_wall
    failed = replace(sink, failing_wall=since, detail=cut(detail, 200))
    if result is not Result.FAILED:
        return failed
    wait_s = max(
        backoff_s(f"{notice.id}/{sink.fails}", sink.fails),
        min(retry_after_s or 0.0, RETRY_AFTER_MAX_S),
    )
    return replace(failed, fails=sink.fails + 1, retry_wall=wall + wait_s)


def backoff_s(seed: str, fails: int) -> float:
    """How long to wait after so many failures in a row: doubling, bounded, spread by the seed."""
    whole_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(fails, 16))
    share = int(hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()[:8], 16) / 2**32
    return float(whole_s * (0.5 + share / 2))
