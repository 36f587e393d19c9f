"""Who is told what now, and why: a fold over incidents and time."""

from collections.abc import Set as AbstractSet
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
    State,
)
from gpuwarden.policy.notify import hold, posts, storm
from gpuwarden.policy.notify.first_steps import first_steps
from gpuwarden.policy.notify.hold import rank
from gpuwarden.policy.notify.posts import WAKING, Trait, sinks_by_name

KEPT_S = 3600.0
"""What is over and told of is remembered so long: a page that is ordered again is known."""
GIVEN_UP_S = 3 * 86_400.0
"""What is over and could not be told of for so long is let go."""


def advance(cfg: OncallConfig, book: Book, wall: float) -> Book:
    """The book as of now: messages ordered where time or incidents ask for them."""
    silences = {k: s for k, s in book.silences.items() if s.until_wall > wall}
    book = book if len(silences) == len(book.silences) else replace(book, silences=silences)
    fresh: dict[IncidentId, Entry] = {}
    for incident, entry in book.entries.items():
        moved = _advanced(cfg, book, entry, wall)
        if not _is_finished(moved, wall):
            fresh[incident] = moved
    refreshed = {
        k: at for k, at in book.refreshed.items() if IncidentId(k.split(" ", 1)[1]) in fresh
    }
    book = replace(book, entries=fresh, refreshed=refreshed)
    return storm.advanced(cfg, book, wall)


def _advanced(cfg: OncallConfig, book: Book, entry: Entry, wall: float) -> Entry:
    sinks = sinks_by_name(cfg)
    if any(post.sink not in sinks for post in entry.posts):
        entry = replace(entry, posts=tuple(p for p in entry.posts if p.sink in sinks))
    entry = _held(cfg, book, entry, wall)
    is_over = entry.brief.closed_wall is not None
    if entry.begun_wall is None and (entry.held is None or is_over):
        entry = replace(entry, begun_wall=wall)
        if entry.held is None:  # over already or not: somebody was to be woken
            entry = _escalated(cfg, entry, wall)
    if is_over:
        return _ending(cfg, book, entry, wall)
    if entry.held is not None:
        return entry
    entry = _escalated(cfg, entry, wall)
    return entry if entry.is_message else _repeated(cfg, entry, wall)


def _held(cfg: OncallConfig, book: Book, entry: Entry, wall: float) -> Entry:
    """What holds it back now is written down when it begins."""
    why = hold.why_held(cfg, book, entry, wall)
    if why is None:
        return entry if entry.held is None else replace(entry, held=None, held_why="")
    reason, text = why
    if entry.held is reason:
        return entry
    line = Delivery(
        id=f"{entry.incident}/held/{reason}",
        incident=entry.incident,
        sink="",
        reason=reason,
        result=Result.HELD,
        wall=wall,
        detail=text[:200],
    )
    return posts.noted(replace(entry, held=reason, held_why=text[:200]), line)


def _escalated(cfg: OncallConfig, entry: Entry, wall: float) -> Entry:
    """The steps whose time has come; none once somebody has it in hand."""
    begun = wall if entry.begun_wall is None else entry.begun_wall
    for number, step in enumerate(cfg.steps):
        if number <= entry.step:
            continue
        if entry.ack is not None or wall < begun + step.after:
            break
        if entry.is_message and number > 0:
            break
        reason = Reason.FIRST if entry.step < 0 else Reason.ESCALATED
        entry = replace(entry, step=number)
        for name in step.sinks:
            if posts.takes(cfg, name, entry.severity):
                entry = posts.order(entry, name, reason, wall)
    return entry


def _repeated(cfg: OncallConfig, entry: Entry, wall: float) -> Entry:
    """What nobody has in hand is told again; what was refused, once more by then."""
    if entry.ack is not None:
        return entry
    sinks = sinks_by_name(cfg)
    for post in entry.posts:
        is_refused = post.state is State.REFUSED
        if not is_refused and (post.state is not State.SENT or not sinks[post.sink][0].repeats):
            continue
        if post.done_wall is not None and wall >= post.done_wall + cfg.repeat_s:
            reason = Reason.REPEAT if post.is_reached else Reason.FIRST
            entry = posts.put(entry, posts.again(post, reason, wall))
    return entry


def _ending(cfg: OncallConfig, book: Book, entry: Entry, wall: float) -> Entry:
    """It is over: whoever was told is told so, and whoever could not be told yet hears of both."""
    comes_again = hold.is_unsettled(cfg, book, entry.brief, wall)
    kept = []
    for post in entry.posts:
        if post.state is not State.FOLDED and post.reason is not Reason.RESOLVED:
            if post.is_reached:
                settled = replace(post, state=State.SENT) if post.state is State.DUE else post
                post = settled if comes_again else posts.again(post, Reason.RESOLVED, wall)
            elif entry.held is not None or entry.ack is not None:
                continue
            elif post.state is State.DUE:
                post = posts.again(post, Reason.RESOLVED, wall)
        kept.append(post)
    return entry if tuple(kept) == entry.posts else replace(entry, posts=tuple(kept))


def _is_finished(entry: Entry, wall: float) -> bool:
    ended = entry.paged_wall if entry.is_message else entry.brief.closed_wall
    if ended is None:
        return False
    return wall - ended > (GIVEN_UP_S if _owes(entry) else KEPT_S)


def _owes(entry: Entry) -> bool:
    """Whether anybody has still to be told something."""
    if entry.is_message and entry.held is not None:
        return True
    for post in entry.posts:
        if post.state is State.DUE or (post.state is State.FOLDED and not post.is_reached):
            return True
        has_end = post.reason is Reason.RESOLVED or post.state is State.FOLDED
        if post.is_reached and not has_end and not entry.is_message:
            return True
    return False


def orders(
    cfg: OncallConfig, book: Book, wall: float, *, busy: AbstractSet[str], host: str
) -> tuple[Book, tuple[Notice, ...]]:
    """At most one message for each sink that is not ``busy``; too many of them folded first."""
    notices = []
    for name, (trait, _) in sinks_by_name(cfg).items():
        sink = book.sinks.get(name)
        if name in busy or (sink is not None and sink.retry_wall > wall):
            continue
        if trait.folds:
            book = storm.folded(cfg, book, name, ready(book, name), wall)
        notice = _next(cfg, book, name, trait, wall, host)
        if notice is not None:
            notices.append(notice)
    return book, tuple(notices)


def ready(book: Book, name: str) -> list[Entry]:
    """Whose message to a sink may be sent: the least tried first, then the worst, then the oldest."""
    found = []
    for entry in book.entries.values():
        post = posts.of(entry, name)
        if post is None or post.state is not State.DUE:
            continue
        if entry.held is None or post.reason not in WAKING:
            found.append((post.tried, -rank(entry.severity), post.ordered_wall, entry))
    found.sort(key=lambda each: each[:3])
    return [entry for *_, entry in found]


def _next(
    cfg: OncallConfig, book: Book, name: str, trait: Trait, wall: float, host: str
) -> Notice | None:
    sink = book.sinks.get(name)
    if sink is not None and sink.storm is not None and sink.storm.post.state is State.DUE:
        return storm.notice(book, sink.storm, name, host, wall)
    for entry in ready(book, name):
        post = posts.of(entry, name)
        if post is not None:
            return notice(entry, post, post.reason, host, wall)
    return _refresh(cfg, book, name, wall, host) if trait.is_refreshed else None


def _refresh(cfg: OncallConfig, book: Book, name: str, wall: float, host: str) -> Notice | None:
    """What the sink would forget, said again."""
    resend_s = next((s.resend_s for s in cfg.alertmanager if s.name == name), 60.0)
    for entry in book.entries.values():
        post = posts.of(entry, name)
        if post is None or not post.is_reached or entry.is_message:
            continue
        last = max(post.done_wall or 0.0, book.refreshed.get(f"{name} {entry.incident}", 0.0))
        is_open = entry.brief.closed_wall is None or post.reason is not Reason.RESOLVED
        if is_open and post.state is State.SENT and wall - last >= resend_s:
            return notice(entry, post, Reason.REFRESH, host, wall)
    return None


def notice(entry: Entry, post: Post, reason: Reason, host: str, wall: float) -> Notice:
    """The message itself."""
    number = post.repeats if reason is Reason.REPEAT else max(1, entry.step + 1)
    brief = entry.brief
    return Notice(
        id=f"{entry.incident}/{post.sink}/{post.serial}",
        # Of a node's incident the same as at the node itself: NODE/INCIDENT.
        key=entry.incident if brief.node else f"{host}/{entry.incident}",
        sink=post.sink,
        reason=reason,
        severity=entry.severity,
        severities=entry.severities,
        host=brief.node or host,
        brief=brief,
        wall=wall,
        first_steps=first_steps(brief.fault, brief.rule, brief.incident, brief.pci),
        number=max(1, number),
        acked_by=entry.ack.who if entry.ack is not None else "",
        is_news=not post.is_reached,
        is_flapping=entry.is_flapping,
    )


def trial(name: str, host: str, wall: float) -> Notice:
    """A message that says that messages arrive."""
    key = IncidentId(f"test-{int(wall):x}")
    return Notice(
        id=f"{key}/{name}/1",
        key=f"{host}/test-{name}",
        sink=name,
        reason=Reason.TEST,
        severity="info",
        severities=("info",),
        host=host,
        brief=Brief(
            incident=key,
            summary=f"test of sink {name}: if you read this, pages of {host} reach you",
            opened_wall=wall,
            rule="test",
            closed_wall=wall,
            outcome="nothing is wrong",
        ),
        wall=wall,
        first_steps=("nothing is to be done", "this is a test", "gpuwarden notify test was called"),
    )


def given_up(name: str, host: str, unit: str, wall: float) -> Notice:
    """A message that systemd has given up a unit of ours: nobody guards this host, or this fleet."""
    key = IncidentId(f"unit-{int(wall):x}")
    return Notice(
        id=f"{key}/{name}/1",
        key=f"{host}/{unit}",
        sink=name,
        reason=Reason.FIRST,
        severity="critical",
        severities=("critical",),
        host=host,
        brief=Brief(
            incident=key,
            summary=f"{unit} failed on {host} and systemd has given it up: nobody keeps watch there",
            opened_wall=wall,
            rule="unit",
        ),
        wall=wall,
        first_steps=(
            f"journalctl -u {unit} -n 50",
            "gpuwarden doctor",
            f"systemctl reset-failed {unit}; systemctl start {unit}",
        ),
    )
