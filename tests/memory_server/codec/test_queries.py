import pytest
from memory_api.v1 import memory_pb2 as pb

from memory_server.codec.queries import offer
from memory_server.sampling.ring import Offer

OFFERED = pb.SharedMemory(pid=7, fd=8, nonce=b"n" * 16, size=8192)


@pytest.mark.parametrize("request_of", [pb.SampleRequest, pb.InterpolateRequest])
@pytest.mark.parametrize(
    "peer",
    ["unix:", "unix:/run/socket", "ipv4:127.8.8.8:1", "ipv6:[::1]:1", "ipv6:%5B::1%5D:1"],
)
def test_an_offer_from_this_host_is_heard(peer, request_of):
    assert offer(request_of(shared_memory=OFFERED), peer) == Offer(7, 8, b"n" * 16, 8192)


@pytest.mark.parametrize("peer", ["ipv4:10.0.0.1:127", "ipv4:12.7.0.1:1", "ipv6:[fe80::1]:1", "ipv6:[::12]:1", ""])
def test_nobody_elsewhere_has_the_server_open_anything(peer):
    assert offer(pb.SampleRequest(shared_memory=OFFERED), peer) is None


def test_no_offer_is_none():
    assert offer(pb.SampleRequest(), "unix:") is None
