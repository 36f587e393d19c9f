"""What retraining and its like have to know of services: from the picture of all nodes, drift, rollouts and freezes."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from gpuwarden.aggregator.on_services import asked, of_whole
from gpuwarden.aggregator.retrains import Labelled
from gpuwarden.aggregator.reviews import REVIEWED
from gpuwarden.aggregator.services import Services
from gpuwarden.model.drift import DriftVerdict, DriftView

STEP_S = 10.0
"""Of a node's window: counts go up to whole ones. After a restart that comes late, labels of one merged minute may
count twice, or not."""
WAIT_S = 5.0
STEPS_MAX = 200_000
_Step = tuple[float, dict[str, float]]
"""Begin of a window, and its counts."""
_NAMES = frozenset({"labels", "correct", REVIEWED})


class ServiceFacts:
    """Implements ``retrains.Known``; ``labelled`` one thread at a time."""

    def __init__(
        self,
        services: Services,
        drift: Callable[[], DriftView],
        held: Callable[[str], str],
    ) -> None:
        self._services = services
        self.drifts = drift
        """Whoever judges it."""
        self._held = held
        self._steps: dict[str, tuple[deque[_Step], float]] = {}
        """By service: what its windows say, and up to when they were read."""

    def labelled(
        self, service: str, after_wall: float, since_wall: float, over_s: float, upto_wall: float
    ) -> Labelled:
        upto = upto_wall // STEP_S * STEP_S
        steps = self._read(service, min(after_wall, since_wall, upto - over_s), upto)
        lately_wall = max(since_wall, upto - over_s)
        fresh, lately, first = Counter[str](), Counter[str](), Counter[str]()
        for begin, counts in steps:
            if after_wall <= begin < upto:
                fresh.update(counts)
            if lately_wall <= begin < upto:
                lately.update(counts)
            if since_wall <= begin < upto:
                first.update(counts)
        return Labelled(
            upto_wall=max(after_wall, upto),
            fresh=fresh["labels"] + fresh[REVIEWED],
            labels=int(lately["labels"]),
            correct=int(min(lately["correct"], lately["labels"])),
            first_labels=int(first["labels"]),
            first_correct=int(min(first["correct"], first["labels"])),
        )

    def _read(self, service: str, since: float, upto: float) -> "deque[_Step]":
        """Each window is read once: a day of them is not looked at again with every look."""
        steps, known_upto = self._steps.get(service, (deque[_Step](maxlen=STEPS_MAX), since))

        def look() -> list[_Step]:
            picture = self._services.picture
            mine = [cohort for cohort in picture.cohorts() if cohort.service == service]
            windows = picture.over(mine, known_upto, _NAMES)
            return [(w.begin_wall, dict(w.counts)) for w in windows if w.begin_wall < upto]

        if upto > known_upto:
            whole = asked(self._services, lambda: of_whole(self._services, look), WAIT_S)
            steps.extend(step for step in whole if step[1])
            self._steps[service] = (steps, upto)
        return steps

    def drift(self, service: str) -> Sequence[DriftVerdict]:
        return self.drifts().of(service)

    def held(self, service: str) -> str:
        return self._held(service)

    def nodes(self, service: str, since_wall: float) -> frozenset[str]:
        """Those that have told of it since then."""

        def look() -> frozenset[str]:
            picture = self._services.picture
            mine = [cohort for cohort in picture.cohorts() if cohort.service == service]
            return frozenset(picture.shares(mine, since_wall))

        return asked(self._services, look, WAIT_S)
