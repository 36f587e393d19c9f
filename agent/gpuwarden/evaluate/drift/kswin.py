"""River's KSWIN without its cost: the same draws and the same verdicts, the p-value taken from a table.

Both samples of its test have ``stat_size`` values, so the exact p is a function of a whole number of
steps h, D = h/stat_size, and "p <= alpha" is "h >= some step". River asks scipy at every value
(261 us); this takes about a tenth of that and alarms at the same indexes.
"""

from river import drift

from gpuwarden.evaluate.drift import ks

LEAST_DISTANCE = 0.1
"""River alarms only where D is above this, whatever p says."""


class Kswin(drift.KSWIN):
    """A drop-in for ``river.drift.KSWIN``; ``p_value`` is not kept. Needs 2 stat_size <= window_size."""

    def __init__(self, *, alpha: float, window_size: int, stat_size: int, seed: int) -> None:
        if not 0 < stat_size <= window_size // 2:
            raise ValueError("stat_size: expected 1 to half of window_size")
        super().__init__(alpha=alpha, window_size=window_size, stat_size=stat_size, seed=seed)
        self._least_steps = _least_steps(stat_size, alpha)

    def update(self, x: float) -> None:
        """One value; ``drift_detected`` then says whether it alarmed."""
        if self.drift_detected:
            self._reset()  # type: ignore[no-untyped-call]  # river ships half its types
        self.n += 1
        window, size = self.window, self.stat_size
        window.append(x)
        if len(window) < self.window_size:
            self._drift_detected = False
            return
        values = list(window)
        older = values[: self.window_size - size]
        drawn = [older[i] for i in self._rng.sample(range(len(older)), size)]
        self._drift_detected = _steps_apart(drawn, values[-size:]) >= self._least_steps
        if self._drift_detected:
            window.clear()
            window.extend(values[-size:])


def _least_steps(n: int, alpha: float) -> int:
    """Smallest h with P(D >= h/n) <= alpha and h/n above LEAST_DISTANCE; n + 1 where there is none."""
    low, high = 0, n + 1
    while high - low > 1:
        middle = (low + high) // 2
        if ks.p_exact(middle / n, n, n) <= alpha:
            high = middle
        else:
            low = middle
    while high <= n and high / n <= LEAST_DISTANCE:
        high += 1
    return high


def _steps_apart(a: list[float], b: list[float]) -> int:
    """n x the KS distance of two samples of n values each; equal values step together."""
    a, b = sorted(a), sorted(b)
    n = len(a)
    i = j = most = 0
    while i < n and j < n:
        x, y = a[i], b[j]
        if x <= y:
            i += 1
            while i < n and a[i] == x:
                i += 1
        if y <= x:
            j += 1
            while j < n and b[j] == y:
                j += 1
        gap = i - j if i > j else j - i
        most = max(most, gap)
    return most
