"""How on-call stands: whether somebody was reached, which sinks fail, and when to look again."""

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.oncall import Book, Entry, OncallState, SinkBook, SinkState, State
from gpuwarden.policy.notify import posts

ALIVE_WITHIN_S = 60.0
BUSY_LOOK_S = 5.0
IDLE_LOOK_S = 60.0
NAMED_MAX = 3
TOLD_FOR_S = 86_400.0
"""How long dropped pages are complained of."""


def unreached(cfg: OncallConfig, book: Book, wall: float, after_s: float) -> list[Entry]:
    """Incidents of which nobody could be told for so long, who should have been; oldest first."""
    found = [
        entry
        for entry in book.entries.values()
        if entry.begun_wall is not None
        and entry.held is None
        and entry.ack is None
        and entry.posts
        and not posts.is_reached(entry)
        and wall - entry.begun_wall >= after_s
    ]
    return sorted(found, key=lambda entry: entry.paged_wall)


def complaints(cfg: OncallConfig, book: Book, wall: float) -> tuple[str, ...]:
    """What does not work, in words: nobody reached, sinks that fail, pages there was no room for."""
    said = []
    nobody = unreached(cfg, book, wall, cfg.unreached_s)
    if nobody:
        longest = wall - min(e.begun_wall or wall for e in nobody)
        names = ", ".join(e.incident for e in nobody[:NAMED_MAX])
        more = f" and {len(nobody) - NAMED_MAX} more" if len(nobody) > NAMED_MAX else ""
        why = "; ".join(f"{s.name}: {s.detail}" for s in _failing(cfg, book))
        said.append(
            f"nobody could be told of {names}{more} for {longest / 60:.0f} min"
            + (f" ({why})" if why else "")
        )
    said += [
        f"on-call sink {s.name} has taken nothing for {(wall - s.failing_wall) / 60:.0f} min: {s.detail}"
        for s in _failing(cfg, book)
        if s.failing_wall is not None and wall - s.failing_wall >= cfg.unreached_s
    ]
    if book.dropped and wall - book.dropped_wall < TOLD_FOR_S:
        said.append(f"{book.dropped} pages were dropped: too many incidents at once")
    return tuple(said)


def _failing(cfg: OncallConfig, book: Book) -> list[SinkBook]:
    names = [sink.name for _, sink in cfg.sinks]
    found = [book.sinks[n] for n in names if n in book.sinks]
    return [s for s in found if s.failing_wall is not None]


def is_alive(cfg: OncallConfig, book: Book, wall: float) -> bool:
    """Whether pages arrive, as far as is known: what a dead man's switch is told."""
    return not unreached(cfg, book, wall, min(ALIVE_WITHIN_S, cfg.unreached_s))


def state(cfg: OncallConfig, book: Book, wall: float) -> OncallState:
    """For readers."""
    sinks = []
    for kind, sink in cfg.sinks:
        known = book.sinks.get(sink.name) or SinkBook(name=sink.name)
        due = sum(
            1
            for e in book.entries.values()
            for p in e.posts
            if p.sink == sink.name and p.state is State.DUE
        )
        sinks.append(
            SinkState(
                name=sink.name,
                kind=kind,
                due=due,
                ok_wall=known.ok_wall,
                failing_wall=known.failing_wall,
                detail=known.detail,
            )
        )
    return OncallState(
        sinks=tuple(sinks),
        silences=tuple(s for s in book.silences.values() if s.until_wall > wall),
        unreached=tuple(e.incident for e in unreached(cfg, book, wall, cfg.unreached_s)),
        dropped=book.dropped,
    )


def next_look(cfg: OncallConfig, book: Book, wall: float) -> float:
    """When something may become due by itself, in Unix seconds. Never far away while anything stands."""
    moments = [wall + (BUSY_LOOK_S if book.entries or book.silences else IDLE_LOOK_S)]
    if book.entries:
        moments += [wall + s.resend_s / 2 for s in cfg.alertmanager]
    moments += [s.retry_wall for s in book.sinks.values() if s.retry_wall > wall]
    for entry in book.entries.values():
        begun = entry.begun_wall
        if begun is not None and entry.ack is None and entry.brief.closed_wall is None:
            moments += [begun + s.after for s in cfg.steps if begun + s.after > wall]
    return min(moments)
