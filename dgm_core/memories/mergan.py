"""`mergan`: memory replay GANs (Wu et al. 2018).

One conditional GAN of all classes. For every task it goes on from its own weights, against a new discriminator, and
what it knew is kept in one of two ways. Joint retraining shows what the generator replays as if it were real, beside
the new task  [MeRGAN sec. 4.1]. Replay alignment shows the new task alone and keeps the generator from moving on the
classes that it knows: the same noise shall give the same example as before  [MeRGAN sec. 4.2]. A class that is taught
again must move, to be all that was seen of it: its replay is shown beside it. Alignment is the default: within few
steps a new discriminator learns one class better than all of them, and the generator with it.
"""

from dataclasses import dataclass, replace

from dgm_core.manifest import Label
from dgm_core.memories.retrained import RetrainedMemory, RetrainedOptions
from dgm_core.training.recipes import Recipe

JOINT, ALIGNMENT = "joint", "alignment"


@dataclass(frozen=True)
class MerganOptions(RetrainedOptions):
    """Options of a memory replay GAN.

    Arguments:
        replay: "alignment": replayed examples are held in place; "joint": they are shown beside real ones.
        alignment: weight of what holds them, on the mean squared distance; 0: the recipe's. As published it is on the
            sum over an example: 1e-3 for MNIST, 1e-2 for SVHN.
    """

    replay: str = ALIGNMENT
    alignment: float = 0.0

    def validate(self) -> None:
        """See `Options.validate`."""
        super().validate()
        self.require_one_of("replay", (JOINT, ALIGNMENT))
        self.require_range("alignment", 0, 10_000)

    def tuned(self, recipe: Recipe) -> Recipe:
        """See `RetrainedOptions.tuned`."""
        return replace(recipe, alignment=self.alignment or recipe.alignment)


class Mergan(RetrainedMemory):
    """A conditional GAN that replays to itself; labels are the conditions that it replays."""

    kind = "mergan"
    parsed = MerganOptions
    chosen: MerganOptions

    def recalled(self, taught: tuple[Label, ...]) -> tuple[Label, ...]:
        """See `RetrainedMemory.recalled`; under alignment, those that are taught again: all others are held."""
        known = super().recalled(taught)
        return known if self.chosen.replay == JOINT else tuple(label for label in known if label in taught)
