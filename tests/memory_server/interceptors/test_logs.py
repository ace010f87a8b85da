import errno
from types import SimpleNamespace

import structlog

from memory_server.interceptors.logs import configure_logs


def test_a_line_that_the_disk_does_not_take_is_lost_and_hurts_nobody(monkeypatch, request):
    request.addfinalizer(structlog.reset_defaults)
    asked = []

    def full(*given):
        asked.append(given)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=full, flush=full, isatty=lambda: False))
    configure_logs("info", as_json=None)
    structlog.get_logger().error("the disk fails")
    assert "the disk fails" in asked[0][0]
