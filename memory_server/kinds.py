"""The kinds of the memories that are kept: one may be of a kind that this version does not have."""

from dgm_core.manifest import Manifest
from dgm_core.memories import KINDS
from dgm_core.memory import GenerativeMemory
from memory_server.errors import MissingKind


def kind_of_memory(memory: str, manifest: Manifest) -> type[GenerativeMemory]:
    """The kind of a memory that is kept. Raises MissingKind if this version does not have it."""
    try:
        return KINDS[manifest.kind]
    except KeyError:
        raise MissingKind(memory, manifest.kind) from None
