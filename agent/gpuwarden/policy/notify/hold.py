"""Reasons to tell nobody now: silences, maintenance, and what comes and goes too often."""

from dataclasses import replace
from fnmatch import fnmatchcase

from gpuwarden.config_oncall import OncallConfig, WindowConfig
from gpuwarden.model.oncall import SEVERITIES, Book, Brief, Entry, Flap, Matcher, Reason, Silence

DAY_S = 86_400.0
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FLAP_WALLS_MAX = 128
FLAPS_MAX = 1024


def rank(severity: str) -> int:
    """How bad; a word nobody knows is an error."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else SEVERITIES.index("error")


def why_held(cfg: OncallConfig, book: Book, entry: Entry, wall: float) -> tuple[Reason, str] | None:
    """Why nobody is woken by it now, and in words; ``None``: somebody is."""
    if (silence := silence_of(book, entry, wall)) is not None:
        return Reason.SILENCED, words_of(silence)
    for window in cfg.window:
        matcher = Matcher(tenant=window.tenant, device=window.device, rule=window.rule)
        is_for_it = matcher == Matcher() or matches(matcher, entry.brief)
        if is_for_it and is_within(window, wall):
            return Reason.MAINTENANCE, ": ".join(w for w in (window.name, window.reason) if w)
    if entry.relay is not None and not entry.relay.own:
        return Reason.HANDED_OVER, "the fleet's aggregator tells people"
    return _flapping(cfg, book, entry, wall)


def silence_of(book: Book, entry: Entry, wall: float) -> Silence | None:
    """The silence that holds it back and ends last."""
    holding = (
        silence
        for silence in book.silences.values()
        if silence.since_wall <= wall < silence.until_wall and matches(silence.matcher, entry.brief)
    )
    return max(holding, key=lambda silence: silence.until_wall, default=None)


def words_of(silence: Silence) -> str:
    """Whose it is, and why."""
    return f"{silence.id} of {silence.author}: {silence.reason}"


def matches(matcher: Matcher, brief: Brief) -> bool:
    """Whether every field that is given fits; one without any fits nothing."""
    wanted = (
        (matcher.tenant, (brief.tenant, brief.tenant_name)),
        (matcher.device, (brief.device,)),
        (matcher.rule, (brief.rule, brief.fault)),
        (matcher.incident, (brief.incident,)),
    )
    given = [(pattern, texts) for pattern, texts in wanted if pattern]
    return bool(given) and all(
        any(text and fnmatchcase(text, pattern) for text in texts) for pattern, texts in given
    )


def is_within(window: WindowConfig, wall: float) -> bool:
    """Whether a moment lies in a maintenance window."""
    if window.start is not None and window.end is not None:
        return window.start <= wall < window.end
    if window.begin is None or window.to is None:
        return False
    begin_s, end_s = _seconds(window.begin), _seconds(window.to)
    lasts_s = (end_s - begin_s) % DAY_S or DAY_S
    today = wall // DAY_S
    for day in (today - 1, today):  # one of yesterday may last until today
        start = day * DAY_S + begin_s
        if _day_name(day) in window.days and start <= wall < start + lasts_s:
            return True
    return False


def _seconds(text: str) -> float:
    hour, _, minute = text.partition(":")
    return int(hour) * 3600.0 + int(minute) * 60.0


def _day_name(days_since_epoch: float) -> str:
    return DAYS[int(days_since_epoch + 3) % 7]  # 1970-01-01 was a Thursday


def fingerprint(brief: Brief) -> str:
    """What it is about, the same when it comes again under another id."""
    who = brief.tenant_name or brief.tenant
    what = brief.fault or brief.rule or brief.summary
    return f"{what}|{brief.device}|{who}|{brief.subject}"


def counted(cfg: OncallConfig, book: Book, entry: Entry, wall: float) -> tuple[Book, Entry]:
    """A new entry counted among those of its kind. The last one that is told says that it flaps."""
    key = fingerprint(entry.brief)
    old = book.flaps.get(key)
    recent = _recent(cfg, old, wall)
    worst = old.severity if old is not None and recent else ""
    walls = (*recent, wall)[-FLAP_WALLS_MAX:]
    if not worst or rank(entry.severity) > rank(worst):
        worst = entry.severity
        entry = replace(entry, is_worst_yet=bool(recent))
    flaps = {k: f for k, f in book.flaps.items() if _recent(cfg, f, wall)}
    if len(flaps) >= FLAPS_MAX and key not in flaps:
        flaps.pop(min(flaps, key=lambda k: flaps[k].walls[-1]))
    flaps[key] = Flap(walls=walls, severity=worst)
    entry = replace(entry, is_flapping=len(walls) == cfg.flap_count)
    return replace(book, flaps=flaps), entry


def is_unsettled(cfg: OncallConfig, book: Book, brief: Brief, wall: float) -> bool:
    """Whether it comes so often that its end is not to be believed yet."""
    flap = book.flaps.get(fingerprint(brief))
    return len(_recent(cfg, flap, wall)) >= cfg.flap_count


def _flapping(
    cfg: OncallConfig, book: Book, entry: Entry, wall: float
) -> tuple[Reason, str] | None:
    """One that was told goes on being told; a new one of the same kind is held back, unless it is worse."""
    if entry.is_worst_yet or any(post.is_reached for post in entry.posts):
        return None
    count = len(_recent(cfg, book.flaps.get(fingerprint(entry.brief)), wall))
    if count <= cfg.flap_count:
        return None
    text = f"it came {count} times within {cfg.flap_window_s / 60:.0f} min; told once it is calmer"
    return Reason.FLAP_SUPPRESSED, text


def _recent(cfg: OncallConfig, flap: Flap | None, wall: float) -> tuple[float, ...]:
    if flap is None:
        return ()
    return tuple(at for at in flap.walls if at > wall - cfg.flap_window_s)
