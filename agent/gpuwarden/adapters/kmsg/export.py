"""The journal export format, a part at a time (systemd.io/JOURNAL_EXPORT_FORMATS)."""

from collections.abc import Iterator, Mapping

ENTRY_MAX_BYTES = 2**20
_SIZE_BYTES = 8


class Garbled(ValueError):
    """What came is no journal export."""


class ExportParser:
    """Feed it bytes as they come; it gives the entries that are whole. Fields that come twice keep the
    last.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, part: bytes) -> Iterator[Mapping[str, bytes]]:
        """Raises ``Garbled`` for what is no export or longer than any entry."""
        self._data += part
        begin = 0
        while True:
            found = self._entry(begin)
            if found is None:
                break
            entry, begin = found
            if entry:
                yield entry
        del self._data[:begin]
        if len(self._data) > ENTRY_MAX_BYTES:
            raise Garbled("an entry that does not end")

    def _entry(self, at: int) -> tuple[dict[str, bytes], int] | None:
        """The entry that begins here and where the next one does; ``None`` when it is not whole yet."""
        data, entry = self._data, dict[str, bytes]()
        while (end := data.find(b"\n", at)) >= 0:
            line = bytes(data[at:end])
            if not line:
                return entry, end + 1
            name, equals, value = line.partition(b"=")
            at = end + 1
            if not equals:
                # A value that is no plain text: its length in 8 bytes, the bytes, and an end of line.
                size = int.from_bytes(data[at : at + _SIZE_BYTES], "little")
                at += _SIZE_BYTES
                if size > ENTRY_MAX_BYTES:
                    raise Garbled("a field that does not end")
                if len(data) < at + size + 1:
                    return None
                value = bytes(data[at : at + size])
                at += size + 1
            entry[name.decode("ascii", "replace")] = value
        return None
