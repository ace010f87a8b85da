"""What one training step of a style costs: on the shipped bases of 32 x 32, and on the published network of 256 x 256.

    python benchmarks/style_step.py [--device cuda] [--steps 10] [--batch 16] [--networks 256]

The large base has random weights, which cost what trained ones do. Both recipes are measured as they are, but for the
batch if one is given: `fast` on the shipped bases, `paper` (16 images, float32, R1 at every step) on the large one.
On a CPU: seconds of CPU time on one thread, and the most memory that the process ever held; on a GPU: of wall-clock
time, and the most that torch held there. Prints one Markdown table.
"""

import argparse
import resource
from dataclasses import replace

import torch
from harness.schooling import base_for
from harness.tables import table
from training_step import now

from dgm_core.manifest import DataSpec
from dgm_core.style.base import Base
from dgm_core.style.foundation import Foundation
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.bases import design_of
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.devices import placed
from dgm_core.training.recipes import STYLE, STYLE_PAPER
from dgm_core.training.trainees import Styled

SPECS = {
    "grey": (DataSpec((1, 32, 32), "uint8"), STYLE),
    "colour": (DataSpec((3, 32, 32), "uint8"), STYLE),
    "256": (DataSpec((3, 256, 256), "uint8"), STYLE_PAPER),
}
WARM_UP = 2


def main() -> None:
    """Measures and prints the table."""
    wish = arguments()
    torch.set_num_threads(1)
    rows = [measured(name, torch.device(wish.device), wish.steps, wish.batch) for name in wish.networks]
    print(table(("images", "network", "weights of G", "style", "share", "batch", "s a step", "memory, MB"), rows))


def measured(name: str, device: torch.device, steps: int, batch: int | None) -> list[str]:
    """One row."""
    spec, recipe = SPECS[name]
    recipe = replace(recipe, batch=batch or recipe.batch)
    base = published(spec) if name == "256" else base_for(spec)
    foundation = Foundation(base, spec)
    student, critic = foundation.student(1), foundation.critic(1)
    style = sum(p.numel() for p in student.parameters() if p.requires_grad)
    for network in (student, critic):
        placed(network, device)
    step = AdversarialStep(Styled(student, recipe), critic, recipe, base.design.noise)
    x = torch.randint(0, 256, (4 * recipe.batch, *spec.shape), dtype=torch.uint8, device=device)
    batches = BalancedBatches(x, torch.zeros(len(x), dtype=torch.long, device=device), 1)
    for _ in range(WARM_UP):
        step(batches)
    started = now(device)
    for _ in range(steps):
        step(batches)
    seconds = (now(device) - started) / steps
    shown = " × ".join(map(str, spec.shape))
    share = f"{100 * style / base.parameters:.1f} %"
    weights, numbers = (f"{n:,}".replace(",", " ") for n in (base.parameters, style))
    return [shown, base.design.network, weights, numbers, share, str(recipe.batch), f"{seconds:.3f}", most(device)]


def published(spec: DataSpec) -> Base:
    """A base of the published size with random weights."""
    design = design_of(spec, "gpgan", width=64, noise=256)
    return Base.of("random", design, design.generator(spec, 1), design.discriminator(spec, 1), {})


def most(device: torch.device) -> str:
    """The most memory in MB that was in use so far."""
    if device.type == "cuda":
        return str(torch.cuda.max_memory_allocated(device) // 10**6)
    return str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cpu")
    add("--steps", type=int, default=10, help="steps per figure")
    add("--batch", type=int, help="examples a step; default: the recipe's")
    add("--networks", nargs="+", default=list(SPECS), choices=list(SPECS), metavar="NAME", help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
