"""Logs for people on a console, or as one JSON object a line."""

import logging
import sys

import structlog


def set_up_logs(form: str, level: str) -> None:
    """Configure structlog and the standard library's loggers alike; logs go to standard error."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    # Not rich's tracebacks, which are pages long and print local variables, secrets among them.
    plain = structlog.dev.plain_traceback
    console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer() if form == "json" else console
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    tail: list[structlog.types.Processor] = [renderer]
    if form == "json":
        tail = [structlog.processors.format_exc_info, renderer]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr, level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
