"""What one training step of the `fast` recipe costs, for the first and for the tenth task of a memory.

    python benchmarks/training_step.py [--device cpu] [--steps 20]

The earlier tasks of the memory are made of random gates, as in `compiled.py`; the generator has grown as it would. The
recipe's bfloat16 convolutions are set beside float32. On a CPU: milliseconds of CPU time on one thread, so that other
work on the machine hurts little; on a GPU: of wall-clock time. Prints one Markdown table.
"""

import argparse
import time
from dataclasses import replace

import torch
from compiled import SPECS, made_memory
from harness.tables import table

from dgm_core.manifest import DataSpec
from dgm_core.masking.masked import MaskedGenerator
from dgm_core.memories.masked import MaskedMemory
from dgm_core.training.adversarial import AdversarialStep
from dgm_core.training.batches import BalancedBatches
from dgm_core.training.devices import placed
from dgm_core.training.trainees import Masked

KINDS = ("dgmw", "dgma")
EARLIER = {"first": 0, "tenth": 9}
WARM_UP = 8
EXAMPLES = 2000


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20, help="steps per figure")
    wish = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(wish.device)
    lines = []
    for name, spec in SPECS.items():
        for kind in KINDS:
            for task, earlier in EARLIER.items():
                memory = made_memory(kind, spec, earlier)
                fast, full = (milliseconds(memory, spec, half, device, wish.steps) for half in (True, False))
                weights = f"{memory.grown().parameters:,}".replace(",", " ")
                lines.append([kind, name, task, weights, f"{fast:.0f}", f"{full:.0f}", f"{full / fast:.2f}"])
    print(table(("kind", "images", "task", "weights of G", "ms, bfloat16", "ms, float32", "ratio"), lines))


def milliseconds(memory: MaskedMemory, spec: DataSpec, half: bool, device: torch.device, steps: int) -> float:
    """The mean cost of a step, once everything is set up."""
    step, batches = prepared(memory, spec, half, device)
    for _ in range(WARM_UP):
        step(batches)
    started = now(device)
    for _ in range(steps):
        step(batches)
    return 1000 * (now(device) - started) / steps


def prepared(
    memory: MaskedMemory, spec: DataSpec, half: bool, device: torch.device
) -> tuple[AdversarialStep, BalancedBatches]:
    """The game of the memory's next task, on random images of one class."""
    ledger, topology = memory.ledger.copy(), memory.grown()
    ledger.grow(topology)
    network = memory.fresh_network(topology, ledger, classes=1)
    d = memory.architecture.discriminator(1, memory.recipe.kernel)
    for each in (network, d):
        placed(each, device)
    g = MaskedGenerator(network, topology, ledger, ledger.owned_by([]), memory.recipe.s_max, device)
    recipe = replace(memory.recipe, half=half)
    step = AdversarialStep(Masked(g, recipe), d, recipe, memory.chosen.noise)
    x = torch.randint(0, 256, (EXAMPLES, *spec.shape), dtype=torch.uint8, device=device)
    return step, BalancedBatches(x, torch.zeros(EXAMPLES, dtype=torch.long, device=device), 1)


def now(device: torch.device) -> float:
    """Seconds of this process on a CPU, of the clock on a GPU once it has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.monotonic()
    return time.process_time()


if __name__ == "__main__":
    main()
