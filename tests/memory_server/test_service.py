from types import SimpleNamespace
from typing import Any

import pytest

from memory_server.errors import ShuttingDown
from memory_server.service import MemoryService


async def test_a_server_that_drains_imports_nothing():
    nothing: Any = None
    service = MemoryService(SimpleNamespace(catalog=None), nothing, nothing, nothing, nothing, nothing)
    service.drain()
    with pytest.raises(ShuttingDown, match="send"):
        await service.ImportMemory(nothing, nothing)
