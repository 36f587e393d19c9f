"""Which predictions people should look at: the uncertain and the disputed, of every segment, the rare ones too.

First by segment, then by uncertainty. A plain "least certain first" fills the budget with the commonest segment that is
a little uncertain everywhere; here each segment has its floor, and what is left goes by the square root of how many
there are, which lies between equal shares and proportional ones (power allocation, Bankier 1988).
"""

import hashlib
import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SEGMENTS_MAX = 256
OTHERS = "other segments"
"""Where predictions of further segments go, so that their number is bounded."""
_POWER = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a service has answered, and how sure it was."""

    id: str
    segment: str = ""
    label: str = ""
    confidence: float | None = None
    """Of ``label``, from 0 to 1."""
    probabilities: tuple[float, ...] = ()
    """Of all labels, where the service tells them."""
    opinions: tuple[str, ...] = ()
    """What others said of the same input: another model, a user, an expert."""
    at_wall: float = 0.0
    version: str = ""
    input: str = ""
    """A reference to what was asked, or the thing itself; kept within the queue's bound."""
    service: str = ""
    arm: str = ""
    is_random: bool = False
    """Chosen by chance among all of its segment, and for no doubt: what people say of such ones is the service's
    accuracy; of doubtful ones it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a prediction is worth a look. 0 is none, 1 is all there can be."""

    uncertainty: float
    dispute: float
    """Share of the opinions that say otherwise."""

    @property
    def weight(self) -> float:
        """A dispute is news that the model does not have: it comes before any uncertainty of its own."""
        return self.dispute + self.uncertainty if self.dispute > 0 else self.uncertainty


def doubt(prediction: Prediction) -> Doubt:
    """From the entropy of the probabilities (as a share of the most there can be), else from the confidence; a
    prediction that tells neither, or nonsense, is as uncertain as can be."""
    said = prediction.opinions
    dispute = sum(each != prediction.label for each in said) / len(said) if said else 0.0
    return Doubt(uncertainty=_uncertainty(prediction), dispute=dispute)


def _uncertainty(prediction: Prediction) -> float:
    shares = prediction.probabilities
    if len(shares) > 1 and all(math.isfinite(p) and p >= 0 for p in shares) and sum(shares) > 0:
        total = math.fsum(shares)
        entropy = -math.fsum(p / total * math.log(p / total) for p in shares if p > 0)
        return min(1.0, max(0.0, entropy / math.log(len(shares))))
    confidence = prediction.confidence
    if confidence is None or not 0 <= confidence <= 1:
        return 1.0
    return 1.0 - confidence


def chance(name: str, salt: str = "") -> float:
    """From 0 to 1, the same for the same name, and of no sense otherwise: the lowest of many are a sample by chance."""
    digest = hashlib.blake2b(f"{salt}/{name}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def rank(prediction: Prediction) -> float:
    """Which goes first to people, and last when room is wanted. Among those chosen by chance it is chance again: were
    the less doubtful given up, the rest would be no sample by chance."""
    return chance(prediction.id) if prediction.is_random else doubt(prediction).weight


def is_candidate(prediction: Prediction, confidence_below: float) -> bool:
    """Disputed, below the threshold, or without a confidence that could be compared."""
    if doubt(prediction).dispute > 0:
        return True
    confidence = prediction.confidence
    if confidence is None or not 0 <= confidence <= 1:
        return True
    return confidence < confidence_below


@dataclass(slots=True)
class _Stratum:
    """The most doubtful of one segment, and how many there were."""

    seen: int = 0
    heap: list[tuple[float, str, Prediction]] = field(default_factory=list)


class Sampler:
    """Predictions in, a sample of ``budget`` out; remembers at most ``budget`` of each segment."""

    def __init__(self, budget: int, *, confidence_below: float = 0.7, floor: int = 5) -> None:
        """``floor``: so many of each segment come before anything else, as far as the budget goes."""
        self._budget = max(0, budget)
        self._below = confidence_below
        self._floor = floor
        self._strata: dict[str, _Stratum] = {}
        self.predictions = 0

    def add(self, predictions: Iterable[Prediction]) -> None:
        for each in predictions:
            self.predictions += 1
            if not is_candidate(each, self._below):
                continue
            segment = each.segment
            if segment not in self._strata and len(self._strata) >= SEGMENTS_MAX:
                segment = OTHERS
            stratum = self._strata.setdefault(segment, _Stratum())
            stratum.seen += 1
            entry = (doubt(each).weight, each.id, each)
            if len(stratum.heap) < self._budget:
                heapq.heappush(stratum.heap, entry)
            elif self._budget and entry[:2] > stratum.heap[0][:2]:
                heapq.heapreplace(stratum.heap, entry)

    def sample(self) -> list[Prediction]:
        """By segment, the most doubtful first."""
        seen = {segment: stratum.seen for segment, stratum in self._strata.items()}
        shares = allocate(seen, self._budget, floor=self._floor)
        chosen = []
        for segment in sorted(self._strata):
            heap = self._strata[segment].heap
            ordered = sorted(heap, key=lambda entry: (-entry[0], entry[1]))
            chosen += [entry[2] for entry in ordered[: shares[segment]]]
        return chosen


def allocate(available: Mapping[str, int], budget: int, *, floor: int) -> dict[str, int]:
    """How many of each segment: the floor first (the rarest segments first, where the budget is less than all
    floors), the rest by the square root of what there is; never more than there is, and all of the budget that can be used.
    """
    shares = dict.fromkeys(available, 0)
    left = min(max(0, budget), sum(available.values()))
    order = sorted(available, key=lambda name: (available[name], name))
    for _ in range(max(0, floor)):
        for name in order:
            if left and shares[name] < available[name]:
                shares[name] += 1
                left -= 1
    while left:
        open_ones = [name for name in order if shares[name] < available[name]]
        weights = [available[name] ** _POWER for name in open_ones]
        given = _by_weight(weights, left, [available[name] - shares[name] for name in open_ones])
        for name, number in zip(open_ones, given, strict=True):
            shares[name] += number
            left -= number
    return shares


def _by_weight(weights: Sequence[float], total: int, caps: Sequence[int]) -> list[int]:
    """Largest remainders, capped; at least one is given."""
    whole = math.fsum(weights)
    exact = [total * weight / whole for weight in weights]
    given = [min(cap, int(share)) for share, cap in zip(exact, caps, strict=True)]
    rest = total - sum(given)
    by_remainder = sorted(range(len(weights)), key=lambda k: (int(exact[k]) - exact[k], k))
    for k in by_remainder:
        if rest and given[k] < caps[k] and exact[k] < caps[k]:
            given[k] += 1
            rest -= 1
    return given
