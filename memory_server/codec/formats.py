"""In which format samples are asked for."""

from memory_api.v1 import memory_pb2 as pb

from memory_server.errors import BadRequest
from memory_server.sampling.formats import DTypeName, Format, Layout

MIN_SIDE, MAX_SIDE = 8, 1024  # the least is that of images that are learned; torch 2.13 resizes to a width of 1 wrongly

_DTYPES: dict[int, DTypeName | None] = {
    pb.DTYPE_UNSPECIFIED: None,
    pb.UINT8: "uint8",
    pb.FLOAT16: "float16",
    pb.FLOAT32: "float32",
}
_CODES: dict[Layout | None, pb.Layout] = {None: pb.LAYOUT_UNSPECIFIED, "NCHW": pb.NCHW, "NHWC": pb.NHWC}
_LAYOUTS: dict[int, Layout | None] = {code: layout for layout, code in _CODES.items()}


def sent(message: pb.Format) -> Format:
    """The format that a request asks for, checked on its own. Raises BadRequest."""
    if message.dtype not in _DTYPES:
        raise BadRequest("format.dtype", f"dtype {message.dtype} is none; ask for UINT8, FLOAT16 or FLOAT32")
    if message.layout not in _LAYOUTS:
        raise BadRequest("format.layout", f"layout {message.layout} is none; ask for NCHW or NHWC")
    return Format(_DTYPES[message.dtype], _LAYOUTS[message.layout], _size(message))


def layout_code(layout: Layout | None) -> pb.Layout:
    """A layout on the wire; None, which vectors have, is left out."""
    return _CODES[layout]


def _size(message: pb.Format) -> tuple[int, int] | None:
    size = (message.height, message.width)
    if size == (0, 0):
        return None
    for field, side in zip(("height", "width"), size, strict=True):
        if not MIN_SIDE <= side <= MAX_SIDE:
            rule = f"name both height and width, each from {MIN_SIDE} to {MAX_SIDE}, or neither"
            raise BadRequest(f"format.{field}", f"{field} is {side}; {rule}")
    return size
