"""How the log looks: lines for people, or one JSON object each; by structlog, for whatever writes to it."""

from typing import Any, Literal

import structlog

#: What is done with every entry before it is written, whether structlog or the standard library made it.
STEPS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def without_colours(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Uvicorn tells everything twice, once for terminals."""
    entry.pop("color_message", None)
    return entry


def line(_logger: Any, _method: str, entry: dict[str, Any]) -> str:
    """`2026-05-04T12:10:00.000000Z INFO sollol.requests: request id=... outcome=served`."""
    head = (
        f"{entry.pop('timestamp')} {entry.pop('level', 'info').upper()} "
        f"{entry.pop('logger', 'root')}: {entry.pop('event', '')}"
    )
    trace = "".join(f"\n{entry.pop(name)}" for name in ("exception", "stack") if entry.get(name))
    return head + "".join(f" {name}={quoted(value)}" for name, value in entry.items()) + trace


def quoted(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or any(sign.isspace() or sign in "=\"'" for sign in text) else text


def configuration(level: str, shape: Literal["line", "json"]) -> dict[str, Any]:
    """The standard library's logging configuration; also has structlog hand its events to the standard library."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    writer = structlog.processors.JSONRenderer(default=str) if shape == "json" else line
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [structlog.stdlib.ExtraAdder()],
        "processors": [
            *STEPS,
            without_colours,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            writer,
        ],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"entry": formatter},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "entry"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "httpx": {"level": "WARNING"},
            "django.utils.autoreload": {"level": "WARNING"},
        },
    }
