"""The log: fixed snake_case events with key-values, one line an event, to stderr, or to the journal where that is it.

This is the only module that imports structlog. structlog loads rich where it finds it, for coloured
tracebacks; the daemon logs one plain line an event and must not carry 10 MiB of tables for that.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from enum import Enum
from typing import Any, Literal, Protocol, TextIO, cast

VALUE_MAX_CHARS = 1000
ITEMS_MAX = 50
_INFO = 20


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Imports of these fail inside; what was loaded before stays."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # documented: import then fails
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


with _hidden("rich", "better_exceptions"):
    import structlog


class Logger(Protocol):
    """What the program logs with: ``log.warning("action_withheld", budget="one_per_device")``."""

    def debug(self, event: str, **values: Any) -> Any: ...

    def info(self, event: str, **values: Any) -> Any: ...

    def warning(self, event: str, **values: Any) -> Any: ...

    def error(self, event: str, **values: Any) -> Any: ...


def configure_log(
    form: Literal["console", "json"], *, level: int = _INFO, stream: TextIO | None = None
) -> None:
    """Set the log up; ``level`` as in ``logging`` (20: info). Call once, at start."""
    tamed: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _on_one_line,
    ]
    if form == "console" and stream is None and "JOURNAL_STREAM" in os.environ:
        from gpuwarden import log_journal

        if log_journal.is_stderr(os.environ):
            journal = log_journal.Journal()
            structlog.configure(
                processors=[*tamed],
                wrapper_class=structlog.make_filtering_bound_logger(level),
                logger_factory=lambda *_: journal,
                cache_logger_on_first_use=True,
            )
            return
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if form == "json"
        else structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "event"], sort_keys=False
        )
    )
    structlog.configure(
        processors=[*tamed, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=stream is None,
    )


def get_log() -> Logger:
    """The program's logger."""
    return cast("Logger", structlog.get_logger())


def _on_one_line(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hostile values (a process may be named anything) stay printable, on one line, and bounded."""
    return {_tame(str(key)): _plain(value) for key, value in event.items()}


def _plain(value: object, depth: int = 3) -> object:
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, Enum) and not isinstance(value, str):
        return value.name.lower()
    if isinstance(value, str):
        return _tame(value)
    if depth and isinstance(value, Mapping):
        return {_tame(str(key)): _plain(each, depth - 1) for key, each in _first(value.items())}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in _first(value)]
    return _tame(str(value))


def _first(items: Any) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number == ITEMS_MAX:
            return
        yield item


def _tame(text: str) -> str:
    cut = text if len(text) <= VALUE_MAX_CHARS else text[: VALUE_MAX_CHARS - 3] + "..."
    if cut.isprintable():
        return str(cut)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
