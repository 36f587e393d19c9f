"""GPUs that behave unlike their peers: temperature and power of those of one model at one kind of work."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan

from gpuwarden.model.anomaly import OddDevice

BUSY_RATIO = 0.5
PASSES_KEPT = 30
"""Once a minute: half an hour."""
PASSES_MIN = 5
"""Of them, so many at work: fewer are too few for a median."""
HOLDS = 5
"""It is told when it was so in as many passes in a row, and as many have to be otherwise for it to end."""
DEVICES_MAX = 20_000
MINORITY = 4
"""Of those that are compared at most one in so many is odd; where more are apart, it is their work that is another."""
TOGETHER_MAX = 64
"""Compared at once: more peers say no more, and cost the square."""
SERIES = ("temperature_c", "power_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    """One GPU in its node's newest sample. None: not known."""

    node: str
    group: str
    work: str
    """Names of the services on it; empty: none is known."""
    device: str
    index: int
    model: str
    utilization_ratio: float | None
    temperature_c: float | None
    power_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """See ``config_anomaly``."""

    peers_min: int = 4
    peer_sigma: float = 6.0


@dataclass(slots=True)
class _Device:
    reading: DeviceReading
    busy: int = 0
    """Passes at work among those that are kept."""
    series: dict[str, "array[float]"] = field(
        default_factory=lambda: {name: array("f") for name in SERIES}
    )
    since: dict[str, float] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)
    """Passes in a row in which it was odd (above 0), or was not (below)."""
    told: dict[str, OddDevice] = field(default_factory=dict)


class PeerWatch:
    """One thread; one pass a minute."""

    def __init__(self, settings: PeerSettings) -> None:
        self.settings = settings
        self._devices: dict[tuple[str, str], _Device] = {}
        self.crowded = 0
        """Readings of GPUs for which there was no room."""
        self.compared = 0
        """GPUs that had enough peers in the newest pass."""

    def __len__(self) -> int:
        return len(self._devices)

    def look(self, readings: Iterable[DeviceReading], wall: float) -> tuple[OddDevice, ...]:
        """Every GPU that is heard of now; those that are odd, by node."""
        self._take(readings)
        self.compared = 0
        for series in SERIES:
            found: dict[tuple[str, str], OddDevice] = {}
            for kind in self._kinds(series):
                found |= self._odd(series, kind, wall)
            for key, device in self._devices.items():
                _settle(device, series, found.get(key), wall)
        self.compared //= len(SERIES)
        every = (odd for device in self._devices.values() for odd in device.told.values())
        return tuple(sorted(every, key=lambda each: (each.node, each.index, each.series)))

    def _take(self, readings: Iterable[DeviceReading]) -> None:
        heard = set()
        for reading in readings:
            key = (reading.node, reading.device)
            device = self._devices.get(key)
            if device is None:
                if len(self._devices) >= DEVICES_MAX:
                    self.crowded += 1
                    continue
                device = self._devices[key] = _Device(reading=reading)
            elif _kind(device.reading) != _kind(reading):
                device = self._devices[key] = _Device(reading=reading)  # other work, other peers
            heard.add(key)
            device.reading = reading
            use = reading.utilization_ratio
            is_busy = use is not None and use >= BUSY_RATIO
            for name in SERIES:
                value = getattr(reading, name) if is_busy else None
                values = device.series[name]
                values.append(nan if value is None else value)
                del values[:-PASSES_KEPT]
        for key in self._devices.keys() - heard:
            del self._devices[key]

    def _kinds(self, series: str) -> Iterator[Sequence[tuple[str, str]]]:
        """Groups of GPUs that are compared, each of at most ``TOGETHER_MAX``; of neighbours, as far as can be."""
        kinds: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for key, device in self._devices.items():
            told = sum(map(isfinite, device.series[series]))
            # Only what is at work now: the half hour of one that has stopped is of another time.
            if told >= PASSES_MIN and isfinite(device.series[series][-1]):
                kinds.setdefault(_kind(device.reading), []).append(key)
        for kind in sorted(kinds):
            keys = sorted(kinds[kind])
            parts = -(-len(keys) // TOGETHER_MAX)
            size = -(-len(keys) // parts)
            for begin in range(0, len(keys), size):
                yield keys[begin : begin + size]

    def _odd(
        self, series: str, keys: Sequence[tuple[str, str]], wall: float
    ) -> dict[tuple[str, str], OddDevice]:
        said = self.settings
        if len(keys) <= said.peers_min:
            return {}
        from gpuwarden.evaluate.anomaly import peers

        self.compared += len(keys)
        names = {str(place): key for place, key in enumerate(keys)}
        told = {
            name: [v if isfinite(v) else None for v in self._devices[key].series[series]]
            for name, key in names.items()
        }
        found = peers.unlike(
            told, cut=said.peer_sigma, min_peers=said.peers_min, min_windows=PASSES_MIN
        )
        if len(found) > len(keys) // MINORITY:
            return {}  # two kinds of work, of which nobody has told the names
        odd = {}
        for each in found:
            key = names[each.device]
            reading = self._devices[key].reading
            odd[key] = OddDevice(
                node=reading.node,
                index=reading.index,
                device=reading.device,
                model=reading.model,
                series=series,
                since_wall=wall,
                value=round(each.value, 2),
                peers=round(each.peers, 2),
                count=len(keys) - 1,
                sigmas=round(each.z, 1),
            )
        return odd


def _kind(reading: DeviceReading) -> tuple[str, str, str]:
    return reading.group, reading.model, reading.work


def _settle(device: _Device, series: str, odd: OddDevice | None, wall: float) -> None:
    """Enter slowly, leave slowly."""
    run = device.run.get(series, 0)
    if odd is not None:
        if run <= 0 and series not in device.told:
            device.since[series] = wall
        run = max(run, 0) + 1
        if run >= HOLDS or series in device.told:
            device.told[series] = replace(odd, since_wall=device.since[series])
    else:
        run = min(run, 0) - 1
        if run <= -HOLDS:
            device.told.pop(series, None)
    device.run[series] = max(-HOLDS, min(HOLDS, run))
