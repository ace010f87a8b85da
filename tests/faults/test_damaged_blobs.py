"""A blob that is damaged on the disk is never served: its memory says so, and the others go on."""

import grpc
from memory_api.v1 import memory_pb2 as pb

SEEDED = {"n": 64, "seed": 2026}
DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one bit flipped": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


def test_a_damaged_blob_is_never_served_and_hurts_no_other_memory(server, wire, taught, name):
    before, intact = set(server.data_dir.glob("blobs/??/*")), wire.sample(taught, **SEEDED).x
    wire.learn(name, "t0")
    own = {path: path.read_bytes() for path in set(server.data_dir.glob("blobs/??/*")) - before}
    for damage in DAMAGES.values():
        for path, content in own.items():
            path.write_bytes(damage(content))
        refusal = wire.refusal(lambda: wire.sample(name, **SEEDED))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_BLOB")
        assert wire.sample(taught, **SEEDED).x == intact
    for path, content in own.items():
        path.write_bytes(content)
    assert len(wire.sample(name, **SEEDED).x) == 64 * 64
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=30)
