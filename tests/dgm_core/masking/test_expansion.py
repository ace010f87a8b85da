from dgm_core.networks.generators import initial_widths, layer_sizes
from hypothesis import given
from hypothesis import strategies as st

from dgm_core.masking.expansion import expanded_widths
from dgm_core.memory import DataSpec

SPECS = [DataSpec((1, 8, 8), "uint8"), DataSpec((3, 32, 32), "uint8"), DataSpec((20,), "float32")]


def test_nothing_reserved_means_no_growth():
    spec = SPECS[1]
    widths = initial_widths(spec, 6)
    capacity = layer_sizes(spec, widths, 128)
    assert expanded_widths(widths, [0] * len(widths), capacity, lambda w: layer_sizes(spec, w, 128)) == widths


@given(st.sampled_from(SPECS), st.integers(2, 8), st.data())
def test_free_capacity_is_what_it_was_before_the_first_task_and_no_unit_more(spec, f, data):
    widths = initial_widths(spec, f)

    def sizes(w):
        return layer_sizes(spec, w, 32)

    capacity = sizes(widths)
    reserved = [data.draw(st.integers(0, size)) for size in capacity]
    grown = expanded_widths(widths, reserved, capacity, sizes)
    for layer, (size, taken, wanted) in enumerate(zip(sizes(grown), reserved, capacity, strict=True)):
        free = size - taken
        assert free >= wanted
        if grown[layer] > widths[layer]:
            assert free - size // grown[layer] < wanted
