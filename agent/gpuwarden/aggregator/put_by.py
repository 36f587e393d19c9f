"""Messages that wait to be looked at with others. Touched by the event loop's thread alone."""

from collections import deque

from gpuwarden.aggregator.streams import Stream

MANY_MAX, BYTES_MAX = 5000, 16 * 2**20

Waiting = tuple[Stream, bytes, float]
"""Whose it is, what it says, and when it came."""


class PutBy:
    """In the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= MANY_MAX or self._bytes >= BYTES_MAX

    def add(self, stream: Stream, data: bytes, at: float) -> None:
        self._waiting.append((stream, data, at))
        self._bytes += len(data)
        stream.put_by += 1

    def pop(self) -> Waiting:
        """The oldest of all."""
        return self._taken(self._waiting.popleft())

    def pop_all_of(self, stream: Stream) -> list[Waiting]:
        """Those of one stream, oldest first."""
        if not stream.put_by:
            return []
        mine = [each for each in self._waiting if each[0] is stream]
        self._waiting = deque(each for each in self._waiting if each[0] is not stream)
        return [self._taken(each) for each in mine]

    def _taken(self, each: Waiting) -> Waiting:
        each[0].put_by -= 1
        self._bytes -= len(each[1])
        return each
