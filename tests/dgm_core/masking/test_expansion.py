from hypothesis import given
from hypothesis import strategies as st

from dgm_core.manifest import DataSpec
from dgm_core.masking.expansion import expanded_widths
from dgm_core.networks.chains import Dcgan, Mlp
from dgm_core.networks.residual import Residual

ARCHITECTURES = [
    Dcgan(DataSpec((1, 8, 8), "uint8"), 32),
    Dcgan(DataSpec((3, 32, 32), "uint8"), 32),
    Residual(DataSpec((3, 32, 32), "uint8"), 32),
    Mlp(DataSpec((20,), "float32"), 32),
]


def test_nothing_reserved_means_no_growth():
    initial = ARCHITECTURES[1].topology(ARCHITECTURES[1].initial_widths(6))
    assert expanded_widths(initial, initial, {c.name: 0 for c in initial.shared}) == initial.widths


@given(st.sampled_from(ARCHITECTURES), st.integers(2, 8), st.data())
def test_free_capacity_is_what_it_was_before_the_first_task_and_no_unit_more(architecture, f, data):
    initial = architecture.topology(architecture.initial_widths(f))
    reserved = {c.name: data.draw(st.integers(0, c.size)) for c in initial.shared}
    grown = initial.at(expanded_widths(initial, initial, reserved))
    capacity = {c.name: c.size for c in initial.shared}
    for c in grown.shared:
        assert c.size - reserved[c.name] >= capacity[c.name]
    for group, (width, before) in enumerate(zip(grown.widths, initial.widths, strict=True)):
        if width > before:
            one_less = [c.size - c.size // width - reserved[c.name] for c in grown.shared if c.writes == group]
            wanted = [capacity[c.name] for c in grown.shared if c.writes == group]
            assert any(free < need for free, need in zip(one_less, wanted, strict=True))
