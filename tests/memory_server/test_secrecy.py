import os

import pytest

from memory_server.secrecy import exposed

SERVICE, OTHER, ROOT = 10001, 10002, 0


@pytest.mark.parametrize(
    ("process", "owner", "mode", "expected"),
    [
        (SERVICE, SERVICE, 0o600, False),
        (SERVICE, SERVICE, 0o400, False),
        (SERVICE, SERVICE, 0o640, True),
        (SERVICE, OTHER, 0o640, True),
        (SERVICE, ROOT, 0o440, False),
        (SERVICE, ROOT, 0o640, False),
        (SERVICE, ROOT, 0o660, True),
        (SERVICE, ROOT, 0o450, True),
        (SERVICE, ROOT, 0o644, True),
        (ROOT, ROOT, 0o600, False),
        (ROOT, ROOT, 0o640, True),
    ],
)
def test_a_secret_is_for_its_owner_or_handed_down_by_root(monkeypatch, process, owner, mode, expected):
    monkeypatch.setattr(os, "geteuid", lambda: process)
    found = os.stat_result((0o100000 | mode, 1, 1, 1, owner, 10001, 64, 0, 0, 0))
    assert exposed(found) is expected
