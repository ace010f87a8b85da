import sys

import pytest

from memory_server.errors import CannotStart
from memory_server.watching.extras import require


def test_an_option_without_its_extra_says_what_to_install(monkeypatch):
    require("--trace-endpoint", "trace", "opentelemetry.sdk")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(CannotStart, match=r"--trace-endpoint needs .*pip install 'generative-memory\[server,trace\]'"):
        require("--trace-endpoint", "trace", "opentelemetry.sdk")
