"""What people say: that they have it in hand, and that they want to hear nothing for a while."""

from dataclasses import replace

from gpuwarden.config_oncall import OncallConfig
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import (
    Ack,
    Book,
    Delivery,
    Matcher,
    Reason,
    Result,
    Silence,
    State,
)
from gpuwarden.policy.notify import posts, storm
from gpuwarden.policy.notify.brief import cut
from gpuwarden.policy.notify.fold import with_entry
from gpuwarden.policy.notify.posts import TRAITS, WAKING, sinks_by_name

SILENCES_MAX = 256


def acked(cfg: OncallConfig, book: Book, incident: IncidentId, ack: Ack) -> Book:
    """Somebody has it in hand: nobody else is woken, and who was told is told so."""
    entry = book.entries[incident]
    entry = replace(entry, ack=ack)
    traits = sinks_by_name(cfg)
    kept = []
    for post in entry.posts:
        trait = traits[post.sink][0] if post.sink in traits else TRAITS["email"]
        if post.state is State.DUE and not post.is_reached and not trait.is_refreshed:
            continue  # nobody there has heard of it, and nobody needs to
        if trait.tells_ack and post.is_reached and post.state is not State.FOLDED:
            post = posts.again(post, Reason.ACKNOWLEDGED, ack.wall)
        elif post.state is State.DUE and post.reason in WAKING and not trait.is_refreshed:
            post = replace(post, state=State.SENT)
        kept.append(post)
    who = f"by {ack.who}" + (f": {ack.comment}" if ack.comment else "")
    line = Delivery(
        id=f"{incident}/ack/{ack.wall:.0f}",
        incident=incident,
        sink="",
        reason=Reason.ACKNOWLEDGED,
        result=Result.DELIVERED,
        wall=ack.wall,
        detail=cut(who, 200),
    )
    entry = posts.noted(replace(entry, posts=tuple(kept)), line)
    return storm.acked(with_entry(book, entry), ack.wall)


def silenced(
    book: Book, matcher: Matcher, *, author: str, reason: str, wall: float, until_wall: float
) -> tuple[Book, Silence]:
    """A silence more. Its id is new."""
    serial = book.serial + 1
    silence = Silence(
        id=f"sil-{int(wall):x}-{serial}",
        matcher=matcher,
        author=author,
        reason=reason,
        since_wall=wall,
        until_wall=until_wall,
    )
    silences = {**book.silences, silence.id: silence}
    return replace(book, silences=silences, serial=serial), silence


def quieted(book: Book, incident: IncidentId, by: str, wall: float, until_wall: float) -> Book:
    """What a node says of one incident of its own: somebody there wants nobody woken until then. Empty ``by``:
    nobody does, or no more. The book is as it was where there are too many silences already: people are
    rather woken."""
    name = f"node {incident}"
    known = book.silences.get(name)
    if not by or until_wall <= wall:
        return book if known is None else expired(book, name)
    if known is not None and (known.reason, known.until_wall) == (by, until_wall):
        return book
    if known is None and len(book.silences) >= SILENCES_MAX:
        return book
    silence = Silence(
        id=name,
        matcher=Matcher(incident=incident),
        author=incident.partition("/")[0],
        reason=by,
        since_wall=wall,
        until_wall=until_wall,
    )
    return replace(book, silences={**book.silences, name: silence})


def expired(book: Book, silence: str) -> Book:
    """Without that silence."""
    return replace(book, silences={k: s for k, s in book.silences.items() if k != silence})
