"""Requests other than LearnTask."""

import torch
from memory_api.v1 import memory_pb2 as pb
from torch import Tensor

from dgm_core.memory import Manifest
from memory_server.codec import upload, values
from memory_server.errors import BadRequest, MemoryExists
from memory_server.sampling.stream import SampleQuery

DEFAULT_BATCH_SIZE = 128
MAX_BATCH_SIZE = 65_536
MAX_ROW = 1 << 62
"""Positions in a stream stay within what 64-bit arithmetic can count."""


def new_memory(request: pb.CreateMemoryRequest) -> tuple[str, Manifest]:
    """The name and the empty memory that CreateMemory asks for. Raises BadRequest."""
    name = values.name(request.name, "name")
    incoming = values.Incoming.decode(request.spec)
    if incoming.spec.is_image and incoming.sent != "uint8":
        raise BadRequest("spec.dtype", "a memory holds images as UINT8, whatever is sent later")
    return name, upload.empty_memory(request.kind, dict(request.options), incoming)


def check_identical(request: pb.CreateMemoryRequest, wanted: Manifest, present: Manifest) -> None:
    """Raises MemoryExists unless the memory that is there is what was asked for."""
    options = {key: value for key, value in wanted.options.items() if key != "seed" or key in request.options}
    same_options = options.items() <= present.options.items()
    if not same_options or (wanted.kind, wanted.spec) != (present.kind, present.spec):
        raise MemoryExists(
            f"memory {request.name!r} exists with another kind, options or data spec ({present.kind}, "
            f"{dict(present.options)}, {present.spec.shape}); choose another name"
        )


def sample_query(request: pb.SampleRequest, max_n: int) -> SampleQuery:
    """A sampling request, checked on its own. Raises BadRequest."""
    n = request.n if request.HasField("n") else None
    if n is not None and not 1 <= n <= max_n:
        raise BadRequest("n", f"n is {n}; ask for 1 to {max_n} rows, or leave n out for an endless stream")
    if request.batch_size > MAX_BATCH_SIZE:
        raise BadRequest("batch_size", f"{request.batch_size} is not in 1 to {MAX_BATCH_SIZE}")
    batch_size = request.batch_size or min(DEFAULT_BATCH_SIZE, n or DEFAULT_BATCH_SIZE)
    if request.start_at > MAX_ROW // batch_size:
        raise BadRequest("start_at", f"batch {request.start_at} begins beyond row {MAX_ROW}")
    if request.revision > MAX_ROW:
        raise BadRequest("revision", f"{request.revision} is not a revision; leave it out for the newest")
    return SampleQuery(
        memory=values.name(request.memory, "memory"),
        classes=values.labels(request.classes, "classes"),
        tasks=tuple(values.name(task, f"tasks[{index}]") for index, task in enumerate(request.tasks)),
        n=n,
        batch_size=batch_size,
        seed=request.seed if request.HasField("seed") else None,
        start_at=request.start_at,
        revision=request.revision,
        dtype=None if request.dtype == pb.DTYPE_UNSPECIFIED else values.dtype(request.dtype, "dtype"),
    )


def classify_rows(request: pb.ClassifyRequest, manifest: Manifest) -> Tensor:
    """x of a Classify request, in the dtype of the memory. Raises BadRequest if it is not what the memory holds."""
    incoming = values.Incoming.decode(request.spec)
    if incoming.spec.shape != manifest.spec.shape:
        raise BadRequest("spec.shape", f"the memory holds x of shape {manifest.spec.shape}, not {incoming.spec.shape}")
    x = incoming.rows(request.x, "x")
    if len(x) == 0:
        raise BadRequest("x", "there are no rows to classify; send at least one")
    return torch.from_numpy(x.copy())
