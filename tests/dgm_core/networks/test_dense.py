import torch

from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory, new_manifest
from dgm_core.memory import TaskData, Terms
from dgm_core.networks.dense import Dense

SPEC = DataSpec((1, 9, 8), "uint8")


def test_there_are_two_layers_of_the_memory_and_one_of_the_task():
    topology = Dense(SPEC, 5).topology((16, 12))
    assert [(c.name, c.shape) for c in topology.connections] == [
        ("body.0.weight", (16, 21)),
        ("body.1.weight", (12, 16)),
        ("head.weight", (72, 12)),
    ]
    assert topology.connections[-1].writes is None


def test_a_fresh_generator_neither_fades_nor_saturates():
    torch.manual_seed(0)
    network = Dense(SPEC, 64).generator((64, 64), 2)
    x = network(torch.randn(256, 64), torch.arange(256) % 2)
    assert 0.3 < x.std() < 0.95


def test_a_masked_memory_learns_through_it_and_keeps_the_bytes_of_its_old_task():
    source = torch.Generator().manual_seed(0)
    blobs, said = {}, []
    manifest = new_manifest("dgmw", {"network": "dense", "width": "1"}, SPEC, 0)
    z, c = torch.randn(8, 64, generator=source), torch.zeros(8, dtype=torch.long)
    for index in range(2):
        x = torch.randint(0, 256, (40, *SPEC.shape), dtype=torch.uint8, generator=source)
        data = TaskData(x, torch.zeros(40, dtype=torch.long), (index,))
        learned = load_memory(manifest, blobs).learn(
            data, task=f"t{index}", terms=Terms(steps=20), report=lambda _: None, device=torch.device("cpu")
        )
        manifest, blobs = manifest.commit(learned), blobs | dict(learned.blobs)
        said.append(load_memory(manifest, blobs).expert(manifest.tasks[0].experts[0].digest).generate(z, c))
    assert torch.equal(*said)
