"""What the parts of style modulation are good for: no normalisation, no biases, as in Fig. 3(a) of Cong et al. 2020.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/style_ablation.py [--task digits] [--steps 100 200 400]

One task on the shipped base of its channels, in process, generators alone; each figure is a training of its own:

    full               Γ∘(W − M)/S + B for generator and discriminator, and the biases
    no normalisation   Γ∘W + B: a style comes on top of the base's instead of replacing it
    no bias            the biases of both stay the base's, and so do the norms' parameters; the classes' columns are
                       trained, and the discriminator's last layer, which is no part of the style

Prints one Markdown table of kernel distances to held-out real images.
"""

import argparse
import sys
from dataclasses import dataclass
from functools import partial

import torch
from domains import DOMAINS
from harness import data, schooling, tables
from harness.lines import Line
from harness.schooling import Book, Yardstick, base_for
from torch import Tensor

from dgm_core.manifest import DataSpec
from dgm_core.memory import Expert, TaskData
from dgm_core.networks.architecture import Generator
from dgm_core.style.foundation import Foundation
from dgm_core.training.adversarial import train_generator
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.clock import Clock
from dgm_core.training.devices import placed
from dgm_core.training.recipes import STYLE
from dgm_core.training.trainees import Styled


@dataclass(frozen=True)
class Variant:
    """Which parts are left."""

    normalise: bool = True
    biases: bool = True


VARIANTS = {"full": Variant(), "no normalisation": Variant(normalise=False), "no bias": Variant(biases=False)}


class Student(Expert):
    """A trained student as it is, modulation in place: an ablated style is not one that a memory can store."""

    def __init__(self, network: Generator, classes: tuple[int, ...], noise: int) -> None:
        self.network, self.classes, self.noise_dim = network, classes, noise

    @torch.inference_mode()
    def generate(self, z: Tensor, c: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        x: Tensor = self.network(z, c)
        return x

    def to(self, device: torch.device) -> "Student":
        """The same student, moved to a device."""
        self.network.to(device)
        return self


def main() -> int:
    """Trains, measures and prints the table."""
    wish = arguments()
    torch.set_num_threads(wish.threads)
    domain = DOMAINS[wish.task]
    try:
        examples = data.load(domain.dataset, wish.seed, wish.images)
    except data.MissingData as error:
        print(f"style_ablation.py: {error}", file=sys.stderr)
        return 2
    file = wish.state / f"features-{domain.dataset}-{wish.feature_steps}.safetensors"
    yardstick = Yardstick(examples, wish.feature_steps, file, wish.measured)
    settings = {name: getattr(wish, name) for name in ("seed", "images", "measured", "feature_steps")}
    book = Book(wish.out, "style_ablation", settings)
    real, spec = schooling.task_data(examples.train, domain.classes), schooling.spec_of(examples.train)

    def measure(name: str, steps: int) -> Line:
        student, seconds = trained(spec, real, VARIANTS[name], steps, wish.seed)
        about = {"task": wish.task, "variant": name, "steps": steps, "seconds_per_step": seconds}
        return yardstick.of(student, domain.classes) | about

    measured = [
        book.once((wish.task, name, str(steps)), partial(measure, name, steps))
        for steps in wish.steps
        for name in wish.variants
    ]
    print(markdown(measured))
    return 0


def trained(spec: DataSpec, real: TaskData, variant: Variant, steps: int, seed: int) -> tuple[Student, float]:
    """A student of a variant, and the processor's seconds per step."""
    base, classes = base_for(spec), len(real.classes)
    foundation = Foundation(base, spec)
    network = foundation.student(classes, normalise=variant.normalise, biases=variant.biases)
    critic = foundation.critic(classes, normalise=variant.normalise, biases=variant.biases)
    placed(network, schooling.CPU)
    placed(critic, schooling.CPU)
    batches = BalancedBatches(real.x, real.y, classes)

    def train(clock: Clock) -> None:
        train_generator(Styled(network, STYLE), critic, batches, STYLE, base.design.noise, steps, clock)

    seconds = schooling.timed(train, "student", steps, seed)
    return Student(network.eval(), real.classes, base.design.noise), seconds


def markdown(measured: list[Line]) -> str:
    """The table: variants in rows, steps in columns."""
    steps = list(dict.fromkeys(line["steps"] for line in measured))
    found = {(line["variant"], line["steps"]): schooling.distance_of(line) for line in measured}
    variants = dict.fromkeys(line["variant"] for line in measured)
    rows = [[variant, *(found[variant, each] for each in steps)] for variant in variants]
    header = (f"kernel distance, {measured[0]['task']}", *(f"{each} steps" for each in steps))
    return tables.table(header, rows) + "\n" + schooling.footnote(measured[-1])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = schooling.command_line(__doc__, "style_ablation", measured=2000)
    add = parser.add_argument
    add("--task", default="digits", choices=list(DOMAINS), help="which of the tasks of domains.py")
    add("--steps", type=int, nargs="+", default=[100, 200, 400], help="of training")
    add("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME", help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
