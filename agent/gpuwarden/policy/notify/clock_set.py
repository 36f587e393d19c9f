"""What is remembered in wall time, when the wall clock was set or the agent comes back."""

from dataclasses import replace

from gpuwarden.model.oncall import Book, Entry, SinkBook
from gpuwarden.policy.notify import storm
from gpuwarden.policy.notify.results import BACKOFF_MAX_S


def rebased(book: Book, jump_s: float) -> Book:
    """The wall clock was set: what was remembered moves with it."""

    def moved(at: float | None) -> float | None:
        return None if at is None else at + jump_s

    def entry(old: Entry) -> Entry:
        return replace(
            old,
            paged_wall=old.paged_wall + jump_s,
            begun_wall=moved(old.begun_wall),
            posts=tuple(
                replace(p, ordered_wall=p.ordered_wall + jump_s, done_wall=moved(p.done_wall))
                for p in old.posts
            ),
        )

    def sink(old: SinkBook) -> SinkBook:
        return replace(
            old,
            retry_wall=old.retry_wall + jump_s if old.retry_wall else 0.0,
            ok_wall=moved(old.ok_wall),
            failing_wall=moved(old.failing_wall),
            sent=tuple(at + jump_s for at in old.sent),
            storm=None if old.storm is None else storm.rebased(old.storm, jump_s),
        )

    return replace(
        book,
        entries={k: entry(e) for k, e in book.entries.items()},
        silences={
            k: replace(s, since_wall=s.since_wall + jump_s, until_wall=s.until_wall + jump_s)
            for k, s in book.silences.items()
        },
        sinks={k: sink(s) for k, s in book.sinks.items()},
        flaps={
            k: replace(f, walls=tuple(at + jump_s for at in f.walls)) for k, f in book.flaps.items()
        },
        refreshed={k: at + jump_s for k, at in book.refreshed.items()},
    )


def awoken(book: Book, wall: float) -> Book:
    """As read from disk: nothing of it lies in the future, whatever the clock did meanwhile."""
    ahead = [e.paged_wall for e in book.entries.values()]
    ahead += [at for s in book.sinks.values() for at in (s.ok_wall, s.failing_wall) if at]
    ahead += [at for f in book.flaps.values() for at in f.walls]
    late = max(ahead, default=wall) - wall
    if late > 0:
        book = rebased(book, -late)
    sinks = {
        k: replace(s, retry_wall=min(s.retry_wall, wall + BACKOFF_MAX_S))
        for k, s in book.sinks.items()
    }
    return replace(book, sinks=sinks)
