"""The log: fixed snake_case events with key-values, one line an event, to stderr."""

import sys
from collections.abc import MutableMapping
from typing import Any, Literal, cast

import structlog

VALUE_MAX_CHARS = 1000


def configure_log(form: Literal["console", "json"], *, level: int = 20) -> None:
    """Set the log up; ``level`` as in ``logging`` (20: info). Call once, at start."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=True)
        if form == "json"
        else structlog.processors.KeyValueRenderer(key_order=["event"], sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _on_one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_log() -> structlog.typing.FilteringBoundLogger:
    """The program's logger."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def _on_one_line(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Hostile values (a process may be named anything) stay printable, on one line, and bounded."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _tame(value)
        elif isinstance(value, list | tuple):
            event[key] = [_tame(str(item)) for item in value[:50]]
    return event


def _tame(text: str) -> str:
    cut = text[:VALUE_MAX_CHARS]
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
