"""Requests for streams of samples: Sample and Interpolate."""

from collections.abc import Sequence
from typing import Any

from memory_api.v1 import memory_pb2 as pb

from dgm_core.manifest import Label
from dgm_core.memory import BLEND_GROUPS, Blend
from memory_server.codec import formats, values
from memory_server.errors import BadRequest
from memory_server.sampling.queries import BlendQuery, SampleQuery
from memory_server.sampling.ring import Offer

DEFAULT_BATCH_SIZE = 128
MAX_BATCH_SIZE = 65_536
MAX_STRIDE = 65_536
MAX_WEIGHTS = 256
MAX_LAYERS, MAX_LAYER = 1000, 200
MAX_ROW = 1 << 62
"""Positions in a stream stay within what 64-bit arithmetic can count."""

_HERE = ("unix:", "ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127.", "ipv6:%5B::ffff:127.")
"""How gRPC writes peers that come from this host."""


def sample_query(request: pb.SampleRequest, max_n: int) -> SampleQuery:
    """A sampling request, checked on its own. Raises BadRequest."""
    n = request.n if request.HasField("n") else None
    if n is not None and not 1 <= n <= max_n:
        raise BadRequest(
            "n", f"n is {n}; ask for 1 to {max_n} rows (--max-samples-per-request); only a stream without n has no end"
        )
    if request.batch_size > MAX_BATCH_SIZE:
        raise BadRequest("batch_size", f"{request.batch_size} is not in 1 to {MAX_BATCH_SIZE}")
    if request.stride > MAX_STRIDE:
        raise BadRequest("stride", f"{request.stride} is not in 1 to {MAX_STRIDE}")
    batch_size = request.batch_size or min(DEFAULT_BATCH_SIZE, n or DEFAULT_BATCH_SIZE)
    return SampleQuery(
        **_stream(request, batch_size),
        classes=values.labels(request.classes, "classes"),
        tasks=values.names(request.tasks, "tasks"),
        n=n,
        batch_size=batch_size,
        stride=max(1, request.stride),
        reduced=_reduced(request.precision),
    )


def blend_query(request: pb.InterpolateRequest, max_rows: int) -> BlendQuery:
    """A request for what lies between two tasks, checked on its own. Raises BadRequest."""
    weights = _weights(request.weights)
    if not 1 <= request.n <= max_rows // len(weights):
        most = f"{max_rows} rows of all {len(weights)} weights together"
        raise BadRequest("n", f"n is {request.n}; ask for at least 1 row of each weight, and at most {most}")
    return BlendQuery(**_stream(request, request.n), blend=_blend(request), weights=weights, n=request.n)


def offer(request: pb.SampleRequest | pb.InterpolateRequest, peer: str) -> Offer | None:
    """The memory that a request offers to share; None if there is none, or its peer comes from elsewhere."""
    if not request.HasField("shared_memory") or not peer.startswith(_HERE):
        return None
    offered = request.shared_memory
    return Offer(offered.pid, offered.fd, offered.nonce, offered.size)


def _reduced(precision: pb.Precision) -> bool:
    if precision not in pb.Precision.values():
        raise BadRequest("precision", f"precision {precision} is none; ask for FULL or REDUCED, or leave it out")
    return precision == pb.REDUCED


def _blend(request: pb.InterpolateRequest) -> Blend:
    if request.HasField("start_class") and not request.start:
        raise BadRequest("start_class", "the base has no classes; leave it out, or name the task in start")
    values.check_number(len(request.groups), MAX_LAYERS, "groups")
    values.check_number(len(request.layers), MAX_LAYERS, "layers")
    for index, layer in enumerate(request.layers):
        values.check_length(layer, MAX_LAYER, f"layers[{index}]")
    for index, group in enumerate(request.groups):
        values.check_length(group, MAX_LAYER, f"groups[{index}]")
        if group not in BLEND_GROUPS:
            raise BadRequest(f"groups[{index}]", f"{group!r} is no group; the groups are {', '.join(BLEND_GROUPS)}")
    return Blend(
        start=values.name(request.start, "start") if request.start else "",
        end=values.name(request.end, "end"),
        weight=0.0,
        groups=tuple(sorted(set(request.groups))),  # in one order: the same selection is the same blend
        layers=tuple(sorted(set(request.layers))),
        classes=(_class(request, "start_class"), _class(request, "end_class")),
    )


def _weights(given: Sequence[float]) -> tuple[float, ...]:
    if not 1 <= len(given) <= MAX_WEIGHTS:
        raise BadRequest("weights", f"there are {len(given)} weights; name 1 to {MAX_WEIGHTS}")
    for index, weight in enumerate(given):
        if not 0 <= weight <= 1:
            raise BadRequest(f"weights[{index}]", f"{weight} is no weight; a weight is 0 (start) to 1 (end)")
    return tuple(given)


def _class(request: pb.InterpolateRequest, field: str) -> Label | None:
    return values.label(getattr(request, field), field) if request.HasField(field) else None


def _stream(request: pb.SampleRequest | pb.InterpolateRequest, batch_size: int) -> dict[str, Any]:
    """What both say of a stream."""
    if request.start_at > MAX_ROW // batch_size:
        raise BadRequest("start_at", f"batch {request.start_at} begins beyond row {MAX_ROW}")
    if request.revision > MAX_ROW:
        raise BadRequest("revision", f"{request.revision} is not a revision; leave it out for the newest")
    return {
        "memory": values.name(request.memory, "memory"),
        "seed": request.seed if request.HasField("seed") else None,
        "start_at": request.start_at,
        "revision": request.revision,
        "format": formats.sent(request.format),
    }
