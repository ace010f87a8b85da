"""Networks of which only the shapes are wanted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def outlined() -> Iterator[None]:
    """Networks that are made inside have shapes and no values: nothing is allocated, nothing drawn."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Draws no weights: on "meta" the first draw would import a compiler, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is nn.init.normal_:
            return (kwargs or {})["tensor"]  # a mode is given all arguments by name
        return func(*args, **(kwargs or {}))
