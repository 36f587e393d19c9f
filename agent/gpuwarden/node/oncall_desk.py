"""What people say to on-call: each word is in the journal before it counts."""

from functools import partial

from gpuwarden.clock import Clock
from gpuwarden.config_oncall import OncallConfig
from gpuwarden.errors import Refused
from gpuwarden.log import get_log
from gpuwarden.model.audit import Audited, Caller
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.oncall import Ack, Book, Entry, Matcher, Receipt, Silence
from gpuwarden.node.notifier import Notifier
from gpuwarden.policy.notify import due, people
from gpuwarden.ports_operator import Audit

ALL = "all"
FOR_MAX_S = 90 * 86_400.0
TEXT_MAX_CHARS = 400


class OncallDesk:
    """Implements ``ports.Oncall``; called from any thread."""

    def __init__(self, notifier: Notifier, audit: Audit, clock: Clock, host: str) -> None:
        self._notifier = notifier
        self._audit = audit
        self._clock = clock
        self._host = host

    def ack(self, wanted: str, caller: Caller, comment: str) -> tuple[IncidentId, ...]:
        """Somebody has it in hand: an incident, the beginning of one, a storm, ``last`` or ``all``."""
        chosen = _chosen(self._notifier.book, wanted)
        self._write(caller, "ack", f"{', '.join(chosen)}: {comment}")
        ack = Ack(who=caller.name, wall=self._clock.wall(), comment=comment[:TEXT_MAX_CHARS])
        self._notifier.change(partial(_acked, chosen, ack))
        return chosen

    def silence(self, matcher: Matcher, caller: Caller, reason: str, for_s: float) -> Silence:
        """Nobody is woken by these for so long."""
        if matcher == Matcher():
            raise Refused("a silence of everything: say a tenant, device, rule or incident")
        if not 0 < for_s <= FOR_MAX_S:
            raise Refused("a silence lasts up to 90 days")
        if not reason.strip():
            raise Refused("a silence needs a reason")
        if len(self._notifier.book.silences) >= people.SILENCES_MAX:
            raise Refused(f"there are {people.SILENCES_MAX} silences already: expire one")
        self._write(caller, "silence add", f"{matcher} for {for_s:.0f} s: {reason}")
        made: list[Silence] = []

        def add(_cfg: OncallConfig, book: Book, wall: float) -> Book:
            fresh, silence = people.silenced(
                book,
                matcher,
                author=caller.name,
                reason=reason[:TEXT_MAX_CHARS],
                wall=wall,
                until_wall=wall + for_s,
            )
            made.append(silence)
            return fresh

        self._notifier.change(add)
        return made[-1]

    def expire(self, wanted: str, caller: Caller) -> Silence:
        """A silence ends now."""
        known = self._notifier.book.silences
        found = [s for k, s in known.items() if wanted and k.startswith(wanted)]
        if len(found) != 1:
            some = ", ".join(sorted(known)[:5]) or "there is none"
            raise Refused(f"no one silence {wanted[:80]} (there are: {some})")
        self._write(caller, "silence expire", found[0].id)
        self._notifier.change(lambda _cfg, book, _wall: people.expired(book, found[0].id))
        return found[0]

    def silences(self) -> tuple[Silence, ...]:
        """Those that hold now."""
        wall = self._clock.wall()
        found = [s for s in self._notifier.book.silences.values() if s.until_wall > wall]
        return tuple(sorted(found, key=lambda s: s.until_wall))

    def test(self, sink: str, caller: Caller) -> Receipt:
        """A message that says that messages arrive; raises what the sink raises."""
        outfit = self._notifier.outfit
        if sink not in outfit.sinks:
            known = ", ".join(outfit.sinks) or "none is set"
            raise Refused(f"no sink is named {sink[:80]} (known: {known})")
        self._write(caller, "notify test", sink)
        notice = due.trial(sink, self._host, self._clock.wall())
        return outfit.sinks[sink].deliver(notice)

    def _write(self, caller: Caller, verb: str, what: str) -> None:
        entry = Audited(
            at=self._clock.now(),
            wall=self._clock.wall(),
            caller=caller,
            verb=verb,
            what="".join(c if c.isprintable() else "?" for c in what)[:1000],
        )
        self._audit.audit(entry)
        get_log().info("command", verb=verb, uid=caller.uid, what=entry.what)


def _chosen(book: Book, wanted: str) -> tuple[IncidentId, ...]:
    """Open incidents somebody was paged about; ``Refused`` where none fits, or several do."""
    entries = [e for e in book.entries.values() if e.brief.closed_wall is None and not e.is_message]
    if wanted == ALL:
        found = entries
    elif wanted == "last":
        found = sorted(entries, key=lambda e: e.paged_wall)[-1:]
    elif storm := next(
        (s.storm for s in book.sinks.values() if s.storm is not None and s.storm.key == wanted),
        None,
    ):
        found = [e for e in entries if e.incident in storm.members]
    else:
        found = _named(entries, wanted)
    if not found:
        raise Refused(f"nobody is being paged about {wanted[:80]}: nothing to acknowledge")
    return tuple(e.incident for e in found)


def _named(entries: list[Entry], wanted: str) -> list[Entry]:
    exact = [e for e in entries if e.incident == wanted]
    found = exact or [e for e in entries if wanted and e.incident.startswith(wanted)]
    if len(found) > 1:
        some = ", ".join(e.incident for e in found[:5])
        raise Refused(f"{wanted[:80]} fits {len(found)} incidents: {some}")
    return found


def _acked(
    chosen: tuple[IncidentId, ...], ack: Ack, cfg: OncallConfig, book: Book, _wall: float
) -> Book:
    for incident in chosen:
        if incident in book.entries:
            book = people.acked(cfg, book, incident, ack)
    return book
