"""The messages of one incident, sink by sink: what is ordered, what became of it. One a sink at a time."""

from dataclasses import dataclass, replace

from gpuwarden.config_oncall import OncallConfig, SinkConfig
from gpuwarden.model.oncall import Delivery, Entry, Post, Reason, Result, State
from gpuwarden.policy.notify.hold import rank

LOG_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """How a kind of sink wants to be told."""

    is_refreshed: bool = False
    """It forgets what is not said again, and wants each thing by itself: it groups them."""
    tells_ack: bool = True
    repeats: bool = True

    @property
    def folds(self) -> bool:
        """Whether many messages may become one."""
        return not self.is_refreshed


TRAITS = {
    "alertmanager": Trait(is_refreshed=True, tells_ack=False, repeats=False),
    "pagerduty": Trait(),
    "webhook": Trait(),
    "slack": Trait(),
    "email": Trait(tells_ack=False),
    "exec": Trait(),
}
WAKING = frozenset({Reason.FIRST, Reason.ESCALATED, Reason.REPEAT})


def sinks_by_name(cfg: OncallConfig) -> dict[str, tuple[Trait, SinkConfig]]:
    """Every sink that is set."""
    return {sink.name: (TRAITS[kind], sink) for kind, sink in cfg.sinks}


def takes(cfg: OncallConfig, sink: str, severity: str) -> bool:
    """Whether a sink is set and wants to hear of so bad a thing."""
    known = sinks_by_name(cfg).get(sink)
    return known is not None and rank(severity) >= rank(known[1].min_severity)


def of(entry: Entry, sink: str) -> Post | None:
    """The newest message of a sink."""
    return next((post for post in entry.posts if post.sink == sink), None)


def order(entry: Entry, sink: str, reason: Reason, wall: float, *, is_news: bool = False) -> Entry:
    """A message more. One that was not sent yet takes it in, and keeps the stronger reason.

    ``is_news``: its text has changed, so that one which is just being sent does not settle it.
    """
    old = of(entry, sink)
    if old is None:
        return put(entry, Post(sink=sink, reason=reason, serial=1, ordered_wall=wall))
    if old.state is State.DUE and reason in WAKING:
        serial = old.serial + 1 if is_news else old.serial
        return put(entry, replace(old, serial=serial))
    return put(entry, again(old, reason, wall))


def again(post: Post, reason: Reason, wall: float) -> Post:
    """The next message of the same sink."""
    return replace(
        post,
        reason=reason,
        serial=post.serial + 1,
        state=State.DUE,
        ordered_wall=wall,
        tried=0,
        repeats=post.repeats + 1 if reason is Reason.REPEAT else post.repeats,
    )


def put(entry: Entry, post: Post) -> Entry:
    """The entry with a sink's message replaced."""
    others = tuple(old for old in entry.posts if old.sink != post.sink)
    return replace(entry, posts=(*others, post))


def settled(post: Post, serial: int, result: Result, wall: float) -> Post:
    """What became of a message. If another was ordered meanwhile, that one is still due."""
    is_newest = post.serial == serial and post.state is State.DUE
    if result is Result.FAILED:
        return replace(post, tried=post.tried + 1) if is_newest else post
    if result is Result.REFUSED:
        return replace(post, state=State.REFUSED, done_wall=wall) if is_newest else post
    if is_newest:
        return replace(post, state=State.SENT, done_wall=wall, is_reached=True)
    told_meanwhile = post.state is State.DUE and post.reason is Reason.FIRST
    reason = Reason.REPEAT if told_meanwhile else post.reason
    return replace(post, is_reached=True, reason=reason)


def noted(entry: Entry, delivery: Delivery) -> Entry:
    """The entry with a line more; one of the same id is replaced."""
    others = tuple(old for old in entry.log if old.id != delivery.id)
    return replace(entry, log=(*others, delivery)[-LOG_MAX:])


def is_reached(entry: Entry) -> bool:
    """Whether any sink has taken a message about it."""
    return any(post.is_reached for post in entry.posts)


def is_settled(entry: Entry) -> bool:
    """Whether no message of it waits."""
    return all(post.state is not State.DUE for post in entry.posts)
