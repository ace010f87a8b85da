"""Variational autoencoders as exchangeable models."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dgm_core.checkpoints import Checkpoints
from dgm_core.experts import GENERATE_BATCH, FrozenExpert, at_once, to_storage
from dgm_core.generative.model import Model
from dgm_core.manifest import DataSpec, Label
from dgm_core.memory import TaskData
from dgm_core.networks import architecture_of
from dgm_core.networks.variational import Variational, taken_over
from dgm_core.training.batches import EvenBatches, standardisation, to_range
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.running import Trained
from dgm_core.training.variational import VariationalRecipe, train_variational

KERNEL = 4


class VaeModel(Model):
    """A trained variational autoencoder.

    Arguments:
        network: in evaluation mode.
        classes: what it generates.
        spec: of one example.
    """

    def __init__(self, network: Variational, classes: tuple[Label, ...], spec: DataSpec) -> None:
        self.network, self.classes, self.spec = network.eval(), classes, spec
        self.conditional = network.conditional

    def expert(self, classes: tuple[Label, ...]) -> FrozenExpert:
        """The decoder with the embeddings of these classes alone."""
        decoder = deepcopy(self.network.decoder).cpu()
        rows = torch.tensor([self.classes.index(label) for label in classes])
        decoder.embedding = nn.Embedding.from_pretrained(decoder.embedding.weight.detach()[rows])
        return FrozenExpert(decoder.folded(), classes, self.network.noise_dim)

    @torch.inference_mode()
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the decoder makes of the mean that the encoder infers."""
        self.network.to(x.device)
        parts = x.split(at_once(x.shape[1:], GENERATE_BATCH))
        means = (self.network.encode(to_range(part))[0] for part in parts)
        return torch.cat([to_storage(self.network.decode(mean), self.spec) for mean in means])

    def tensors(self) -> dict[str, Tensor]:
        """Of encoder and decoder."""
        return {name: tensor.cpu() for name, tensor in self.network.state_dict().items()}

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
        noise: length of u.
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
        network = self._fresh(len(classes))
        if start is not None:
            taken_over(network, start.tensors())
        placed(network, device)
        if not self.spec.is_image:
            network.standardise(*standardisation(data.x))
            network.unsettle()
        rows = torch.tensor([classes.index(label) for label in data.classes], device=device)
        batches = EvenBatches(data.x, rows[data.y], len(classes))
        trained = train_variational(network, batches, self.recipe, steps, clock, checkpoints)
        network.settle()
        return VaeModel(network, classes, self.spec), trained

    def load(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> VaeModel:
        """See `Maker.load`."""
        classes = tuple(about["classes"])
        network = self._fresh(len(classes))
        network.load_state_dict(dict(tensors))
        return VaeModel(network, classes, self.spec)

    def _fresh(self, classes: int) -> Variational:
        architecture = architecture_of(self.network, self.spec, self.noise)
        decoder = architecture.generator(architecture.initial_widths(self.width), classes)
        encoder = architecture.discriminator(classes, KERNEL, self.encoder)
        return Variational(decoder, encoder, self.noise, self.spec.shape, conditional=self.conditional)
