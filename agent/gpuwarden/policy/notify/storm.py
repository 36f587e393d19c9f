"""Many messages through one sink within a short time become one; its end is told once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import (
    Book,
    Brief,
    Delivery,
    Entry,
    Notice,
    Post,
    Reason,
    Result,
    SinkBook,
    State,
    Storm,
)
from gpuwarden.policy.notify import posts
from gpuwarden.policy.notify.brief import cut
from gpuwarden.policy.notify.hold import rank
from gpuwarden.policy.notify.posts import WAKING

MEMBERS_MAX = 512
LINES_MAX = 10
LINE_MAX_CHARS = 160


def folded(cfg: OncallConfig, book: Book, name: str, ready: Sequence[Entry], wall: float) -> Book:
    """Messages that wait for a sink, folded where they are too many; ``ready``: whose they are."""
    waking = [e for e in ready if _wakes(e, name)]
    sink = book.sinks.get(name) or SinkBook(name=name)
    storm = sink.storm
    is_raging = storm is not None and (
        storm.post.state is State.DUE or wall - storm.last_wall < cfg.storm_window_s
    )
    recent = [at for at in sink.sent if at > wall - cfg.storm_window_s]
    are_few = len(waking) + len(recent) <= cfg.storm_notices
    if not waking or (are_few and not is_raging):
        return book
    if storm is None:
        post = Post(sink=name, reason=Reason.FIRST, serial=1, ordered_wall=wall)
        storm = Storm(key=f"storm-{name}-{int(wall):x}", since_wall=wall, members=(), post=post)
    entries = dict(book.entries)
    for entry in waking:
        entries[entry.incident] = _put_away(entry, name, storm, wall)
    worst = max((storm.severity, *(e.severity for e in waking)), key=rank)
    members = tuple(dict.fromkeys((*storm.members, *(e.incident for e in waking))))
    storm = replace(
        storm,
        members=members[-MEMBERS_MAX:],
        changes=storm.changes + len(waking),
        last_wall=wall,
        severity=worst,
    )
    return replace(book, entries=entries, sinks={**book.sinks, name: replace(sink, storm=storm)})


def _wakes(entry: Entry, name: str) -> bool:
    post = posts.of(entry, name)
    return post is not None and (
        post.reason in WAKING or (post.reason is Reason.RESOLVED and not post.is_reached)
    )


def _put_away(entry: Entry, name: str, storm: Storm, wall: float) -> Entry:
    post = posts.of(entry, name)
    if post is None:
        return entry
    line = Delivery(
        id=f"{entry.incident}/{name}/folded",
        incident=entry.incident,
        sink=name,
        reason=Reason.STORM_FOLDED,
        result=Result.FOLDED,
        wall=wall,
        detail=f"told with others as {storm.key}",
    )
    return posts.noted(posts.put(entry, replace(post, state=State.FOLDED)), line)


def advanced(cfg: OncallConfig, book: Book, wall: float) -> Book:
    """Storms that are over, that have grown, or that nobody has acknowledged, get a message."""
    sinks = dict(book.sinks)
    for name, sink in book.sinks.items():
        if sink.storm is not None:
            sinks[name] = replace(sink, storm=_advanced(cfg, book, sink.storm, wall))
    return replace(book, sinks=sinks)


def _advanced(cfg: OncallConfig, book: Book, storm: Storm, wall: float) -> Storm | None:
    post = storm.post
    standing = [e for e in _members(book, storm) if e.brief.closed_wall is None]
    if not standing:
        if post.reason is not Reason.RESOLVED:
            return replace(storm, post=posts.again(post, Reason.RESOLVED, wall))
        return storm if post.state is State.DUE else None
    if post.reason is Reason.RESOLVED:  # more came before its end was told
        reason = Reason.REPEAT if post.is_reached else Reason.FIRST
        return replace(storm, post=posts.again(post, reason, wall))
    if post.state is State.DUE or post.done_wall is None:
        return storm
    since_s = wall - post.done_wall
    has_grown = storm.changes > storm.told and since_s >= cfg.storm_window_s
    is_open = any(e.ack is None for e in standing)
    if has_grown or (is_open and since_s >= cfg.repeat_s):
        return replace(storm, post=posts.again(post, Reason.REPEAT, wall))
    return storm


def _members(book: Book, storm: Storm) -> list[Entry]:
    return [book.entries[m] for m in storm.members if m in book.entries]


def acked(book: Book, wall: float) -> Book:
    """Storms of which somebody now has everything in hand say so."""
    sinks = dict(book.sinks)
    for name, sink in book.sinks.items():
        storm = sink.storm
        if storm is None or not storm.post.is_reached:
            continue
        standing = [e for e in _members(book, storm) if e.brief.closed_wall is None]
        is_told = storm.post.reason in (Reason.ACKNOWLEDGED, Reason.RESOLVED)
        if standing and all(e.ack is not None for e in standing) and not is_told:
            post = posts.again(storm.post, Reason.ACKNOWLEDGED, wall)
            sinks[name] = replace(sink, storm=replace(storm, post=post))
    return replace(book, sinks=sinks)


def concluded(book: Book, notice: Notice, result: Result, wall: float) -> Book:
    """What became of a storm's message; who is in it has been told of when it was taken."""
    sink = book.sinks.get(notice.sink)
    if sink is None or sink.storm is None or sink.storm.key != notice.key.rpartition("/")[2]:
        return book
    serial = int(notice.id.rpartition("/")[2])
    storm = replace(sink.storm, post=posts.settled(sink.storm.post, serial, result, wall))
    entries = dict(book.entries)
    if result is Result.DELIVERED:
        storm = replace(storm, told=max(storm.told, notice.number))
        for entry in _members(book, storm):
            post = posts.of(entry, sink.name)
            if post is not None and post.state is State.FOLDED:
                entries[entry.incident] = posts.put(entry, replace(post, is_reached=True))
    sinks = {**book.sinks, sink.name: replace(sink, storm=storm)}
    return replace(book, entries=entries, sinks=sinks)


def notice(book: Book, storm: Storm, name: str, host: str, wall: float) -> Notice:
    """The message of a storm."""
    members = _members(book, storm)
    standing = [e for e in members if e.brief.closed_wall is None]
    shown = sorted(standing or members, key=lambda e: (-rank(e.severity), e.paged_wall))
    kinds = Counter(e.brief.fault or e.brief.rule or "other" for e in members)
    count = len(storm.members)
    words = ", ".join(f"{n} x {kind}" for kind, n in kinds.most_common(5))
    is_over = storm.post.reason is Reason.RESOLVED
    state = "all over" if not standing else f"{len(standing)} still stand"
    brief = Brief(
        incident=IncidentId(storm.key),
        summary=f"{count} incident{'' if count == 1 else 's'} on {host} ({words}); {state}",
        opened_wall=storm.since_wall,
        rule="storm",
        closed_wall=wall if is_over else None,
        outcome="all over" if is_over else "",
    )
    reason = storm.post.reason
    return Notice(
        id=f"{storm.key}/{name}/{storm.post.serial}",
        key=f"{host}/{storm.key}",
        sink=name,
        reason=Reason.STORM_FOLDED if reason in WAKING else reason,
        severity=storm.severity,
        severities=(storm.severity,),
        host=host,
        brief=brief,
        wall=wall,
        number=storm.changes,
        is_news=not storm.post.is_reached,
        folded=tuple(_line(e) for e in shown[:LINES_MAX]),
        folded_count=count,
        first_steps=(
            "gpuwarden incidents: what stands, newest first",
            "gpuwarden status: what is wrong with the node as a whole",
            "look for one cause: driver, power, cooling, network, a job that is everywhere",
        ),
    )


def _line(entry: Entry) -> str:
    return cut(f"{entry.severity} {entry.incident}: {entry.brief.summary}", LINE_MAX_CHARS)


def rebased(storm: Storm, jump_s: float) -> Storm:
    """The wall clock was set."""
    done = storm.post.done_wall
    post = replace(
        storm.post,
        ordered_wall=storm.post.ordered_wall + jump_s,
        done_wall=None if done is None else done + jump_s,
    )
    return replace(
        storm, since_wall=storm.since_wall + jump_s, last_wall=storm.last_wall + jump_s, post=post
    )
