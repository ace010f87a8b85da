"""Blobs: safetensors with one JSON header, named by the SHA-256 of their bytes.

A file that no store names by its digest can be sealed: then it records the digest of the blob that it holds.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

_SEAL = "sha256"
_NONE = "this is no blob of a generative memory"


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Serialises tensors and a JSON-able description; the same content gives the same bytes."""
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    # One metadata key alone: the order of several is not defined.
    return safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()}, {"about": text})


def unpack(blob: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `pack`, tensors by name. Raises ValueError for bytes that are no such blob."""
    about = _description(blob)
    try:
        # What walks over them shall come to the same: the library has them in another order every time.
        return dict(sorted(safetensors.torch.load(blob).items())), about
    except safetensors.SafetensorError as error:
        raise ValueError(f"{_NONE}: its tensors do not lie as it says") from error


def sealed(blob: bytes) -> bytes:
    """A file that holds a blob and, in its description, the digest of that."""
    tensors, about = unpack(blob)
    return pack(tensors, {**about, _SEAL: digest(blob)})


def unsealed(content: bytes) -> tuple[bytes, str]:
    """The blob that is found in a file, and the digest that is recorded there; "" if none is.

    Raises ValueError for bytes that hold no blob. Whoever calls compares.
    """
    tensors, about = unpack(content)
    recorded = about.pop(_SEAL, "")
    return pack(tensors, about), str(recorded)


def digest(blob: bytes) -> str:
    """The name of a blob: SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(blob).hexdigest()


def _description(blob: bytes) -> dict[str, Any]:
    start = 8 + int.from_bytes(blob[:8], "little")
    if len(blob) < max(8, start):
        raise ValueError(f"{_NONE}: by its first bytes it has {start} bytes or more, and there are {len(blob)}")
    try:
        header = json.loads(blob[8:start])
        about = json.loads(header.pop("__metadata__")["about"])
        size = start + max((each["data_offsets"][1] for each in header.values()), default=0)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{_NONE}: its description cannot be read") from error
    if size != len(blob):
        raise ValueError(f"{_NONE}: it says that it has {size} bytes, and there are {len(blob)}")
    if not isinstance(about, dict):
        raise ValueError(f"{_NONE}: its description is a {type(about).__name__}")
    return about
