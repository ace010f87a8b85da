"""Variational autoencoders as exchangeable models: they learn without labels, and sample class by class.

Each class is a Gaussian in the latent space, which is fitted once the autoencoder is trained.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dgm_core.checkpoints import Checkpoints
from dgm_core.experts import GENERATE_BATCH, FrozenExpert, at_once, to_storage
from dgm_core.generative.model import Model
from dgm_core.manifest import DataSpec, Label
from dgm_core.memory import TaskData
from dgm_core.networks import architecture_of
from dgm_core.networks.placed import Placed, fitted
from dgm_core.networks.variational import Variational, taken_over
from dgm_core.training.batches import EvenBatches, standardisation, to_range
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.running import Trained
from dgm_core.training.states import part, under
from dgm_core.training.variational import VariationalRecipe, train_variational

KERNEL = 4


@dataclass(frozen=True)
class Places:
    """Where classes lie in the latent space; `Placed` says how they are read.

    Arguments:
        mean: μ, for each class.
        factor: L, for each class.
    """

    mean: Float[Tensor, "classes d"]
    factor: Float[Tensor, "classes d d"]

    @classmethod
    def anywhere(cls, classes: int, d: int) -> "Places":
        """Every class is all that the decoder was trained for."""
        return cls(torch.zeros(classes, d), torch.eye(d).repeat(classes, 1, 1))


class VaeModel(Model):
    """A trained variational autoencoder.

    Arguments:
        network: in evaluation mode.
        places: of its classes, on the CPU.
        classes: what it generates.
        spec: of one example.
        conditional: whether its classes have places of their own.
    """

    def __init__(
        self, network: Variational, places: Places, classes: tuple[Label, ...], spec: DataSpec, *, conditional: bool
    ) -> None:
        self.network, self.places, self.classes, self.spec = network.eval(), places, classes, spec
        self.conditional = conditional

    def expert(self, classes: tuple[Label, ...]) -> FrozenExpert:
        """The decoder with the places of these classes alone."""
        rows = torch.tensor([self.classes.index(label) for label in classes])
        decoder = deepcopy(self.network.decoder).cpu().folded()
        placed = Placed(decoder, self.places.mean[rows], self.places.factor[rows])
        return FrozenExpert(placed.eval(), classes, self.network.noise_dim)

    @torch.inference_mode()
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the decoder makes of the mean that the encoder infers."""
        self.network.to(x.device)
        parts = x.split(at_once(x.shape[1:], GENERATE_BATCH))
        means = (self.network.encode(to_range(part))[0] for part in parts)
        return torch.cat([to_storage(self.network.decode(mean), self.spec) for mean in means])

    def tensors(self) -> dict[str, Tensor]:
        """Of encoder and decoder, and the places of classes."""
        network = {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}
        return under("network", network) | {"places.mean": self.places.mean, "places.factor": self.places.factor}

    def about(self) -> Mapping[str, Any]:
        """Its classes."""
        return {"classes": list(self.classes)}


@dataclass(frozen=True)
class VaeMaker:
    """Makes variational autoencoders.

    Arguments:
        spec: of one example.
        recipe: how they are trained.
        network: name of the decoder's architecture; the encoder has the features of its discriminator.
        width: f of the decoder's widths.
        noise: length of z.
        encoder: width of the first layer of the encoder; None takes what suits a small discriminator.
        conditional: whether classes are sampled apart; otherwise samples have to be labelled by who looks at them.
    """

    spec: DataSpec
    recipe: VariationalRecipe
    network: str
    width: int
    noise: int
    encoder: int | None = None
    conditional: bool = True

    def fit(
        self,
        data: TaskData,
        start: Model | None,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[VaeModel, Trained]:
        """See `Maker.fit`. Every example counts alike, so that classes have the shares that they have in `data`."""
        known = () if start is None else start.classes
        classes = tuple(dict.fromkeys([*known, *data.classes]))
        network, places = self._fresh(len(classes)), Places.anywhere(len(classes), self.noise)
        if start is not None:
            former = start.tensors()
            taken_over(network, part("network", former))
            places.mean[: len(known)], places.factor[: len(known)] = former["places.mean"], former["places.factor"]
        placed(network, device)
        if not self.spec.is_image:
            network.standardise(*standardisation(data.x))
            network.unsettle()
        rows = torch.tensor([classes.index(label) for label in data.classes], device=device)
        batches = EvenBatches(data.x, rows[data.y], len(classes))
        trained = train_variational(network, batches, self.recipe, steps, clock, checkpoints)
        if self.conditional:
            for row, where in enumerate(rows.tolist()):
                places.mean[where], places.factor[where] = fitted(*_latents(network, data.x[data.y == row]))
        network.settle()
        return VaeModel(network, places, classes, self.spec, conditional=self.conditional), trained

    def load(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> VaeModel:
        """See `Maker.load`."""
        network = self._fresh(len(about["classes"]))
        network.load_state_dict(part("network", tensors))
        places = Places(tensors["places.mean"], tensors["places.factor"])
        return VaeModel(network, places, tuple(about["classes"]), self.spec, conditional=self.conditional)

    def _fresh(self, classes: int) -> Variational:
        architecture = architecture_of(self.network, self.spec, self.noise)
        decoder = architecture.generator(architecture.initial_widths(self.width), classes=1, embedding=1)
        encoder = architecture.discriminator(classes=1, kernel=KERNEL, width=self.encoder)
        return Variational(decoder, encoder, self.noise, self.spec.shape, classes if self.conditional else 0)


@torch.inference_mode()
def _latents(network: Variational, x: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Means and variances of the latents of examples, on the CPU; in evaluation mode."""
    parts = (network.encode(to_range(some)) for some in x.split(at_once(x.shape[1:], GENERATE_BATCH)))
    means, log_variances = zip(*parts, strict=True)
    return torch.cat(means).cpu(), torch.cat(log_variances).exp().cpu()
