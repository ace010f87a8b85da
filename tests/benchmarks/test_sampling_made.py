import pytest
import torch
from harness.made import masked, styled
from sampling.bench import GENERATORS, SPEC

from dgm_core.manifest import DataSpec
from dgm_core.memories import load_memory
from memory_server.store.datadir import DataDir

TINY = DataSpec((1, 8, 8), "uint8")


@pytest.mark.parametrize(
    "make", [lambda: styled(TINY, 4, 3), lambda: masked("dgmw", SPEC, 3, 1)], ids=["styled", "dgmw"]
)
def test_a_server_finds_the_experts_that_the_manifest_names(make, tmp_path):
    make().store(tmp_path, "bench")
    with DataDir(tmp_path) as store:
        memory = load_memory(store.catalog.manifest("bench"), store.blobs)
        experts = [memory.expert(entry.digest) for _, entry in memory.manifest.experts()]  # compares the digests
    assert memory.manifest.complete, "else a server that starts on it trains a solver"
    assert memory.manifest.classes == (0, 1, 2) and len({expert.digest for expert in experts}) == 3


@pytest.mark.parametrize(("generator", "width"), GENERATORS.items())
def test_a_generator_has_the_widths_of_its_name_and_loses_none_in_compiling(generator, width):
    memory = styled(SPEC, width, 1).loaded()
    assert "-".join(map(str, memory.foundation.base.design.widths)) == generator
    assert memory.materialised(0, (0,)).network.body[-1].windows.out_channels == 4 * width


def test_tasks_of_a_made_memory_differ_and_their_images_are_no_flat_grey():
    memory = styled(TINY, 4, 2).loaded()
    z, c = torch.randn(64, memory.noise), torch.zeros(64, dtype=torch.int64)
    first, second = (memory.materialised(index, (index,)).generate(z, c) for index in range(2))
    assert first.std() > 0.01 and (first - second).abs().mean() > 0.001
