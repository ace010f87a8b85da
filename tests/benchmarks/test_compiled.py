import compiled
import pytest
import torch


@pytest.mark.parametrize("kind", sorted(compiled.DENSITIES))
def test_an_early_task_of_a_memory_that_has_grown_is_the_same_function_all_three_ways(kind):
    memory = compiled.made_memory(kind, compiled.SPECS["28 × 28"], tasks=2)
    row = compiled.measured(memory, 0, rows=8, seconds=0)
    assert row.naive_units == "-".join(map(str, memory.topologies[1].widths)) != row.compiled_units
    x = compiled.folded(memory, 0)(torch.randn(64, memory.chosen.noise), torch.arange(64) % 2)
    assert x.std() > 0.001, "images that are all the same show nothing"


def test_all_tasks_in_turn_cost_what_they_cost_one_by_one():
    rows = [compiled.Row((10.0, 20.0, 30.0, 40.0)), compiled.Row((10.0, 5.0, 90.0, 40.0))]
    assert compiled.in_turn(rows).rates == pytest.approx((10, 8, 45, 40))


def test_operations_are_two_for_each_weight_of_a_kernel_wherever_it_is_applied():
    memory = compiled.made_memory("dgmw", compiled.SPECS["28 × 28"], tasks=2)
    weights = memory.architecture.generator(memory.topologies[1].widths, 2).state_dict()
    places = {"body.0": 1, "body.1": 4 * 4, "body.2": 7 * 7, "head": 14 * 14}
    expected = sum(2 * weights[f"{name}.weight"].numel() * times for name, times in places.items())
    assert compiled.operations(memory, rows=8) == expected
