"""Options are read from text."""

from dataclasses import dataclass

import pytest

from dgm_core.options import Options


@dataclass(frozen=True)
class Some(Options):
    rank: int = 4
    grain: float = 0.5
    styles: str = "full"


def test_options_are_the_same_once_they_were_text():
    options = Some.parse({"seed": "7", "rank": "8", "grain": "0.25"})
    assert options == Some(7, "fast", 8, 0.25, "full") == Some.parse(options.text())


@pytest.mark.parametrize("type_", [bool, int | None, "int"])
def test_a_type_that_text_says_nothing_of_is_refused_when_the_class_is_made(type_):
    with pytest.raises(TypeError, match=r"option erase of Mine .* must be int, float or str"):
        type("Mine", (Options,), {"__annotations__": {"erase": type_}})
