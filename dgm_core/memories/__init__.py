"""The memory kinds: one file each and one line here."""

from dgm_core.errors import CannotLearn
from dgm_core.manifest import Blobs, DataSpec, Manifest
from dgm_core.memories.dgma import DGMa
from dgm_core.memories.dgmw import DGMw
from dgm_core.memories.dgr import Dgr
from dgm_core.memories.dual import DualMemory
from dgm_core.memories.gan_memory import GanMemory
from dgm_core.memories.mergan import Mergan
from dgm_core.memory import Bases, GenerativeMemory
from dgm_core.style.library import SHIPPED

KINDS: dict[str, type[GenerativeMemory]] = {
    kind.kind: kind for kind in (DGMw, DGMa, GanMemory, DualMemory, Dgr, Mergan)
}
"""Registered name -> kind. A new kind is one file and one line here."""

DEFAULT_KIND = DGMw.kind


def new_manifest(kind: str, options: dict[str, str], spec: DataSpec, seed: int, bases: Bases = SHIPPED) -> Manifest:
    """The manifest of an empty memory; `seed` serves where the options name none.

    Raises:
        CannotLearn: the kind is not registered, or it refuses such data, or the options, alone or for such data.
    """
    wanted = kind_of(kind)
    if not (wanted.vectors or spec.is_image):
        others = ", ".join(sorted(name for name, each in KINDS.items() if each.vectors))
        raise CannotLearn(
            "kind",
            f"{kind} takes images (C, H, W), not vectors of shape {spec.shape}; the kinds for vectors are {others}",
        )
    return Manifest(kind, wanted.options({"seed": str(seed), **options}, spec, bases), spec)


def load_memory(manifest: Manifest, blobs: Blobs) -> GenerativeMemory:
    """The memory that a manifest describes. `blobs` serves every digest in `manifest.digests`."""
    return kind_of(manifest.kind)(manifest, blobs)


def kind_of(name: str) -> type[GenerativeMemory]:
    """The registered kind of that name. Raises CannotLearn with the known ones."""
    try:
        return KINDS[name]
    except KeyError:
        raise CannotLearn(
            "kind", f"there is no memory kind {name!r}; the kinds are {', '.join(sorted(KINDS))}"
        ) from None
