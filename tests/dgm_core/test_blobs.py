"""Blobs hold what was put in."""

import torch

from dgm_core.blobs import pack, unpack


def test_what_is_unpacked_comes_in_the_order_of_its_names():
    tensors = {name: torch.full((2,), float(ord(name))) for name in "hgfedcba"}
    found, about = unpack(pack(tensors, {"kind": "none"}))
    assert list(found) == sorted(tensors) and about == {"kind": "none"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
