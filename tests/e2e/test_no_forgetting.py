"""Invariant I1: no forgetting, to the bit."""

import pytest

from tests.dgm_core.bases import random_base

KINDS = {
    "dgmw": {"kind": "dgmw"},
    "dgma": {"kind": "dgma"},
    "gan_memory": {"kind": "gan_memory", "options": {"base": "tiny"}},
    "gan_memory, compressed": {"kind": "gan_memory", "options": {"base": "tiny", "styles": "lowrank"}},
    "gan_memory, compressed and shared": {"kind": "gan_memory", "options": {"base": "tiny", "styles": "shared"}},
}
QUICK = ("dgmw",)
"""Each of the others takes as long again; what they promise is in the contract of kinds as well, without a server."""


@pytest.fixture
def server(new_server):
    server = new_server()
    (server.data_dir / "bases").mkdir(parents=True)
    (server.data_dir / "bases" / "tiny.safetensors").write_bytes(random_base("tiny").file)
    return server.start()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS]
)
def test_seeded_samples_of_the_first_task_stay_the_same_bytes_over_tasks_and_restarts(server, connect, kind):
    request = {"classes": (0, 1), "n": 100, "batch_size": 32, "seed": 2026}
    seen = []
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3)), ("t2", (4, 5))):
        wire = connect(server)
        wire.learn("digits", task, classes, **KINDS[kind])
        seen.append(wire.sample("digits", **request).x)
        before = wire.everything()
        server.restart()
        assert connect(server).everything() == before
        seen.append(connect(server).sample("digits", **request).x)
    assert len(seen[0]) == 100 * 64
    assert len(set(seen[0])) > 1, "the samples are empty pictures"
    assert all(later == seen[0] for later in seen)
