"""Requests other than LearnTask and those of streams of samples."""

from collections.abc import Mapping

import torch
from memory_api.v1 import memory_pb2 as pb
from torch import Tensor

from dgm_core.manifest import Manifest
from dgm_core.memory import Bases
from memory_server.codec import upload, values
from memory_server.errors import BadRequest, MemoryExists

_CHOSEN_FOR_IT = ("seed", "base")
"""Options of a new memory that are chosen for it where they are not named."""


def new_memory(request: pb.CreateMemoryRequest, bases: Bases) -> tuple[str, Manifest]:
    """The name and the empty memory that CreateMemory asks for. Raises BadRequest."""
    name = values.name(request.name, "name")
    incoming = values.Incoming.decode(request.spec)
    if incoming.spec.is_image and incoming.sent != "uint8":
        raise BadRequest("spec.dtype", "a memory holds images as UINT8, whatever is sent later")
    values.check_length(request.kind, values.MAX_KIND, "kind")
    return name, upload.empty_memory(request.kind, values.options(request.options, "options"), incoming.spec, bases)


def check_identical(request: pb.CreateMemoryRequest, wanted: Manifest, present: Manifest) -> None:
    """Raises MemoryExists unless the memory that is there is what was asked for."""
    given = request.options
    options = {key: value for key, value in wanted.options.items() if key not in _CHOSEN_FOR_IT or key in given}
    same_options = options.items() <= present.options.items()
    if not same_options or (wanted.kind, wanted.spec) != (present.kind, present.spec):
        raise MemoryExists(
            f"memory {request.name!r} exists with another kind, options or data spec: "
            f"{_told(present, present.options)}, not {_told(wanted, options)}; choose another name"
        )


def _told(manifest: Manifest, options: Mapping[str, str]) -> str:
    return f"({manifest.kind}, {dict(options)}, {manifest.spec.shape})"


def classify_rows(request: pb.ClassifyRequest, manifest: Manifest) -> Tensor:
    """x of a Classify request, in the dtype of the memory. Raises BadRequest if it is not what the memory holds."""
    incoming = values.Incoming.decode(request.spec)
    if incoming.spec.shape != manifest.spec.shape:
        raise BadRequest(
            "spec.shape", f"the memory holds x of shape {manifest.spec.shape}, not {incoming.spec.shape}; resize them"
        )
    x = incoming.rows(request.x, "x")
    if len(x) == 0:
        raise BadRequest("x", "there are no rows to classify; send at least one")
    return torch.from_numpy(x.copy())
