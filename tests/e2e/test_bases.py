"""A memory on a frozen base needs nobody's library once it is made, and refuses every base that is not its own."""

import pickle

import grpc
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import Memory

from dgm_core.manifest import DataSpec
from tests.dgm_core.bases import random_base

INVALID, PRECONDITION = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
MINE, OTHER = random_base("mine"), random_base("other", seed=1)
COLOUR = random_base("colour", DataSpec((3, 8, 8), "uint8"))
LARGE = random_base("large", DataSpec((1, 32, 32), "uint8"))
SPEC = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)


def on(base):
    return {"kind": "gan_memory", "options": {"base": base} if base else {}}


def furnish(server):
    """Puts bases where an operator would."""
    folder = server.data_dir / "bases"
    folder.mkdir(parents=True, exist_ok=True)
    for base in (MINE, OTHER, COLOUR, LARGE):
        (folder / f"{base.name}.safetensors").write_bytes(base.file)
    (folder / "changed.safetensors").write_bytes(MINE.file.replace(b"none", b"some"))
    (folder / "cut.safetensors").write_bytes(MINE.file[:-50])
    (folder / "trap.safetensors").write_bytes(pickle.dumps(print))
    return folder


@pytest.fixture
def furnished(server):
    return furnish(server)


def memory(wire, name):
    return wire.stub.GetMemory(pb.GetMemoryRequest(name=name), timeout=30)


def blob(server, digest):
    return server.data_dir / "blobs" / digest[:2] / digest


def create(wire, name, base="", spec=SPEC):
    return wire.stub.CreateMemory(pb.CreateMemoryRequest(name=name, spec=spec, **on(base)), timeout=30)


@pytest.mark.slow
def test_a_memory_outlives_the_file_that_it_was_made_from(new_server, connect):
    server = new_server()
    folder = furnish(server)
    wire = connect(server.start())
    wire.learn("m", "t0", **on("mine"))
    assert memory(wire, "m").options["base"] == MINE.digest
    first = wire.sample("m", seed=3, n=40).x

    (folder / "mine.safetensors").unlink()
    (folder / "other.safetensors").write_bytes(random_base("mine", seed=2).file)  # another one bears its name now
    wire = connect(server.restart())
    assert wire.sample("m", seed=3, n=40).x == first
    wire.learn("m", "t1", (2, 3), **on("mine"))
    wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="m", task="t0"), timeout=60)
    wire.learn("m", "t2", (4, 5), options={})
    assert {*wire.sample("m", n=40).y} == {2, 3, 4, 5}
    assert blob(server, MINE.digest).read_bytes() == MINE.blob


@pytest.mark.slow
def test_a_memory_takes_its_base_along_to_a_server_that_has_none_of_that_name(new_server, connect, tmp_path):
    """Shared styles at that, which stand on each other."""
    here, there = new_server("here"), new_server("there")
    furnish(here)
    shared = {"kind": "gan_memory", "options": {"base": "mine", "styles": "shared"}}
    wire = connect(here.start())
    for task, classes in (("t0", (0, 1)), ("t1", (2, 3)), ("t2", (4, 5))):
        wire.learn("m", task, classes, **shared)
    first = wire.sample("m", (0, 1, 2, 3), seed=3, n=40).x
    with Memory(here.target, "m") as travelling:
        travelling.export(tmp_path / "m.memory", progress=False)

    wire = connect(there.start())
    Memory.import_file(there.target, tmp_path / "m.memory", "m").close()
    assert wire.sample("m", (0, 1, 2, 3), seed=3, n=40).x == first
    assert blob(there, MINE.digest).read_bytes() == MINE.blob

    def forget(task):
        return wire.stub.ForgetTask(pb.ForgetTaskRequest(memory="m", task=task), timeout=60)

    refusal = wire.refusal(lambda: forget("t0"))
    assert refusal.reason == "TASK_IN_USE" and "t1" in refusal.message and "t2" in refusal.message
    forget("t2")
    wire.learn("m", "t3", (6, 7), **shared)
    wire = connect(there.restart())
    assert wire.sample("m", (0, 1, 2, 3), seed=3, n=40).x == first
    assert {*wire.sample("m", n=40).y} == {0, 1, 2, 3, 6, 7}


def test_the_base_counts_in_the_bytes_of_an_empty_memory(wire, name, furnished):
    assert create(wire, name, "mine").bytes == len(MINE.blob)
    wire.learn(name, "t0", options={})
    assert memory(wire, name).bytes > len(MINE.blob)


def test_a_base_goes_with_the_last_memory_that_stands_on_it(server, wire, name, furnished):
    base = random_base("own", seed=9)
    (furnished / "own.safetensors").write_bytes(base.file)
    for each in ("a", "b"):
        create(wire, name + each, "own")
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=f"{name}a"), timeout=30)
    assert blob(server, base.digest).read_bytes() == base.blob
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=f"{name}b"), timeout=30)
    assert not blob(server, base.digest).exists()


def test_the_base_of_a_memory_may_be_named_in_every_way_and_no_other_may(wire, name, furnished):
    created = create(wire, name, "mine")
    for index, base in enumerate(("mine", MINE.digest, MINE.digest[:8], "")):
        assert create(wire, name, base) == created
        assert wire.submit(name, f"t{index}", steps=1, **on(base)).state == pb.QUEUED

    refusal = wire.refusal(lambda: wire.submit(name, "late", **on("other")))
    assert (refusal.code, refusal.reason) == (PRECONDITION, "MEMORY_MISMATCH")
    assert MINE.digest in refusal.message and f"other ({OTHER.digest})" in refusal.message
    refusal = wire.refusal(lambda: create(wire, name, "other"))
    assert refusal.reason == "MEMORY_EXISTS" and MINE.digest in refusal.message and OTHER.digest in refusal.message
    wire.stub.DeleteMemory(pb.DeleteMemoryRequest(name=name), timeout=60)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("nobody", ["'nobody'", "mine (1, 8, 8)"]),
        ("../mine", ["'../mine'", "mine (1, 8, 8)"]),
        ("0" * 64, ["0" * 64, "mine (1, 8, 8)"]),
        ("colour", [COLOUR.digest[:12], "(3, 8, 8)", "(1, 8, 8)"]),
        ("large", [LARGE.digest[:12], "(1, 32, 32)", "(1, 8, 8)"]),
        ("cut", ["cut.safetensors", "no base"]),
        ("changed", ["changed.safetensors", MINE.digest, "the file was changed"]),
        ("trap", ["trap.safetensors", "a pickle, which may hold code"]),
    ],
)
def test_a_base_that_will_not_do_is_refused_with_both_sides_and_makes_no_memory(wire, name, furnished, base, says):
    before = wire.everything()
    refusals = [
        wire.refusal(lambda: wire.submit(name, "t0", **on(base))),
        wire.refusal(lambda: create(wire, name, base)),
    ]

    assert [refusal.field for refusal in refusals] == ["header.options.base", "options.base"]
    for refusal in refusals:
        assert (refusal.code, refusal.reason) == (INVALID, "BAD_REQUEST")
        assert all(part in refusal.message for part in says), refusal.message
    assert wire.everything() == before


def test_vectors_are_refused_with_the_kinds_that_take_them(wire, name, furnished):
    vectors = pb.DataSpec(shape=(5,), dtype=pb.FLOAT32)
    for base in ("mine", ""):
        refusal = wire.refusal(lambda base=base: create(wire, name, base, vectors))
        assert (refusal.code, refusal.field) == (INVALID, "kind")
        assert "gan_memory takes images (C, H, W), not vectors of shape (5,)" in refusal.message
        assert "dgma, dgmw, dgr, dual, mergan" in refusal.message


def test_images_that_the_shipped_base_does_not_fit_are_refused_with_those_that_do(wire, name, furnished):
    refusal = wire.refusal(lambda: create(wire, name))
    assert (refusal.code, refusal.field) == (INVALID, "options.base")
    assert (
        "cifar100-grey" in refusal.message
        and "or name one that fits: mine (1, 8, 8), other (1, 8, 8)" in refusal.message
    )


def test_a_base_that_was_tampered_with_in_the_store_is_refused(new_server, connect):
    server = new_server()
    furnish(server)
    wire = connect(server.start())
    create(wire, "m", "mine")
    path = blob(server, MINE.digest)
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)

    wire.submit("m", "t0", options={})
    final = wire.final("m", "t0")
    assert final.state == pb.FAILED
    assert MINE.digest in final.error and "damaged" in final.error
    refusal = wire.refusal(lambda: wire.submit("m", "t1", **on("mine")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "CORRUPT_BLOB")
