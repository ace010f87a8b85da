"""What a generator is to the rest of the core, and what a family of generators with its discriminator is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from dgm_core.manifest import DataSpec
from dgm_core.networks.discriminators import Discriminator
from dgm_core.networks.layers import Units, axes
from dgm_core.networks.outlines import outlined
from dgm_core.topology import Connection, Topology

EMBEDDING_DIM = 16


class Generator(nn.Module, ABC):
    """Noise and a class index in, one example out: what an expert is made of (see `experts.FrozenExpert`).

    Whatever differs between two generators of a memory is a parameter or a buffer that `state_dict` has: the digest of
    an expert sees nothing else, and experts of one signature are computed side by side by one network, which each puts
    its tensors into (`bundles.Bundle`: so it has to run under `torch.func.vmap`, too). A number or a tensor that is a
    plain attribute may follow from the memory's options and the data's spec alone.

    A row is a function of its own noise and class: what the other rows of a pass are changes no bit of it. How many
    they are may, as it does in products of matrices: what is promised for a seed is computed in tiles whose sizes
    follow from the request. `tests/contract` asks both of every kind.
    """

    @property
    @abstractmethod
    def topology(self) -> Topology:
        """How its weights connect its units."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "batch noise"], c: Int[Tensor, " batch"]) -> Float[Tensor, "batch *shape"]:
        """Examples for noise z and class indices c: images in [-1, 1], vectors in the scale of their data."""

    @abstractmethod
    def folded(self) -> "Generator":
        """The same function in evaluation mode with every norm folded into its layer or into a scale and a shift.

        Folded in double precision, so that the result does not hang on how the processor vectorises it.
        """

    @abstractmethod
    def narrowed(self, units: Sequence[Units]) -> "Generator":
        """The same network with these units of each group alone, once it is folded.

        The same function as long as no weight other than zero reads a unit that is left out.
        """

    @abstractmethod
    def served(self) -> "Generator":
        """The same function, once it is folded, in the formulation that is fastest without gradients."""


class Embedded(Generator):
    """A generator that is trained: told a class by an embedding.

    The weights that write to a group of units (`topology.shared`) belong to the memory; embedding, norms and head
    belong to one task. A network knows nothing of masks: effective weights are put in from outside
    (`torch.func.functional_call`).

    Attributes:
        embedding: class index -> what the first layer reads of it.
    """

    embedding: nn.Embedding

    def rescale(self, scale: Float[Tensor, " f"], shift: Float[Tensor, " f"]) -> None:
        """From here on vectors come out as x·scale + shift; images have one scale and ignore it."""

    def absorb_scale(self) -> None:
        """Has the head put out what `rescale` asked for, so that there is nothing to rescale; the same function."""


class Architecture(ABC):
    """A family of generators that differ in their widths, with the discriminator that suits them.

    Arguments:
        spec: of one example.
        noise_dim: length of z.
    """

    def __init__(self, spec: DataSpec, noise_dim: int) -> None:
        self.spec, self.noise_dim = spec, noise_dim

    @abstractmethod
    def initial_widths(self, f: int) -> tuple[int, ...]:
        """Units per group before the first task, for a base width f."""

    @abstractmethod
    def generator(self, widths: Sequence[int], classes: int, embedding: int = EMBEDDING_DIM) -> Embedded:
        """A fresh generator; `embedding` is the length of what its first layer reads of a class, beside the noise."""

    @abstractmethod
    def discriminator(self, classes: int, kernel: int, width: int | None = None) -> Discriminator:
        """A fresh discriminator.

        Arguments:
            classes: that it can tell.
            kernel: of its strided convolutions, where it has such.
            width: of its first layer; None takes what suits a small memory.
        """

    @abstractmethod
    def initial_std(self, connection: Connection) -> float:
        """Standard deviation of a fresh weight."""

    def topology(self, widths: Sequence[int]) -> Topology:
        """The topology at some widths; nothing is allocated."""
        with outlined():
            return self.generator(widths, classes=1).topology


def connection(network: nn.Module, path: str, reads: int | None, writes: int | None) -> Connection:
    """The weight of the layer at `path` as a connection."""
    layer = network.get_submodule(path)
    shape = tuple(layer.get_parameter("weight").shape)
    return Connection(f"{path}.weight", shape, reads, writes, *axes(layer))


def initialise(network: Generator, architecture: Architecture) -> None:
    """Draws every weight that touches a group from N(0, initial_std²) and sets their biases to 0."""
    for each in network.topology.connections:
        layer = network.get_submodule(each.name.removesuffix(".weight"))
        nn.init.normal_(layer.get_parameter("weight"), std=architecture.initial_std(each))
        if layer.bias is not None:
            nn.init.zeros_(layer.get_parameter("bias"))
