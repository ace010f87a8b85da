"""How x is given to a reader: dtype, layout and size, and how a generator's floats become that."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dgm_core.manifest import DataSpec
from memory_server.errors import BadRequest

DTypeName = Literal["uint8", "float16", "float32"]
Layout = Literal["NCHW", "NHWC"]

_FLOAT32_BYTES = 4
_BYTES: dict[DTypeName, int] = {"uint8": 1, "float16": 2, "float32": _FLOAT32_BYTES}


@dataclass(frozen=True)
class Form:
    """x on its way to a reader, resolved for one memory. Resizing treats every row alone.

    Arguments:
        learned: shape as the generator gives it.
        dtype: as sent.
        layout: as sent; None for vectors.
        size: (height, width) to resize images to; None leaves them as learned.
    """

    learned: tuple[int, ...]
    dtype: DTypeName
    layout: Layout | None = None
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one x as sent, in the order of the layout."""
        if self.layout is None:
            return self.learned
        channels, *sides = self.learned
        sides = list(self.size or sides)
        return (*sides, channels) if self.layout == "NHWC" else (channels, *sides)

    @property
    def nbytes(self) -> int:
        """Bytes of one x as sent."""
        return prod(self.shape) * _BYTES[self.dtype]

    @property
    def generated(self) -> "Form":
        """The form in which rows wait for their turn: this one, or plain floats if this one is larger than they are.

        How many rows are computed together does not depend on the format, so this bounds the memory of a stream.
        """
        plain = Form(self.learned, "float32", None if self.layout is None else "NCHW")
        return plain if self.nbytes > plain.nbytes else self

    def of(self, x: Float[Tensor, "rows *learned"]) -> Shaped[Tensor, "rows *shape"]:
        """A generator's images in [-1, 1] (rows, C, H, W), or vectors (rows, F), in this form."""
        if self.size is not None:
            x = torch.nn.functional.interpolate(x, self.size, mode="bilinear", antialias=True).clamp(-1, 1)
        if self.layout == "NHWC":
            x = x.permute(0, 2, 3, 1)
        if self.dtype == "uint8":
            return x.clamp(-1, 1).mul_(127.5).add_(127.5).round_().to(torch.uint8)  # -1 is 0, 1 is 255, to the nearest
        if self.dtype == "float16":
            most = torch.finfo(torch.float16).max
            return x.clamp(-most, most).half()
        return x


@dataclass(frozen=True)
class Format:
    """What a reader asks for; None is what a memory gives by itself.

    Arguments:
        dtype: uint8 for images and float32 for vectors, if it is None.
        layout: of images; NCHW if it is None.
        size: (height, width) of images; as learned if it is None.
    """

    dtype: DTypeName | None = None
    layout: Layout | None = None
    size: tuple[int, int] | None = None

    def of(self, spec: DataSpec) -> Form:
        """The form of x of a memory. Raises BadRequest if the memory cannot give this."""
        if spec.is_image:
            size = None if self.size == spec.shape[1:] else self.size
            return Form(spec.shape, self.dtype or spec.dtype, self.layout or "NCHW", size)
        if self.dtype == "uint8":
            raise BadRequest("format.dtype", "vectors are given as FLOAT32 or FLOAT16, not UINT8; leave the dtype out")
        if self.layout is not None:
            raise BadRequest(
                "format.layout", f"{self.layout} is for images, and this memory holds vectors; leave it out"
            )
        if self.size is not None:
            raise BadRequest(
                "format.height", "this memory holds vectors, which have no size; leave height and width out"
            )
        return Form(spec.shape, self.dtype or spec.dtype)


AS_HELD = Format()
