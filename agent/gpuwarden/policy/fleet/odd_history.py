"""What a service's series were in each quarter of an hour of the newest days: bounded, with gaps. Plain values alone."""

from array import array
from collections.abc import Mapping, Sequence
from math import isfinite, nan

from gpuwarden.model.anomaly import SERIES, SLOTS_A_DAY

DAYS_KEPT = 15
SLOTS_KEPT = DAYS_KEPT * SLOTS_A_DAY
"""Two weeks and a day: a Saturday has another two to be held against."""


class History:
    """``upto``: the number (since 1970) of the slot after the newest. All series are of one length; None is NaN."""

    def __init__(self) -> None:
        self.upto = 0
        self.values: dict[str, array[float]] = {name: array("d") for name in SERIES}
        self.odd: dict[str, bytearray] = {name: bytearray() for name in SERIES}
        """1 where a value was found odd: it is not learnt from."""
        self._told = bytearray()
        """1 where any series was told."""

    def __len__(self) -> int:
        return len(self.odd[SERIES[0]])

    @property
    def first(self) -> int:
        """The oldest slot's number."""
        return self.upto - len(self)

    def take(self, slot: int, told: Mapping[str, float | None]) -> bool:
        """The values of a slot, later than any before; slots between them are gaps. False: it is none."""
        if slot < self.upto:
            return False
        missing = min(slot - self.upto, SLOTS_KEPT) if len(self) else 0
        is_told = False
        for name in SERIES:
            value = told.get(name)
            values, odd = self.values[name], self.odd[name]
            values.extend([nan] * missing)
            odd.extend(bytes(missing))
            known = value if value is not None and isfinite(value) else nan
            values.append(known)
            odd.append(0)
            is_told |= isfinite(known)
            if (over := len(values) - SLOTS_KEPT) > 0:
                del values[:over], odd[:over]
        self._told.extend(bytes(missing))
        self._told.append(is_told)
        del self._told[: -len(self)]
        self.upto = slot + 1
        return True

    def cut(self, upto: int) -> None:
        """Slots from this number on go: the clock that they are of was wrong."""
        keep = max(0, upto - self.first)
        for name in SERIES:
            del self.values[name][keep:], self.odd[name][keep:]
        del self._told[keep:]
        self.upto = min(self.upto, upto)

    def days(self) -> int:
        """Whole days back from the newest slot, of which half the slots or more are told."""
        found = 0
        for end in range(len(self), SLOTS_A_DAY - 1, -SLOTS_A_DAY):
            found += 2 * self._told.count(1, end - SLOTS_A_DAY, end) >= SLOTS_A_DAY
        return found

    def load(
        self, upto: int, values: Mapping[str, Sequence[float | None]], odd: Mapping[str, bytes]
    ) -> None:
        """What was kept, in the place of what is here. ``ValueError``: it does not fit together."""
        lengths = {len(each) for each in (*values.values(), *odd.values())}
        if len(lengths) != 1 or max(lengths) > SLOTS_KEPT or max(lengths) > upto:
            raise ValueError("series: expected equal lengths within what is kept")
        length = lengths.pop()
        for name in SERIES:
            told = values.get(name) or [None] * length
            known = (v if v is not None and isfinite(v) else nan for v in told)
            self.values[name] = array("d", known)
            self.odd[name] = bytearray(bool(b) for b in odd.get(name, bytes(length)))
        rows = zip(*self.values.values(), strict=True)
        self._told = bytearray(any(map(isfinite, row)) for row in rows)
        self.upto = upto

    def newest_told(self) -> int:
        """The number of the newest slot that is no gap; 0: there is none."""
        place = self._told.rfind(1)
        return 0 if place < 0 else self.first + place

    def is_odd(self, series: str, slot: int) -> bool:
        place = slot - self.first
        return 0 <= place < len(self) and self.odd[series][place] == 1

    def mark(self, series: str, first: int, last: int) -> None:
        """These slots, both included, are odd."""
        odd = self.odd[series]
        for index in range(max(first - self.first, 0), min(last + 1 - self.first, len(odd))):
            odd[index] = 1
