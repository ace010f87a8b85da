"""Structured logs on standard error: for people on a terminal, JSON lines elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


class Unfailing:
    """A stream that loses what it cannot write, as on a full disk: a log is no reason to fail for what it tells of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes, or does not."""
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Likewise."""
        with suppress(OSError):
            self._stream.flush()


def configure_logs(level: str, as_json: bool | None) -> None:
    """Sets up structlog for this process.

    Arguments:
        level: the least severe messages to write: "debug", "info", "warning" or "error".
        as_json: JSON lines; None for JSON unless standard error is a terminal.
    """
    json_lines = not sys.stderr.isatty() if as_json is None else as_json
    render = structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,  # the id of the call, the names of memory and task
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", Unfailing(sys.stderr))),
    )
