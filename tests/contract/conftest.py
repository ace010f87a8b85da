"""What the tests of the contract share."""

from collections.abc import Iterator

import pytest

from dgm_core.memories import KINDS
from tests.contract.gaussian import GaussianMemory


@pytest.fixture(scope="module", autouse=True)
def smallest() -> Iterator[None]:
    """The smallest kind is registered as long as these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, GaussianMemory.kind, GaussianMemory)
        yield
