"""What all kinds with one expert per task have in common, of the smallest of them."""

import pytest

from dgm_core import lesson
from dgm_core.manifest import DataSpec, Manifest
from dgm_core.memory import Terms
from tests.contract.gaussian import GaussianMemory
from tests.contract.test_memory_kinds import CPU, examples

SPEC = DataSpec((6,), "float32")


@pytest.mark.parametrize(("steps", "taken"), [(5, 20), (50, 50), (1000, 300), (None, 300)])
def test_the_steps_of_a_task_bound_those_of_its_solver_too(monkeypatch, steps, taken):
    seen, train = [], lesson.train_classifier
    monkeypatch.setattr(lesson, "train_classifier", lambda *given: seen.append(given[3]) or train(*given))
    memory = GaussianMemory(Manifest("gaussian", {"seed": "0"}, SPEC), {})
    learned = memory.learn(
        examples(SPEC, [0, 1]), task="t0", terms=Terms(steps=steps), report=lambda progress: None, device=CPU
    )
    assert seen == [taken] and learned.entry.steps == 0


def test_options_and_recipe_are_there_before_the_tasks_are_taken_in():
    memory = GaussianMemory(Manifest("gaussian", {"seed": "3"}, SPEC), {})
    assert (memory.chosen.seed, memory.recipe) == (3, GaussianMemory.recipes["fast"])
