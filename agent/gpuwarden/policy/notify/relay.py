"""Who wakes people of a node's incident, the node or the fleet's aggregator: one of them, and the node in doubt."""

from collections.abc import Set as AbstractSet
from dataclasses import replace

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.oncall import Book, Entry, Relay
from gpuwarden.policy.notify import hold, posts

AWAY = "the aggregator is not heard"
NOT_TAKEN = "the aggregator did not take it in time"
NOT_TOLD = "the aggregator did not say in time that anybody was told"


def advanced(
    cfg: OncallConfig,
    book: Book,
    wall: float,
    *,
    away_s: float | None,
    wait_s: float,
    told_s: float,
) -> Book:
    """Each incident is offered to the aggregator once somebody is to be woken, and taken back where nothing is
    heard of it by its deadline: from then on it is the node's. ``away_s``: for how long no aggregator that tells
    people was heard; None: it is heard."""
    fresh = {}
    for incident, entry in book.entries.items():
        if entry.is_message or (entry.relay is None and hold.why_held(cfg, book, entry, wall)):
            continue
        relay = _after(cfg, entry, wall, away_s, wait_s, told_s)
        if relay != entry.relay:
            fresh[incident] = replace(entry, relay=relay)
    return replace(book, entries={**book.entries, **fresh}) if fresh else book


def _after(
    cfg: OncallConfig,
    entry: Entry,
    wall: float,
    away_s: float | None,
    wait_s: float,
    told_s: float,
) -> Relay:
    relay = entry.relay
    if relay is not None and relay.own:
        return relay
    page = entry.pages[-1]
    if relay is None:
        own = "it was told here before" if posts.is_reached(entry) else ""
        own = own or ("" if away_s is None else AWAY)
        return Relay(page=page, since_wall=wall, own=own)
    if page != relay.page:
        return Relay(page=page, since_wall=wall, own="" if away_s is None else AWAY)
    since_s = wall - relay.since_wall
    if relay.is_told:
        # Somebody was woken. Nobody reminds them while the aggregator is away.
        is_lost = away_s is not None and away_s >= cfg.repeat_s and since_s >= cfg.repeat_s
        return replace(relay, own=AWAY) if is_lost else relay
    if not relay.is_taken and since_s >= wait_s:
        return replace(relay, own=NOT_TAKEN)
    return replace(relay, own=NOT_TOLD) if since_s >= told_s else relay


def heard(book: Book, taken: AbstractSet[str], told: AbstractSet[str]) -> Book:
    """What the aggregator has said of pages, by their names."""
    fresh = {}
    for incident, entry in book.entries.items():
        relay = entry.relay
        if relay is not None and relay.page in taken | told:
            fresh[incident] = replace(
                entry,
                relay=replace(relay, is_taken=True, is_told=relay.is_told or relay.page in told),
            )
    return replace(book, entries={**book.entries, **fresh}) if fresh else book


def is_waiting(book: Book) -> bool:
    """Whether a deadline runs."""
    return any(
        e.relay is not None
        and not e.relay.own
        and not e.relay.is_told
        and e.brief.closed_wall is None
        for e in book.entries.values()
    )
