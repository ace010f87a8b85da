"""Blobs hold what was put in."""

import torch

from dgm_core.blobs import digest, pack, sealed, unpack, unsealed


def test_what_is_unpacked_comes_in_the_order_of_its_names():
    tensors = {name: torch.full((2,), float(ord(name))) for name in "hgfedcba"}
    found, about = unpack(pack(tensors, {"kind": "none"}))
    assert list(found) == sorted(tensors) and about == {"kind": "none"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_sealed_blob_is_the_same_again_with_its_digest():
    blob = pack({"b": torch.ones(3).half(), "a": torch.zeros(2, 2)}, {"kind": "none"})
    assert sealed(blob) != blob
    assert unsealed(sealed(blob)) == (blob, digest(blob))
    assert unsealed(blob) == (blob, "")
