"""Logs for people on a console, or as one JSON object a line."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import Final

import structlog

SELDOM_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 1_000


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
    _set_up_libraries(max(number, logging.WARNING), [*shared[1:], *tail[:-1]], renderer)


def _set_up_libraries(
    level: int, before: Sequence[structlog.types.Processor], renderer: structlog.types.Processor
) -> None:
    """What libraries log looks like our own, and repeats itself only now and then."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)


class Seldom(logging.Filter):
    """Passes the same message once a minute: while its broker is away, aiokafka tells so a hundred times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        about, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._passed.get(about, -SELDOM_SECONDS) < SELDOM_SECONDS:
            return False
        if len(self._passed) >= MOST_REMEMBERED:
            self._passed.clear()
        self._passed[about] = now
        return True
