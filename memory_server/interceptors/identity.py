"""The id of a call, by which its client and the server's log speak of the same one."""

import re
import secrets
from collections.abc import Iterable

KEY = "x-request-id"
"""Metadata: the client may send one, the server sends back the one in use as trailing metadata."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")

Metadata = Iterable[tuple[str, str | bytes]]


def request_id(metadata: Metadata) -> str:
    """The id that a client sent, 1 to 64 letters, digits, '.', '_' and '-'; a fresh one if it sent none or another."""
    sent = next((value for key, value in metadata if key == KEY), "")
    if isinstance(sent, str) and _WELL_FORMED.fullmatch(sent):
        return sent
    return secrets.token_hex(8)
