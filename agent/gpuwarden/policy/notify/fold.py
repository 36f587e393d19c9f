"""Pages and incidents as they come in, folded into the book."""

from collections.abc import Mapping
from dataclasses import replace

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Book, Brief, Entry, Page, Reason
from gpuwarden.policy.notify import posts
from gpuwarden.policy.notify.brief import ended
from gpuwarden.policy.notify.hold import counted, rank

ENTRIES_MAX = 512
PAGES_KEPT = 16


def taken(cfg: OncallConfig, book: Book, page: Page, brief: Brief, *, has_incident: bool) -> Book:
    """A page, once; ``brief`` is what is known of its incident now."""
    entry = book.entries.get(page.incident)
    if entry is None:
        return _opened(cfg, book, page, brief, is_message=not has_incident)
    if page.id in entry.pages:
        return book
    is_worse = rank(page.severity) > rank(entry.severity)
    entry = replace(
        entry,
        brief=brief,
        pages=(*entry.pages, page.id)[-PAGES_KEPT:],
        severity=page.severity if is_worse else entry.severity,
        severities=_with(entry.severities, page.severity) if is_worse else entry.severities,
        ack=None if is_worse else entry.ack,
    )
    reason = Reason.ESCALATED if is_worse else Reason.REPEAT
    told = sorted(_told_sinks(cfg, entry) if is_worse else {p.sink for p in entry.posts})
    for sink in told:
        entry = posts.order(entry, sink, reason, page.wall, is_news=True)
    return with_entry(book, entry)


def _opened(cfg: OncallConfig, book: Book, page: Page, brief: Brief, *, is_message: bool) -> Book:
    book = _with_room(book)
    if len(book.entries) >= ENTRIES_MAX:
        return replace(book, dropped=book.dropped + 1, dropped_wall=page.wall)
    entry = Entry(
        incident=page.incident,
        brief=brief,
        severity=page.severity,
        severities=(page.severity,),
        paged_wall=page.wall,
        pages=(page.id,),
        is_message=is_message,
    )
    book, entry = counted(cfg, book, entry, page.wall)
    return with_entry(book, entry)


def _with_room(book: Book) -> Book:
    """Where it is full, the oldest that is over and told of goes."""
    if len(book.entries) < ENTRIES_MAX:
        return book
    over = [e for e in book.entries.values() if e.brief.closed_wall and posts.is_settled(e)]
    if not over:
        return book
    oldest = min(over, key=lambda e: e.paged_wall)
    return replace(book, entries={k: e for k, e in book.entries.items() if k != oldest.incident})


def _told_sinks(cfg: OncallConfig, entry: Entry) -> set[str]:
    """Sinks of the steps that have begun, as far as they want to hear of it."""
    names = {name for step in cfg.steps[: entry.step + 1] for name in step.sinks}
    return {name for name in names if posts.takes(cfg, name, entry.severity)}


def _with(severities: tuple[str, ...], severity: str) -> tuple[str, ...]:
    return (*(s for s in severities if s != severity), severity)


def followed(book: Book, briefs: Mapping[IncidentId, Brief]) -> Book:
    """Incidents as they now read. What the page said stays the first sentence."""
    changed = {
        incident: replace(
            old,
            brief=replace(
                brief,
                summary=old.brief.summary,
                fault=old.brief.fault,
                pci=old.brief.pci,
                node=old.brief.node,
            ),
        )
        for incident, brief in briefs.items()
        if (old := book.entries.get(incident)) is not None and not old.is_message
    }
    return replace(book, entries={**book.entries, **changed}) if changed else book


def lost(book: Book, known: frozenset[IncidentId], wall: float) -> Book:
    """Of all that is open only ``known`` is still remembered by the agent: the rest is over."""
    gone = {
        entry.incident: replace(entry, brief=ended(entry.brief, wall))
        for entry in book.entries.values()
        if entry.brief.closed_wall is None and not entry.is_message and entry.incident not in known
    }
    return replace(book, entries={**book.entries, **gone}) if gone else book


def withdrawn(book: Book, incident: IncidentId) -> Book:
    """Somebody else tells of it, and nobody here has."""
    entry = book.entries.get(incident)
    if entry is None or posts.is_reached(entry):
        return book
    return replace(book, entries={k: e for k, e in book.entries.items() if k != incident})


def with_entry(book: Book, entry: Entry) -> Book:
    """The book with one entry replaced."""
    return replace(book, entries={**book.entries, entry.incident: entry})
