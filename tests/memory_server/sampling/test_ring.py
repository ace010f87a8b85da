import fcntl
import mmap
import os
import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_server.sampling.ring import CONSUMED_AT, LARGEST, NONCE_BYTES, RING_AT, Offer, Placed, Ring, opened

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Client:
    """The other end, by the words of memory.proto."""

    def __init__(self, size: int = RING_AT * 3, seals: int = SEALS, flags: int = os.MFD_ALLOW_SEALING) -> None:
        self.fd = os.memfd_create("ring", flags | os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
        self.memory = mmap.mmap(self.fd, size)
        self.memory[:NONCE_BYTES] = nonce = secrets.token_bytes(NONCE_BYTES)
        self.offer = Offer(os.getpid(), self.fd, nonce, size)
        self.size = size - RING_AT

    def read(self, placed: Placed) -> bytes:
        at = RING_AT + placed.position % self.size
        assert at + placed.length <= len(self.memory), "a chunk lies in one piece"
        return self.memory[at : at + placed.length]

    def consume(self, position: int) -> None:
        self.memory[CONSUMED_AT : CONSUMED_AT + 8] = position.to_bytes(8, "little")

    def close(self) -> None:
        self.memory.close()
        os.close(self.fd)


@pytest.fixture
def client():
    client = Client()
    yield client
    client.close()


def array(length: int, value: int) -> np.ndarray:
    return np.full(length, value % 256, np.uint8)


def descriptors() -> list[str]:
    found = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(path.readlink()))
        except FileNotFoundError:
            continue
    return [each for each in found if "/memfd:ring" in each]


def test_rows_that_are_put_are_read_as_they_were(client):
    x = np.random.default_rng(0).normal(size=(9, 2, 4, 4)).astype(np.float32)
    with opened(client.offer) as ring:
        placed = ring.put((x[:4], x[4:]))
        assert placed == Placed(0, x.nbytes)
        assert client.read(placed) == x.tobytes()


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 9000)), max_size=60))
def test_the_ring_never_writes_over_what_was_not_consumed(steps):
    """Any interleaving of chunks that are put and chunks that are consumed."""
    client = Client()
    unread, number = [], 0
    with opened(client.offer) as ring:
        for puts, length in steps:
            if puts:
                number += 1
                placed = ring.put((array(length // 2, number), array(length - length // 2, number)))
                if placed is None:
                    assert unread or length > client.size // 2, "a half of an empty ring is always there"
                else:
                    unread.append((placed, array(length, number).tobytes()))
            elif unread:
                placed, expected = unread.pop(0)
                assert client.read(placed) == expected
                client.consume(placed.position + placed.length)
            for placed, expected in unread:
                assert client.read(placed) == expected
    client.close()


@given(lies=st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 30_000), st.integers(1, 9000)), max_size=20))
def test_a_client_that_lies_harms_nothing_but_its_own_ring(lies):
    client = Client()
    written, trusted = 0, True
    with opened(client.offer) as ring:
        for consumed, length in lies:
            client.consume(consumed)
            placed = ring.put((array(length, 1),))
            trusted = trusted and written - client.size <= consumed <= written
            assert placed is None or (trusted and len(client.read(placed)) == length)
            written = placed.position + placed.length if placed else written
        assert client.memory[:NONCE_BYTES] == client.offer.nonce
    client.close()


@pytest.mark.parametrize("lie", [5000, 2**64 - 1])
def test_a_ring_whose_counter_was_false_once_is_used_no_more(client, lie):
    with opened(client.offer) as ring:
        assert ring.put((array(4000, 1),))
        client.consume(lie)
        assert ring.put((array(10, 2),)) is None
        client.consume(4000)
        assert ring.put((array(10, 2),)) is None


def test_no_rows_need_no_ring(client):
    with opened(client.offer) as ring:
        assert ring.put(()) is None
        assert ring.put((np.empty((0, 3), np.float32),)) is None


def test_a_chunk_larger_than_the_ring_is_not_put(client):
    with opened(client.offer) as ring:
        assert ring.put((array(client.size + 1, 1),)) is None
        assert ring.put((array(client.size, 1),)) == Placed(0, client.size)


def test_no_offer_is_no_ring():
    with opened(None) as ring:
        assert ring is None


def test_a_ring_leaves_no_descriptor_behind(client):
    before = descriptors()
    with opened(client.offer) as ring:
        assert ring is not None
        assert len(descriptors()) == len(before) + 1
    assert descriptors() == before


REFUSED = {
    "another nonce": lambda offer: replace(offer, nonce=bytes(NONCE_BYTES)),
    "a short nonce": lambda offer: replace(offer, nonce=offer.nonce[:8]),
    "no nonce": lambda offer: replace(offer, nonce=b""),
    "another size": lambda offer: replace(offer, size=offer.size + RING_AT),
    "an odd size": lambda offer: replace(offer, size=offer.size - 1),
    "no ring": lambda offer: replace(offer, size=RING_AT),
    "no size": lambda offer: replace(offer, size=0),
    "too large a size": lambda offer: replace(offer, size=LARGEST + RING_AT),
    "a process that is none": lambda offer: replace(offer, pid=2**32 - 1),
    "process 0": lambda offer: replace(offer, pid=0),
    "a descriptor that is none": lambda offer: replace(offer, fd=2**32 - 1),
    "another descriptor": lambda offer: replace(offer, fd=0),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_offer_that_is_not_what_it_says_is_left_alone(case, client):
    before = descriptors()
    with opened(REFUSED[case](client.offer)) as ring:
        assert ring is None
    assert descriptors() == before


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, SEALS | fcntl.F_SEAL_WRITE])
def test_memory_that_could_be_cut_short_or_not_written_is_left_alone(seals):
    client = Client(seals=0)
    if seals & fcntl.F_SEAL_WRITE:
        client.memory.close()
    fcntl.fcntl(client.fd, fcntl.F_ADD_SEALS, seals)
    with opened(client.offer) as ring:
        assert ring is None
    client.close()


def test_memory_larger_than_the_bound_is_left_alone():
    client = Client(size=LARGEST + RING_AT)
    with opened(client.offer) as ring:
        assert ring is None
    client.close()


@pytest.mark.parametrize("make", ["file", "pipe", "device"])
def test_what_is_no_anonymous_memory_is_not_even_opened(make, client, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(client.offer.nonce + bytes(client.offer.size - NONCE_BYTES))
    os.mkfifo(tmp_path / "pipe")
    path = {"file": tmp_path / "file", "pipe": tmp_path / "pipe", "device": Path("/dev/zero")}[make]
    fd = os.open(path, os.O_RDWR)
    monkeypatch.setattr("memory_server.sampling.ring.os.open", lambda *_: pytest.fail("it was opened"))
    with opened(replace(client.offer, fd=fd)) as ring:
        assert ring is None
    os.close(fd)


def test_the_largest_memory_is_taken():
    client = Client(size=LARGEST)
    with opened(client.offer) as ring:
        assert isinstance(ring, Ring)
    client.close()
