"""The client's end of memory that it shares with a server on its host."""

import gc
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from memory_api.v1 import memory_pb2 as pb
from memory_client import InternalError, Memory
from memory_client._shared import SIZE, SharedRing, is_local

RING_AT = 4096


def rings() -> int:
    """Descriptors of this process that are rings."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            count += str(path.readlink()).startswith("/memfd:samples")
        except FileNotFoundError:
            continue
    return count


@pytest.mark.parametrize(
    "target",
    [
        *("localhost:50051", "localhost", "127.0.0.1:1", "127.1.2.3:50051", "[::1]:50051", "LOCALHOST:1"),
        *("dns:localhost:1", "dns:///localhost:1", "ipv4:127.0.0.1:1", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1"),
        *("unix:/run/memory.sock", "unix:///run/memory.sock", "unix:memory.sock", "unix-abstract:memory"),
    ],
)
def test_a_target_on_this_host_is_known(target):
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    ["memory.example:50051", "10.0.0.1:50051", "localhost.example:1", "1127.0.0.1:1", "dns://8.8.8.8/x:1", "[::2]:1"],
)
def test_a_target_elsewhere_is_offered_nothing(target):
    assert not is_local(target)


def test_an_offer_names_sealed_memory_with_its_nonce():
    ring = SharedRing()
    offer = ring.offer
    assert (offer.pid, offer.size, len(offer.nonce)) == (os.getpid(), SIZE, 16)
    assert os.pread(offer.fd, 16, 0) == offer.nonce
    for size in (SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(offer.fd, size)
    ring.close()


def test_no_two_rings_have_one_nonce():
    one, other = SharedRing(), SharedRing()
    assert one.offer.nonce != other.offer.nonce
    one.close()
    other.close()


def test_what_is_taken_is_a_copy_and_is_told_to_be_consumed():
    ring = SharedRing(size=3 * RING_AT)
    fd = ring.offer.fd
    os.pwrite(fd, b"abcd", RING_AT + 10)
    position = 5 * 2 * RING_AT + 10  # the sixth time round
    assert ring.take(pb.SharedRows(position=position, length=4)) == b"abcd"
    assert int.from_bytes(os.pread(fd, 8, 64), "little") == position + 4
    assert np.frombuffer(os.pread(fd, RING_AT, 0), np.uint8)[72:].sum() == 0
    ring.close()


@pytest.mark.parametrize("rows", [(0, 2 * RING_AT + 1), (2 * RING_AT - 1, 2), (1, 2**63)])
def test_rows_that_would_lie_beyond_the_ring_are_an_error(rows):
    ring = SharedRing(size=3 * RING_AT)
    position, length = rows
    with pytest.raises(InternalError, match="beyond the ring"):
        ring.take(pb.SharedRows(position=position, length=length))
    ring.close()


def test_a_ring_leaves_nothing_behind_closed_or_dropped():
    before = rings()
    closed, dropped = SharedRing(), SharedRing()
    assert rings() > before
    closed.close()
    closed.close()
    del dropped
    gc.collect()
    assert rings() == before


def test_a_server_that_does_not_share_is_read_as_ever_and_nothing_is_kept_for_it(taught, service, rows_of):
    before = rings()
    with taught.stream(batch_size=64, seed=2) as stream:
        x, _ = next(stream)
        assert rings() == before
    np.testing.assert_array_equal(x, rows_of(range(64), (1, 2, 2), 3, 2)[0])
    assert service.requests[-1].HasField("shared_memory")


def test_small_samples_are_worth_no_shared_memory(taught, service):
    taught.sample(n=255)
    assert not service.requests[-1].HasField("shared_memory")
    taught.sample(n=256)
    assert service.requests[-1].HasField("shared_memory")


def test_a_memory_that_shall_not_share_offers_nothing(taught, server, service):
    with Memory(server.target, "digits", shared_memory=False) as memory:
        pickle.loads(pickle.dumps(memory)).sample(n=500)
    assert not service.requests[-1].HasField("shared_memory")


def test_a_stream_that_is_reopened_makes_another_offer(taught, service):
    service.faults.lost_after_chunks = [3, 2]
    taught.sample(n=1000, seed=1)
    offers = [request.shared_memory.nonce for request in service.requests if isinstance(request, pb.SampleRequest)]
    assert len(set(offers)) == 3


def test_rows_in_memory_that_was_not_accepted_are_an_error(taught, service, monkeypatch):
    chunk = pb.SampleChunk(row=0, y=bytes(4), shared=pb.SharedRows(position=0, length=4))
    monkeypatch.setattr(service, "_chunks", lambda *_: iter([chunk]))
    with pytest.raises(InternalError, match="did not accept"):
        taught.sample(n=300)
