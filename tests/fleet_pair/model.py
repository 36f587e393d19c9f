"""What a history has to be like, whoever died when. Each finding is a sentence; none is what is wanted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.fleet_pair.history import Grant, History, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The budget that the aggregators were told to keep."""

    nodes_in_window: int
    window_s: float
    ttl_s: float


def findings(history: History, rules: Rules) -> list[str]:
    """Everything that must not be."""
    return [
        *_epochs(history),
        *_grants_in_reigns(history),
        *_window(history.grants, rules),
        *_domains(history),
        *_acknowledged(history),
        *_actions(history, rules),
        *_orders(history),
    ]


def _of(history: History, what: str) -> Iterator[Seen]:
    return (seen for seen in history.seen if seen.what == what)


def _epochs(history: History) -> Iterator[str]:
    """Leaders follow each other, and no node obeys an older one after a newer."""
    for before, after in pairwise(history.reigns):
        if after.began < before.began or after.epoch <= before.epoch:
            yield f"epoch {after.epoch} began before epoch {before.epoch}"
    obeyed: dict[str, int] = {}
    for seen in _of(history, "epoch"):
        if seen.number < obeyed.get(seen.who, 0):
            yield f"{seen.who} went from epoch {obeyed[seen.who]} back to {seen.number}"
        obeyed[seen.who] = max(seen.number, obeyed.get(seen.who, 0))


def _grants_in_reigns(history: History) -> Iterator[str]:
    """Nobody grants before its epoch begins or after the next has begun."""
    began = {reign.epoch: reign.began for reign in history.reigns}
    order = sorted(began)
    ends = {epoch: began[after] for epoch, after in pairwise(order)}
    for grant in history.grants:
        if grant.epoch not in began:
            yield f"permit {grant.id} was given under epoch {grant.epoch}, which never began"
        elif not began[grant.epoch] <= grant.granted <= ends.get(grant.epoch, float("inf")):
            yield f"permit {grant.id} was given outside of its epoch {grant.epoch}"


def _window(grants: list[Grant], rules: Rules) -> Iterator[str]:
    """In no window are more nodes hit than the budget has, whoever led in it."""
    for last in grants:
        hit = {each.node for each in grants if 0 <= last.granted - each.granted < rules.window_s}
        if len(hit) > rules.nodes_in_window:
            yield f"{len(hit)} nodes within {rules.window_s:g} s before permit {last.id}"


def _domains(history: History) -> Iterator[str]:
    """Of nodes that fail together one at a time has leave."""
    by_domain: dict[str, list[Grant]] = defaultdict(list)
    for grant in history.grants:
        by_domain[history.domains[grant.node]].append(grant)
    for domain, grants in by_domain.items():
        for first, second in pairwise(sorted(grants, key=lambda each: each.granted)):
            if first.node != second.node and second.granted < first.expires:
                yield f"permits {first.id} and {second.id} hold at once in {domain}"


def _acknowledged(history: History) -> Iterator[str]:
    """What was acknowledged is there, and nobody is told less than before."""
    upto: dict[str, int] = {}
    for seen in _of(history, "ack"):
        if seen.number < upto.get(seen.who, 0):
            yield f"{seen.who} was told {upto[seen.who]}, and later only {seen.number}"
        upto[seen.who] = max(seen.number, upto.get(seen.who, 0))
    for node, number in upto.items():
        lost = set(range(1, number + 1)) - history.events.get(node, {}).keys()
        if lost:
            yield f"of {node} {len(lost)} acknowledged events are lost, the first is {min(lost)}"


def _actions(history: History, rules: Rules) -> Iterator[str]:
    """Each follows a permit on record, once, while that can hold; what was told of it is kept once."""
    granted = {grant.id: grant for grant in history.grants}
    received: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seen in _of(history, "permit"):
        received[seen.who, seen.name].append(seen.at)
        if seen.name not in granted:
            yield f"{seen.who} received permit {seen.name}, which is not on record"
        elif granted[seen.name].node != seen.who:
            yield f"{seen.who} received permit {seen.name} of {granted[seen.name].node}"
    acted = Counter((seen.who, seen.text) for seen in _of(history, "action"))
    for (node, ask), times in acted.items():
        if times > 1:
            yield f"{node} acted {times} times on {ask}"
    for seen in _of(history, "action"):
        if not any(0 <= seen.at - at <= rules.ttl_s for at in received[seen.who, seen.name]):
            yield f"{seen.who} acted on {seen.name} without leave"
    kept = Counter((node, t) for node, by in history.events.items() for t in by.values() if t)
    for (node, note), times in kept.items():
        if times > 1:
            yield f"{node} is on record {times} times with {note}"
        words = note.split()
        if words[:1] == ["acted"] and (node, words[1]) not in acted:
            yield f"{node} is on record with {note}, which it did not do"


def _orders(history: History) -> Iterator[str]:
    """Obeyed at most once; what the operator was told is done was done, and is on record."""
    obeyed = Counter(seen.name for seen in _of(history, "order"))
    for name, times in obeyed.items():
        if times > 1:
            yield f"order {name} was obeyed {times} times"
    for seen in _of(history, "answer"):
        if seen.text != "done":
            continue
        if not obeyed[seen.name]:
            yield f"order {seen.name} was answered as done, and nobody obeyed it"
        if history.orders.get(seen.name) is not True:
            yield f"order {seen.name} was answered as done, and is not on record as that"
    for name, is_done in history.orders.items():
        if is_done and not obeyed[name]:
            yield f"order {name} is on record as done, and nobody obeyed it"
