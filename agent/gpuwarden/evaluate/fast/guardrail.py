"""Judges a guardrail: what was, what has come, and the time it is, to what is said now. The same on node and aggregator.

Enters slowly and leaves slowly. No data is never good news: it is unknown (red where the guardrail says so), and red
stands for ``hold_red_s`` through a silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpuwarden.evaluate.fast import decline as declines
from gpuwarden.evaluate.fast import reading as readings
from gpuwarden.evaluate.fast import shift
from gpuwarden.evaluate.fast.decline import Decline
from gpuwarden.evaluate.fast.expression import Expression, parse
from gpuwarden.evaluate.fast.reading import Reading
from gpuwarden.evaluate.fast.window import merge, only
from gpuwarden.model.evaluation import Cohort, Colour, Lack, Missing, Verdict, Window
from gpuwarden.model.guardrail import LATE_S, Guardrail, Idle, Judge, OnMissing, Side

IN_FLIGHT = "in_flight"
NO_TRAIL = shift.Trail()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a guardrail remembers of one cohort. Plain data."""

    colour: Colour = Colour.UNKNOWN
    """What stands; ``Verdict.colour`` is unknown besides while there is nothing to judge."""
    since: float | None = None
    leaning: Colour | None = None
    leaning_since: float = 0.0
    was_judged: bool = False
    read_at: float | None = None
    """When there last was a number."""
    value: float | None = None
    step_end: float | None = None
    """Until when the past is remembered."""
    past: tuple[Window, ...] = ()
    pending: Reading | None = None
    """Of a share: counts that do not fill a step yet (``Guardrail.step_support``)."""
    trail: shift.Trail = NO_TRAIL
    change: shift.Change | None = None
    decline: Decline | None = None


def judge(
    spec: Guardrail, memory: Memory, cohort: Cohort, windows: Sequence[Window], now: float
) -> tuple[Memory, Verdict]:
    """``windows``: those of the cohort from ``now - spec.reach_s`` on, one for all nodes, in any order; nothing
    else is read of them than the expression's series. ``now`` is of the windows' own clock."""
    expression = parse(spec.expression)
    found: Reading | Lack
    if spec.judge is Judge.SHIFT:
        memory, found, is_bad = _shift(spec, memory, expression, windows, now)
        limit = None
        if memory.change is not None:
            limit = memory.change.was * spec.limit
    elif spec.judge is Judge.DECLINE:
        memory, found = _decline(spec, memory, expression, windows, now)
        known = memory.decline
        is_bad = known is not None and known.state.is_red
        limit = None if known is None else 1 - known.reference - spec.limit
    else:
        if expression.has_past:
            memory = _remember(spec, memory, expression, windows, now)
        found = _live(spec, memory, expression, windows, now)
        is_bad, limit = _is_beyond(spec, found), spec.limit
    memory = _fold(spec, memory, found, windows, now, is_bad=is_bad)
    return memory, _verdict(spec, memory, cohort, found, now, limit)


def _live(
    spec: Guardrail,
    memory: Memory,
    expression: Expression,
    windows: Sequence[Window],
    now: float,
) -> Reading | Lack:
    newest = [w for w in windows if w.begin_wall + w.length_s > now - spec.over_s]
    past = merge(memory.past) if expression.has_past else None
    if spec.stall_s is not None and _is_stalled(spec, expression, windows, now):
        return Reading(value=float("inf"))
    found = readings.read(expression, _merged(expression, newest), past)
    if isinstance(found, Reading) and found.support >= spec.min_support:
        return found
    if isinstance(found, Reading):
        detail = f"{found.support:g} of {spec.min_support:g}"
        return Lack(series=expression.text, why=Missing.TOO_FEW, detail=detail)
    if found.why is Missing.UNKNOWN_SERIES and memory.read_at is not None:
        return replace(found, why=Missing.TOO_FEW)  # it has been told before: nothing happened
    return found


def _merged(expression: Expression, windows: Sequence[Window]) -> Window | None:
    """Of the series that count; whether others were told decides what a lack is called."""
    whole = merge(windows, names=expression.series)
    if whole is None or whole.counts or whole.levels or whole.histograms or whole.sketches:
        return whole
    is_told = any(w.counts or w.levels or w.histograms or w.sketches for w in windows)
    return replace(whole, counts={"": 0.0}) if is_told else whole


def _in_flight(windows: Sequence[Window]) -> float | None:
    """By the newest window; ``None``: it does not say."""
    newest = max(windows, key=lambda window: window.begin_wall, default=None)
    level = None if newest is None else newest.levels.get(IN_FLIGHT)
    return None if level is None else level.last


def _is_stalled(
    spec: Guardrail, expression: Expression, windows: Sequence[Window], now: float
) -> bool:
    """Requests are in flight, and none has ended for ``stall_s``."""
    if not _in_flight(windows) or spec.stall_s is None:
        return False
    ended = [w.begin_wall + w.length_s for w in windows if _has_ended(expression, w)]
    begun = min(w.begin_wall for w in windows)
    return now - max(ended, default=begun) > spec.stall_s


def _has_ended(expression: Expression, window: Window) -> bool:
    for name in expression.series:
        histogram, sketch = window.histograms.get(name), window.sketches.get(name)
        if (histogram is not None and any(histogram.counts)) or sketch is not None:
            return True
    return False


def _is_beyond(spec: Guardrail, found: Reading | Lack) -> bool:
    if isinstance(found, Lack):
        return False
    return found.value > spec.limit if spec.side is Side.ABOVE else found.value < spec.limit


def _steps(
    spec: Guardrail, memory: Memory, windows: Sequence[Window], until: float
) -> list[list[Window]]:
    """The windows of each whole step that ended before ``until`` and is not remembered yet."""
    if not windows:
        return []
    length = max(spec.step_s, max(w.length_s for w in windows))
    end = memory.step_end
    if end is None:
        end = min(w.begin_wall for w in windows) // length * length
    steps: list[list[Window]] = []
    ordered = sorted((w for w in windows if w.begin_wall >= end), key=lambda w: w.begin_wall)
    current: list[Window] = []
    for window in ordered:
        if current and window.begin_wall >= end + length:
            steps.append(current)
            current = []
        if not current:
            end = window.begin_wall // length * length
        current.append(window)
    if current and end + length <= until:
        steps.append(current)
    return [step for step in steps if _end(step, length) <= until]


def _end(step: Sequence[Window], length: float) -> float:
    return step[0].begin_wall // length * length + length


def _length(spec: Guardrail, windows: Sequence[Window]) -> float:
    return max(spec.step_s, max((w.length_s for w in windows), default=0.0))


def _remember(
    spec: Guardrail,
    memory: Memory,
    expression: Expression,
    windows: Sequence[Window],
    now: float,
) -> Memory:
    """Steps that have left the judged span become the past, unless it is red."""
    length, past, end = _length(spec, windows), list(memory.past), memory.step_end
    for step in _steps(spec, memory, windows, now - spec.over_s):
        end = _end(step, length)
        whole = merge(step)
        if whole is None or _has_shifted(memory, now):
            continue
        past.append(replace(only(whole, expression.series), lacks=()))
    since = now - spec.over_s - spec.past_s
    kept = past if _has_shifted(memory, now) else [w for w in past if w.begin_wall >= since]
    if (
        len(kept) > shift.STEPS_MAX
    ):  # the oldest two become one: the past is bounded, and loses nothing
        joined = merge(kept[:2])
        kept = ([] if joined is None else [joined]) + kept[2:]
    return replace(memory, past=tuple(kept), step_end=end)


def _has_shifted(memory: Memory, now: float) -> bool:
    """Red, and not for so long that it is what the service is like now."""
    return memory.colour is Colour.RED and now - (memory.since or now) < shift.FORGET_S


def _shift(
    spec: Guardrail,
    memory: Memory,
    expression: Expression,
    windows: Sequence[Window],
    now: float,
) -> tuple[Memory, Reading | Lack, bool]:
    """Whole steps since the last time, each judged against the past."""
    length = _length(spec, windows)
    # A window that is a whole step has come when it has come; of short ones the last may be under way.
    late_s = 0.0 if any(w.length_s >= spec.step_s for w in windows) else LATE_S
    found: Reading | Lack = _nothing_new(spec, memory, expression, windows, now)
    for step in _steps(spec, memory, windows, now - late_s):
        read = readings.read(expression, _merged(expression, step))
        end = _end(step, length)
        memory, point = _filled(spec, memory, read, end)
        if point is None:
            memory = replace(memory, step_end=end)
            found = read if isinstance(read, Lack) else _few(expression, read.support)
            continue
        trail = shift.add(spec, memory.trail, point, is_red=_has_shifted(memory, now))
        change = shift.look(spec, trail)
        memory = replace(memory, step_end=end, trail=trail, change=change)
        found = Reading(value=change.value) if change is not None else _few(expression, 0.0)
    return memory, found, memory.change is not None and memory.change.is_beyond


def _decline(
    spec: Guardrail,
    memory: Memory,
    expression: Expression,
    windows: Sequence[Window],
    now: float,
) -> tuple[Memory, Reading | Lack]:
    """Whole steps since the last time, each added to the evidence."""
    length = _length(spec, windows)
    late_s = 0.0 if any(w.length_s >= spec.step_s for w in windows) else LATE_S
    lack: Lack | None = None
    for step in _steps(spec, memory, windows, now - late_s):
        read, end = readings.read(expression, _merged(expression, step)), _end(step, length)
        memory = replace(memory, step_end=end)
        if isinstance(read, Lack):
            lack = read
        elif read.events is None or read.trials is None:
            why = Missing.UNREADABLE
            return memory, Lack(series=expression.text, why=why, detail="no share of counts")
        else:
            labels, right = round(read.trials), round(read.events)
            wrong = min(max(labels - right, 0), labels)
            memory = replace(memory, decline=declines.add(spec, memory.decline, end, labels, wrong))
    known = memory.decline
    if known is None or now - known.told_at > declines.STALE_S:
        return memory, lack or Lack(series=expression.text, why=Missing.NO_DATA)
    if known.limit_nats is None:
        return memory, _few(expression, known.reference_labels)
    return memory, Reading(value=known.value, support=known.run_labels)


def _filled(
    spec: Guardrail, memory: Memory, read: Reading | Lack, end: float
) -> tuple[Memory, shift.Point | None]:
    """The step as a point, where it stands on enough; counts that do not fill one wait for the next step."""
    if isinstance(read, Lack):
        return memory, None
    if read.events is None or read.trials is None:
        few = read.support < max(spec.min_support, 1.0)
        return memory, None if few else shift.point_of(end, read)
    before = memory.pending
    if before is not None:
        events = (before.events or 0.0) + read.events
        trials = (before.trials or 0.0) + read.trials
        read = Reading(value=events / trials, support=trials, events=events, trials=trials)
    if read.support < max(spec.step_support, 1.0):
        return replace(memory, pending=read), None
    return replace(memory, pending=None), shift.point_of(end, read)


def _nothing_new(
    spec: Guardrail,
    memory: Memory,
    expression: Expression,
    windows: Sequence[Window],
    now: float,
) -> Reading | Lack:
    """Between two steps what was said last stands for a while."""
    stands_s = 3 * _length(spec, windows) + LATE_S
    if memory.change is not None and now - (memory.read_at or 0.0) <= stands_s:
        return Reading(value=memory.change.value)
    why = Missing.TOO_FEW if windows else Missing.NO_DATA
    return Lack(series=expression.text, why=why, detail="the past is too short")


def _few(expression: Expression, support: float) -> Lack:
    return Lack(series=expression.text, why=Missing.TOO_FEW, detail=f"{support:g}")


def _fold(
    spec: Guardrail,
    memory: Memory,
    found: Reading | Lack,
    windows: Sequence[Window],
    now: float,
    *,
    is_bad: bool,
) -> Memory:
    """Where the colour goes."""
    if isinstance(found, Reading):
        read_at = now if spec.judge is Judge.LIMIT or memory.change is None else _last(memory, now)
        memory = replace(memory, read_at=read_at, value=found.value)
        return _lean(spec, memory, Colour.RED if is_bad else Colour.GREEN, now)
    memory = replace(memory, value=None)
    if found.why is Missing.TOO_FEW and spec.idle is Idle.KEEP:
        if _in_flight(windows) == 0 and memory.colour is Colour.RED:
            return _lean(spec, memory, Colour.UNKNOWN, now)
        return replace(memory, leaning=None)
    if found.why is not Missing.TOO_FEW and spec.missing is OnMissing.RED:
        return _lean(spec, memory, Colour.RED, now)
    memory = replace(memory, leaning=None)
    silent_s = now - (memory.read_at or 0.0)
    if memory.colour is Colour.RED and silent_s < spec.hold_red_s:
        return memory
    return _become(memory, Colour.UNKNOWN, now)


def _last(memory: Memory, now: float) -> float:
    newest = memory.trail.newest
    return newest[-1].at if newest else now


def _lean(spec: Guardrail, memory: Memory, way: Colour, now: float) -> Memory:
    if memory.leaning is not way:
        memory = replace(memory, leaning=way, leaning_since=now)
    hold_s = spec.enter_s if way is Colour.RED else spec.leave_s
    is_first = way is Colour.GREEN and not memory.was_judged
    if way is memory.colour or is_first or now - memory.leaning_since >= hold_s:
        return _become(memory, way, now)
    return memory


def _become(memory: Memory, colour: Colour, now: float) -> Memory:
    return replace(
        memory,
        colour=colour,
        since=now if colour is not memory.colour or memory.since is None else memory.since,
        was_judged=memory.was_judged or colour is not Colour.UNKNOWN,
    )


def _verdict(
    spec: Guardrail,
    memory: Memory,
    cohort: Cohort,
    found: Reading | Lack,
    now: float,
    limit: float | None,
) -> Verdict:
    lack = found if isinstance(found, Lack) else None
    colour, missing = memory.colour, None
    if lack is not None and colour is Colour.GREEN:
        colour = Colour.UNKNOWN
    if colour is Colour.UNKNOWN:  # where there is a number, it was not well for long enough yet
        missing = Missing.TOO_FEW if lack is None else lack.why
    return Verdict(
        guardrail=spec.name,
        cohort=cohort,
        colour=colour,
        since_wall=now if memory.since is None or colour is not memory.colour else memory.since,
        at_wall=now,
        value=None if lack is not None else found.value,  # type: ignore[union-attr]
        limit=limit,
        missing=missing,
        severity=spec.severity,
        summary=_summary(spec, memory, found, limit),
    )


def _summary(spec: Guardrail, memory: Memory, found: Reading | Lack, limit: float | None) -> str:
    """For people: the value, the limit, over how long."""
    what = spec.expression
    if isinstance(found, Lack):
        detail = f" ({found.detail})" if found.detail else ""
        return f"{what}: {found.why.value}{detail}"
    unit = f" {spec.unit}" if spec.unit else ""
    if found.value == float("inf"):
        return f"{what}: nothing ends, and requests are in flight"
    if spec.judge is Judge.SHIFT and memory.change is not None:
        change = memory.change
        return (
            f"{what} is {change.value:.4g}{unit}, {change.times:.2g} times {change.was:.4g}"
            f" of the past {spec.past_s / 3600:g} h ({change.z:.1f} standard deviations)"
        )
    if spec.judge is Judge.DECLINE and memory.decline is not None:
        known = memory.decline
        return (
            f"{what} is {found.value:.4g} in the last {known.run_labels} labels, {1 - known.reference:.4g} before"
            f" ({known.state.evidence_nats:.1f} nats of evidence, {known.limit_nats or 0:.1f} are enough)"
        )
    side = f"limit {limit:.4g}{unit}" if limit is not None else ""
    return f"{what} is {found.value:.4g}{unit}, {side}, over {spec.over_s:g} s"
