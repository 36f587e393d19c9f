"""The nodes of a picture: worked out when looked at, and the same for everybody who looks."""

from __future__ import annotations

from gpuwarden.model.fleet import NodeState
from gpuwarden.policy.fleet.decide import decide
from gpuwarden.policy.fleet.fold import fold
from tests.policy.fleet_builders import CFG, NOW, fleet, heard, report


def test_a_picture_stays_as_it_was_when_it_was_taken() -> None:
    memory = fleet(3)
    names = sorted(memory.nodes)
    picture = decide(CFG, memory, NOW, 0.0, 1).nodes
    after = fold(memory, [heard(names[0], report(9, unseen=1), at=NOW + 1)])
    later = decide(CFG, after, NOW + 1, 0.0, 1).nodes
    assert [each.greeting.node for each in picture] == names
    assert {each.state for each in picture} == {NodeState.HEALTHY}
    assert next(iter(later)).state is NodeState.BLIND


def test_whoever_looks_twice_sees_the_same_things() -> None:
    picture = decide(CFG, fleet(3), NOW, 0.0, 1).nodes
    first, second = list(picture), list(picture)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert (len(picture), first[1] in picture) == (3, True)
