"""Networks: they know shapes and layers, and nothing of masks, tasks or training."""

from dgm_core.errors import CannotLearn
from dgm_core.manifest import DataSpec
from dgm_core.networks.architecture import Architecture
from dgm_core.networks.chains import Dcgan, Mlp
from dgm_core.networks.dense import Dense
from dgm_core.networks.gpgan import Gpgan
from dgm_core.networks.residual import Residual

ARCHITECTURES: dict[str, type[Architecture]] = {
    "dcgan": Dcgan,
    "residual": Residual,
    "gpgan": Gpgan,
    "dense": Dense,
}
"""Name -> generators of images. A new one is one file and one line here."""

AUTOMATIC = "auto"


def architecture_of(name: str, spec: DataSpec, noise_dim: int) -> Architecture:
    """The architecture of that name for such data; "auto" is `dcgan` for images and `mlp` for vectors.

    Raises:
        CannotLearn: there is none of that name, or it does not suit the data.
    """
    if name == AUTOMATIC:
        return (Dcgan if spec.is_image else Mlp)(spec, noise_dim)
    try:
        kind = ARCHITECTURES[name]
    except KeyError:
        raise CannotLearn(
            "options.network", f"there is no network {name!r}; the networks are {AUTOMATIC}, {', '.join(ARCHITECTURES)}"
        ) from None
    if not spec.is_image:
        raise CannotLearn("options.network", f"{name} generates images; leave network at {AUTOMATIC} for vectors")
    return kind(spec, noise_dim)
