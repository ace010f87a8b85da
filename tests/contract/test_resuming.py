"""For all kinds: a training that was broken off at any step and taken up by another process gives the same bits.

What is fitted at once takes no steps and puts nothing down: it begins again, whatever is found.
"""

from dataclasses import replace

import pytest

from dgm_core.blobs import pack, unpack
from dgm_core.checkpoints import State
from dgm_core.errors import Cancelled
from dgm_core.memories import load_memory
from dgm_core.memory import TaskData, Terms
from dgm_core.training.batches import to_range
from dgm_core.training.clock import Clock
from tests.contract.test_memory_kinds import CPU, IMAGE, VARIANTS, VECTOR, examples

pytestmark = pytest.mark.usefixtures("small_batches")

STEPS = 60  # gates are soft up to step 36, ranks free up to step 30; averages begin there


class Interrupted:
    """Checkpoints of a training that ends after so many steps beyond the first ones, as bytes."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.kept: bytes | None = None

    def found(self) -> State | None:
        return None if self.kept is None else State(*unpack(self.kept))

    def due(self) -> bool:
        self.left -= 1
        return self.left == 0

    def keep(self, state: State) -> None:
        self.kept = pack({name: tensor.clone() for name, tensor in state.tensors.items()}, state.values)
        raise Cancelled


def forms(data: TaskData) -> list[bytes]:
    """The first example as it is sent, and as networks take it."""
    return [data.x[0].numpy().tobytes(), to_range(data.x[:1]).numpy().tobytes()]


# Where each is broken off: a variant, its data, steps beyond the first ones, whether `make test` runs it.
ROWS = [
    ("dgmw", IMAGE, 1, False),
    ("dgmw", IMAGE, 15, True),
    ("dgmw", VECTOR, 30, False),
    ("dgma", IMAGE, 7, False),
    ("gan_memory", IMAGE, 2, False),
    ("dual", IMAGE, 12, True),
    ("dual", VECTOR, 3, False),
    ("gan_memory in low rank", IMAGE, 18, True),
    ("gan_memory sharing knowledge", IMAGE, 5, False),
    ("dgr", IMAGE, 3, False),
    ("mergan retrained jointly", VECTOR, 20, False),
    ("mergan", IMAGE, 9, True),
]
# Every other kind, too.
ROWS += [
    (name, IMAGE, 5, True) for name in VARIANTS if VARIANTS[name].kind not in {VARIANTS[row[0]].kind for row in ROWS}
]


@pytest.mark.parametrize(
    ("name", "spec", "after"),
    [pytest.param(*row, marks=() if by_default else pytest.mark.slow) for *row, by_default in ROWS],
)
def test_a_training_that_was_broken_off_and_taken_up_gives_the_same_bits(name, spec, after):
    manifest, blobs = VARIANTS[name].empty(spec, seed=3)
    data, seen = examples(spec, (0, 1)), []

    def learned(checkpoints, report=lambda progress: None):
        memory = load_memory(manifest, blobs)
        return memory.learn(
            data, task="t0", terms=Terms(steps=STEPS), report=report, device=CPU, checkpoints=checkpoints
        )

    whole = learned(Interrupted(after=-1))
    interrupted = Interrupted(after)
    if not whole.entry.steps:
        assert learned(interrupted).blobs == whole.blobs and interrupted.kept is None
        return
    with pytest.raises(Cancelled):
        learned(interrupted)
        pytest.fail("steps were taken and no state put down: see `Run`, or, if it is fitted at once, answer no steps")
    assert not any(form in interrupted.kept for form in forms(data))
    resumed = learned(interrupted, seen.append)
    assert resumed.blobs == whole.blobs
    assert replace(resumed.entry, seconds=0.0) == replace(whole.entry, seconds=0.0)
    assert {progress.resumed_from for progress in seen} == {30 + after}
    assert resumed.entry.seconds > 0


def test_the_seconds_of_a_task_count_those_of_the_attempt_before():
    seen = []
    clock = Clock(seen.append, limit=100.0, now=lambda: 1000.0)
    clock.resume(60.0, None, 5)
    assert clock.seconds == 60.0
    assert clock.position("generator", 5, 1000) == 705  # of the 85 seconds that the generator has
    clock.tick("generator", 0, 1000)
    assert seen[0].resumed_from == 5
