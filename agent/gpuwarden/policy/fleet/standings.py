"""The nodes of one picture, each worked out when somebody looks at it: most pictures nobody looks at."""

from collections.abc import Collection, Iterator, Mapping

from gpuwarden.model.fleet import NodeStanding
from gpuwarden.policy.fleet.fold import NodeMemory
from gpuwarden.policy.fleet.states import Judged


class Standings(Collection[NodeStanding]):
    """By name. What it is made of never changes, so whoever looks, and when, sees the same."""

    __slots__ = ("_judged", "_nodes", "_seen")

    def __init__(self, nodes: Mapping[str, NodeMemory], judged: Mapping[str, Judged]) -> None:
        self._nodes = nodes
        self._judged = judged
        self._seen: tuple[NodeStanding, ...] | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[NodeStanding]:
        seen = self._seen
        if seen is None:  # two that look at once both work it out, and to the same
            seen = self._seen = tuple(
                _standing(node, self._judged[name]) for name, node in sorted(self._nodes.items())
            )
        return iter(seen)

    def __contains__(self, standing: object) -> bool:
        return any(each == standing for each in self)


def _standing(node: NodeMemory, judged: Judged) -> NodeStanding:
    return NodeStanding(
        greeting=node.greeting,
        state=judged.state,
        why=judged.why,
        is_connected=node.is_connected,
        heard_at=node.heard_at,
        report=node.report,
        events_dropped=node.events_dropped,
        wall_offset_s=node.wall_offset_s,
        policy=node.policy,
    )
