"""Numbers for people."""

import pytest
from memory_client.quantities import quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (998, "998"),
        (999.6, "1.00k"),
        (1000, "1.00k"),
        (55_837, "55.8k"),
        (999_400, "999k"),
        (999_600, "1.00M"),
        (2e18, "2000P"),
    ],
)
def test_a_number_has_three_digits_and_a_prefix(value, text):
    assert quantity(value) == text


def test_a_unit_follows_its_prefix():
    assert quantity(212, "B") == "212 B"
    assert quantity(11_900_000, "B") == "11.9 MB"
