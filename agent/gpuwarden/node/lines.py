"""Records as lines of a file: a sum of the body in eight hexadecimal digits, a blank, and the body as JSON.

A line that was torn, or changed by anybody, does not check and is no record.
"""

import json
import zlib
from typing import Generic, TypeVar

from pydantic import TypeAdapter

Kind = TypeVar("Kind")


class Lines(Generic[Kind]):
    """One kind of record to and from its lines.

    Of pydantic's adapter only the two compiled halves are kept: the description that they were made from
    would weigh as much as both, and nothing asks for it again.
    """

    def __init__(self, kind: type[Kind]) -> None:
        adapter = TypeAdapter(kind)
        self._validator, self._serializer = adapter.validator, adapter.serializer

    def encode(self, record: Kind) -> bytes:
        """A record as its line; fields at their defaults are left out."""
        try:
            body = self._serializer.to_json(record, exclude_defaults=True)
        except ValueError:
            # A cgroup may be named by bytes that are no UTF-8; as escapes they come back as they were.
            said = self._serializer.to_python(record, mode="json", exclude_defaults=True)
            body = json.dumps(said, separators=(",", ":")).encode("ascii")
        return b"%08x " % zlib.crc32(body) + body + b"\n"

    def decode(self, line: bytes) -> Kind | None:
        """The record of a line, or ``None`` when it does not check."""
        body = checked(line)
        if body is None:
            return None
        for parse in (self._validator.validate_json, self._with_any_text):
            try:
                record: Kind = parse(body)
            except (ValueError, RecursionError):
                continue
            return record
        return None

    def _with_any_text(self, body: bytes) -> Kind:
        record: Kind = self._validator.validate_python(json.loads(body))
        return record


def checked(line: bytes) -> bytes | None:
    """The JSON of a line whose sum is right."""
    if len(line) < 10 or not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    body = line[9:-1]
    try:
        return body if int(line[:8], 16) == zlib.crc32(body) else None
    except ValueError:
        return None
