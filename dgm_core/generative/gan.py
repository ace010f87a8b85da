"""A conditional GAN of several tasks: it is retrained from its own weights, against a new discriminator every time."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dgm_core.checkpoints import Checkpoints
from dgm_core.experts import FrozenExpert, draw
from dgm_core.generative.aligned import Aligned
from dgm_core.generative.model import Model
from dgm_core.manifest import Label
from dgm_core.memory import TaskData
from dgm_core.networks.architecture import Architecture, Embedded
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches, standardisation
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.recipes import Recipe
from dgm_core.training.running import Trained


class GanModel(Model):
    """A generator of one of our architectures.

    Arguments:
        network: in evaluation mode, on the CPU.
        classes: in the order of its embedding.
        noise_dim: length of z.
    """

    def __init__(self, network: Embedded, classes: tuple[Label, ...], noise_dim: int) -> None:
        self.network, self.classes, self.noise_dim = network, classes, noise_dim

    def expert(self, classes: tuple[Label, ...]) -> FrozenExpert:
        """See `Model.expert`: the same network with the rows of these classes alone in its embedding."""
        view = deepcopy(self.network)
        rows = [self.classes.index(label) for label in classes]
        view.embedding = nn.Embedding.from_pretrained(self.network.embedding.weight[rows])
        return FrozenExpert(view.folded(), classes, self.noise_dim)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x itself: a GAN infers nothing."""
        return x

    def tensors(self) -> dict[str, Tensor]:
        """See `Model.tensors`."""
        return dict(self.network.state_dict())

    def about(self) -> Mapping[str, Any]:
        """See `Model.about`."""
        return {"classes": list(self.classes)}


@dataclass(frozen=True)
class GanMaker:
    """Makes conditional GANs.

    Classes that the model to start from knows and the data does not show are held where they are by replay alignment,
    with the recipe's weight  [MeRGAN sec. 4.2].

    Arguments:
        architecture: of generator and discriminator; knows the shape of the data.
        width: f of the generator's widths, which never grow.
        recipe: how it is trained.
    """

    architecture: Architecture
    width: int
    recipe: Recipe

    def fit(
        self,
        data: TaskData,
        start: Model | None,
        steps: int,
        clock: Clock,
        device: torch.device,
        checkpoints: Checkpoints,
    ) -> tuple[GanModel, Trained]:
        """See `Maker.fit`."""
        known = () if start is None else start.classes
        classes = tuple(dict.fromkeys([*known, *data.classes]))
        network = self._network(len(classes))
        if start is not None:
            network.load_state_dict(_grown(start.tensors(), network.embedding.weight.detach()))
        placed(network, device)
        share = 1.0 if start is None else self.recipe.retraining
        recipe = replace(self.recipe, lr_g=share * self.recipe.lr_g)
        x = data.x
        if not self.architecture.spec.is_image:
            held = tuple(label for label in known if label not in data.classes)
            beside = x.new_empty(0, *x.shape[1:]) if start is None or not held else self._samples(start, held, x)
            mean, deviation = standardisation(torch.cat([x, beside]))
            x = (x - mean) / deviation
            if start is not None:
                _standardise(network, mean, deviation)
        g = Aligned(network, *_rows(classes, data.classes, device), recipe.alignment)
        d = self.architecture.discriminator(len(data.classes), recipe.kernel)
        placed(d, device)
        batches = BalancedBatches(x, data.y, len(data.classes))
        noise = self.architecture.noise_dim
        trained = train_generator(g, d, batches, recipe, noise, steps, clock, checkpoints)
        if not self.architecture.spec.is_image:
            network.rescale(deviation, mean)
        return GanModel(network.cpu(), classes, noise), trained

    def load(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> GanModel:
        """See `Maker.load`."""
        network = self._network(len(about["classes"]))
        network.load_state_dict(tensors)
        return GanModel(network.eval(), tuple(about["classes"]), self.architecture.noise_dim)

    def _samples(self, start: Model, held: tuple[Label, ...], like: Tensor) -> Tensor:
        """As many samples of the classes that are held as there are new examples: `Aligned` mixes them alike."""
        expert, device = start.expert(held).to(like.device), like.device
        n = math.ceil(len(like) / len(held))
        source = torch.default_generator
        return torch.cat([draw(expert, label, n, self.architecture.spec, device, source) for label in held])

    def _network(self, classes: int) -> Embedded:
        return self.architecture.generator(self.architecture.initial_widths(self.width), classes)


def _grown(tensors: Mapping[str, Tensor], fresh: Tensor) -> dict[str, Tensor]:
    """A generator's tensors with an embedding as long as `fresh`, whose last rows are those of the new classes."""
    known = tensors["embedding.weight"]
    return {**tensors, "embedding.weight": torch.cat([known, fresh[len(known) :]])}


def _standardise(network: Embedded, mean: Tensor, deviation: Tensor) -> None:
    """Has what a generator of vectors knows come out as it will be shown to the discriminator."""
    network.absorb_scale()
    network.rescale(1 / deviation, -mean / deviation)
    network.absorb_scale()


def _rows(
    classes: tuple[Label, ...], shown: tuple[Label, ...], device: torch.device
) -> tuple[Int[Tensor, " learned"], Int[Tensor, " held"]]:
    """Rows of the embedding: of the classes of the data, in its order, and of all others."""
    learned = [classes.index(label) for label in shown]
    held = [row for row in range(len(classes)) if row not in learned]
    return torch.tensor(learned, device=device), torch.tensor(held, dtype=torch.int64, device=device)
