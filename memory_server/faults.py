"""What may be told of an exception that nobody foresaw: its message and its locals may hold data."""

import traceback


def frames_of(error: Exception) -> list[str]:
    """Where it came from, outermost first: file, line, function, and the code of that line."""
    return traceback.format_list(traceback.extract_tb(error.__traceback__))
