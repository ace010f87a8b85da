"""A server that computes on a CUDA device keeps the promises of one that does not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory

from dgm_core.experts import FrozenExpert
from dgm_core.manifest import DataSpec
from dgm_core.networks import architecture_of
from dgm_core.precision import ReducedExpert, has_bfloat16
from tests.dgm_core.bases import random_base

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
SEEDED = {"n": 300, "batch_size": 64, "seed": 4}
STANDING = {
    "dgmw": {"kind": "dgmw"},
    "dgma": {"kind": "dgma"},
    "gan_memory": {"kind": "gan_memory", "options": {"base": "tiny"}},
    "dual": {"kind": "dual"},
    "mergan": {"kind": "mergan"},
}


@pytest.fixture
def on_device(new_server):
    server = new_server(device=DEVICE)
    (server.data_dir / "bases").mkdir(parents=True)
    (server.data_dir / "bases" / "tiny.safetensors").write_bytes(random_base("tiny").file)
    return server.start()


@pytest.mark.parametrize("kind", STANDING)
def test_what_is_learned_is_sampled_with_the_same_bytes_after_a_restart(on_device, connect, kind):
    wire = connect(on_device)
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        wire.learn("digits", task, classes, **STANDING[kind])
    asked = [SEEDED, SEEDED | {"precision": pb.REDUCED}]
    before = [wire.sample("digits", **each).x for each in asked]
    assert len(set(before[0])) > 1, "the samples are empty pictures"
    assert before == [wire.sample("digits", **each).x for each in asked]
    on_device.restart()
    assert before == [connect(on_device).sample("digits", **each).x for each in asked]


def test_other_clients_and_learning_change_no_byte_of_a_seeded_stream(on_device, connect):
    wire = connect(on_device)
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3))):
        wire.learn("digits", task, classes)
    alone = wire.sample("digits", **SEEDED).x
    wire.submit("other", "t0", steps=200)
    with ThreadPoolExecutor(4) as others:
        busy = [others.submit(wire.sample, "digits", n=4000, batch_size=16) for _ in range(8)]
        assert all(wire.sample("digits", **SEEDED).x == alone for _ in range(5))
        assert all(len(each.result().y) == 4000 for each in busy)
    assert wire.final("other", "t0").state == pb.LEARNED


@pytest.mark.parametrize("network", ["dcgan", "residual", "gpgan"])
def test_both_devices_generate_the_same_images_but_for_rounding(network):
    torch.manual_seed(0)
    architecture = architecture_of(network, DataSpec((3, 32, 32), "uint8"), 16)
    plain = architecture.generator(architecture.initial_widths(4), 3).eval()
    z, c = torch.randn(64, 16), torch.arange(64) % 3
    expert = FrozenExpert(plain.folded(), (0, 1, 2), 16)
    expected, device = expert.generate(z, c), torch.device(DEVICE)
    reduced, full = (
        each.to(device).generate(z.to(device), c.to(device)).cpu() for each in (ReducedExpert(expert), expert)
    )
    assert (full - expected).abs().max() < 1e-3
    assert 0 < (reduced - full).abs().mean() < 0.02


def test_reduced_precision_is_one(on_device, connect):
    wire = connect(on_device)
    wire.learn("digits", "t0")
    with Memory(on_device.target, "digits") as memory:
        full, reduced = (memory.sample(n=500, seed=6, precision=each)[0] for each in ("full", "reduced"))
    apart = np.abs(full.astype(int) - reduced)
    assert apart.mean() < 3
    assert apart.any() == has_bfloat16(torch.device(DEVICE))
