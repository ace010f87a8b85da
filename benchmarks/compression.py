"""What a style costs when it is kept in low rank, and when tasks share a knowledge base: a class of CIFAR-10 a task.

    GENERATIVE_MEMORY_DATA=DIR python benchmarks/compression.py [--steps 250] [--styles full lowrank shared] [--tasks 6]
        [--start nearest] [--truncation 0.5]

Three memories of `gan_memory` on the shipped colour base (CIFAR-100, which CIFAR-10 has no image of) learn the same
classes with the same steps, in process, generators alone:

    full        every statistic is stored
    lowrank     what the task changes about the base's statistics, in low rank, each task on its own
    shared      the same on top of the singular vectors that earlier tasks stored (Cong et al. 2020, Algorithm 1)

Tasks of full begin as the base. So do the others, unless --start says that they begin as the nearest learned style; in
the published code every one begins as the task before it. --truncation is what the styles of the last two lose, over
what they lose by themselves: with less of it they store more.

Prints one Markdown table. *matrices*: numbers that stand for matrices of modulated convolutions, over those of full;
*all*: all numbers that the task stores, vectors and biases included, over those of full. *kernel distance*: of samples
to held-out real images of the class, and its ratio to full's. The paper's Table 1, which is of all numbers, falls from
36 % to 3 % by task 6.
"""

import argparse
import sys
from functools import partial

import torch
from harness import data, schooling, tables
from harness.lines import Line
from harness.schooling import Book, Pupil, Yardstick

from dgm_core.blobs import unpack
from dgm_core.memories.gan_memory import FROM_BASE, FROM_NEAREST, FULL, LOWRANK, SHARED, GanMemory

STYLES = (FULL, LOWRANK, SHARED)
MOST_TASKS = 10


def main() -> int:
    """Teaches, measures and prints the table."""
    wish = arguments()
    torch.set_num_threads(wish.threads)
    settings = {
        name: getattr(wish, name)
        for name in ("steps", "seed", "images", "measured", "feature_steps", "start", "truncation")
    }
    try:
        examples = data.load(wish.dataset, wish.seed, wish.images)
    except data.MissingData as error:
        print(f"compression.py: {error}", file=sys.stderr)
        return 2
    file = wish.state / f"features-{wish.dataset}-{wish.feature_steps}.safetensors"
    yardstick = Yardstick(examples, wish.feature_steps, file, wish.measured)
    book = Book(wish.out, "compression", {"dataset": wish.dataset, **settings})
    pupils = {styles: _pupil(styles, examples, wish) for styles in wish.styles}
    measured = []
    for label in range(wish.tasks):
        for styles, pupil in pupils.items():
            index = pupil.learn(f"t{label}", (label,), wish.steps)
            measured.append(book.once((f"t{label}", styles), partial(_measure, pupil, index, styles, yardstick)))
    print(markdown(measured))
    return 0


def _pupil(styles: str, examples: data.Dataset, wish: argparse.Namespace) -> Pupil:
    start = FROM_BASE if styles == FULL else wish.start
    truncation = "1.0" if styles == FULL else str(wish.truncation)
    where = wish.state / f"{wish.dataset}-{styles}-{start}-{truncation}-{wish.steps}-{wish.seed}-{wish.images}"
    chosen = {"seed": str(wish.seed), "styles": styles, "start": start, "truncation": truncation}
    return Pupil(GanMemory, chosen, examples, where)


def _measure(pupil: Pupil, index: int, styles: str, yardstick: Yardstick) -> Line:
    classes = pupil.classes[index]
    matrices, everything = stored(pupil.memory, pupil.blobs[index])
    return yardstick.of(pupil.expert(index), classes) | {
        "task": pupil.tasks[index],
        "class": classes[0],
        "styles": styles,
        "matrices": matrices,
        "values": everything,
        **pupil.about[index],
    }


def stored(memory: GanMemory, blob: bytes) -> tuple[int, int]:
    """How many numbers a task stores of the matrices of modulated convolutions, and in all."""
    kernels = {site.path for site in memory.foundation.sites if site.kernels}
    sizes = {name: t.numel() for name, t in unpack(blob)[0].items()}
    ours = [size for name, size in sizes.items() if not name.startswith("bias/") and name.split("/")[1] in kernels]
    return sum(ours), sum(sizes.values())


def markdown(measured: list[Line]) -> str:
    """The table: one row per task, for low rank and sharing beside full where that was measured."""
    full = {line["task"]: line for line in measured if line["styles"] == FULL}
    rows = []
    for line in measured:
        against = full.get(line["task"])
        shares = [tables.NONE] * 3
        if against is not None:
            shares = [f"{100 * line[what] / against[what]:.1f} %" for what in ("matrices", "values")]
            shares.append(f"{line['kernel_distance'] / against['kernel_distance']:.2f}")
        rows.append([line["task"], str(line["class"]), line["styles"], *shares[:2], str(line["values"]),
                     schooling.distance_of(line), shares[2], f"{line['seconds_per_step']:.3f}"])  # fmt: skip
    header = ("task", "class", "styles", "matrices", "all", "numbers", "kernel distance", "over full's", "CPU s a step")
    return tables.table(header, rows) + "\n" + schooling.footnote(measured[-1])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = schooling.command_line(__doc__, "compression", measured=1000)
    add = parser.add_argument
    add("--dataset", choices=data.NAMES, default="cifar10")
    add("--steps", type=int, default=250, help="of training, for every task and memory")
    add(
        "--tasks",
        type=int,
        default=6,
        choices=range(1, MOST_TASKS + 1),
        metavar="N",
        help="classes 0 to N - 1, one a task",
    )
    add("--start", choices=(FROM_BASE, FROM_NEAREST), default=FROM_BASE, help="of tasks in low rank, and shared ones")
    add(
        "--truncation",
        type=float,
        default=1.0,
        help="what they lose of their energy, over what they lose by themselves",
    )
    add("--styles", nargs="+", default=list(STYLES), choices=STYLES, metavar="STYLES", help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
