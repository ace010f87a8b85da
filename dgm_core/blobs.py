"""Blobs: safetensors with one JSON header, named by the SHA-256 of their bytes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor


def pack(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Serialises tensors and a JSON-able description; the same content gives the same bytes."""
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    # One metadata key alone: the order of several is not defined.
    return safetensors.torch.save({name: t.contiguous() for name, t in tensors.items()}, {"about": text})


def unpack(blob: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `pack`, tensors by name. Raises ValueError for bytes that are no such blob."""
    try:
        header_size = int.from_bytes(blob[:8], "little")
        about = json.loads(json.loads(blob[8 : 8 + header_size])["__metadata__"]["about"])
        # What walks over them shall come to the same: the library has them in another order every time.
        return dict(sorted(safetensors.torch.load(blob).items())), about
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"this is no blob of a generative memory: {error}") from error


def digest(blob: bytes) -> str:
    """The name of a blob: SHA-256 of its bytes, in hexadecimal."""
    return hashlib.sha256(blob).hexdigest()
