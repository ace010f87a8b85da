"""Structured logs on standard error: for people on a terminal, JSON lines elsewhere."""

import logging
import sys

import structlog


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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
