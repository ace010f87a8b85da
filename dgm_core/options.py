"""Options of a memory kind: a dataclass of numbers and words, read from text and written as text."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from dgm_core.errors import CannotLearn

_TYPES = (int, float, str)
_LARGEST_SEED = 2**63 - 1
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,15})?(e-[0-9]{1,2})?")


@dataclass(frozen=True)
class Options:
    """What a user may choose about a memory; it holds for all its tasks. Kinds add their own fields.

    A field is an int, a float or a str, with a default. What is on or off is a word of two: see `require_one_of`.

    Arguments:
        seed: whatever is random about the memory follows from it.
        recipe: how its tasks are trained, by name.
    """

    seed: int
    recipe: str = "fast"

    def __init_subclass__(cls) -> None:
        for name, type_ in cls.__annotations__.items():
            if type_ not in _TYPES:
                raise TypeError(f"option {name} of {cls.__name__} is of type {type_!r}; it must be int, float or str")

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Options from text. Raises CannotLearn with the field and the valid ones."""
        types: dict[str, Any] = {f.name: f.type for f in fields(cls)}
        for name, text in given.items():
            if name not in types:
                raise CannotLearn(f"options.{name}", f"there is no option {name!r}; the options are {', '.join(types)}")
            if types[name] is int and not _WHOLE.fullmatch(text):
                raise CannotLearn(f"options.{name}", f"{name} must be a whole number, not {text!r}")
            if types[name] is float and not _DECIMAL.fullmatch(text):
                raise CannotLearn(f"options.{name}", f"{name} must be a number such as 0.05, not {text!r}")
        options = cls(**{name: types[name](text) for name, text in given.items()})
        options.require_range("seed", 0, _LARGEST_SEED)
        options.validate()
        return options

    def validate(self) -> None:
        """Looks at the values of a kind's own fields. Raises CannotLearn."""

    def require_range(self, name: str, low: float, high: float) -> None:
        """Looks at a number. Raises CannotLearn."""
        if not low <= getattr(self, name) <= high:
            raise CannotLearn(f"options.{name}", f"{name} is {getattr(self, name)}; it must be {low} to {high}")

    def require_one_of(self, name: str, choices: tuple[str, ...]) -> None:
        """Looks at a choice. Raises CannotLearn."""
        if getattr(self, name) not in choices:
            raise CannotLearn(
                f"options.{name}", f"there is no {name} {getattr(self, name)!r}; there are {', '.join(choices)}"
            )

    def text(self) -> dict[str, str]:
        """All options as text."""
        return {name: str(value) for name, value in asdict(self).items()}
