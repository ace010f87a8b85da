import ablation
import pytest
import training_step
from compiled import made_memory

from dgm_core.manifest import DataSpec

pytestmark = pytest.mark.slow  # measurements in miniature take as long as the product's own tests


@pytest.fixture
def short(monkeypatch):
    """Two tasks, few samples, few steps."""
    first_two = ablation.tasks_of()[:2]
    monkeypatch.setattr(ablation, "tasks_of", lambda: first_two)
    monkeypatch.setattr(ablation, "PER_CLASS", 20)
    monkeypatch.setattr(ablation, "CLASSIFIER_STEPS", 5)
    return lambda row: ablation.run(ablation.ROWS[row], 0, steps=12)


@pytest.mark.parametrize("row", ["dgmw", "dgma", "dgma, float32 alone"])
def test_the_method_as_it_is_does_not_move_a_pixel_of_the_first_task(short, row):
    assert short(row).drift == 0


@pytest.mark.parametrize("row", ["dgmw, soft masks at replay", "dgmw, shared norm"])
def test_what_reads_more_than_it_reserves_moves_the_first_task(short, row):
    assert short(row).drift > 1e-3


def test_without_expansion_the_network_stays_small(short):
    assert short("dgmw, no expansion").parameters < short("dgmw").parameters


@pytest.mark.parametrize("kind", training_step.KINDS)
def test_a_training_step_is_timed_on_a_memory_that_has_grown(kind):
    spec = DataSpec((1, 28, 28), "uint8")
    memory = made_memory(kind, spec, 2)
    assert memory.grown().parameters > memory.initial.parameters
    assert training_step.milliseconds(memory, spec, True, training_step.torch.device("cpu"), steps=1) > 0
